"""Consolidation: every plan obeys every rule, every node that stays has its reason, and nothing churns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters.analysis.facts import GIB, DisruptionBudget, Lifecycle, PodTerm, Resources, Selector, Spread, Taint
from clusters.analysis.packing import NodeOffer, offers_for, verify
from policies.engine.consolidation import consolidate
from policies.engine.memory import CHAIN_RESTS_AFTER, Chain, Memory
from policies.engine.replay import replay
from policies.engine.settings import Consolidation
from policies.enums import Level, Method
from tests.clusters.analysis.fleets import PRICES, TYPES, ZONES, make_fleet
from tests.policies.engine.make import (
    AGGRESSIVE,
    BALANCED,
    CONSERVATIVE,
    NOW,
    ONLY_EMPTY,
    a_pod,
    facts_of,
    gone,
    make_node,
    plan_of,
    reason,
    spot_node,
)

pytestmark = pytest.mark.unit


# Properties --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 14),
    st.integers(0, 10_000),
    st.booleans(),
    st.floats(0.1, 0.85),
    st.sampled_from([*Level]),
    st.sampled_from([*Method]),
    st.sampled_from((None, 2.0)),
)
def test_no_plan_breaks_a_rule(nodes, seed, rules, fill, level, method, threshold):
    facts = make_fleet(nodes, seed, rules=rules, fill=fill)
    offers = offers_for(facts.nodes, TYPES, PRICES)
    chosen = Consolidation(level, method, threshold=threshold)
    plan = consolidate(facts, chosen, NOW, offers=offers)
    assert verify(facts, plan.packing, offers) == []
    done = replay(facts, plan.actions)
    assert done.unschedulable == []
    assert done.overdrawn == []
    assert done.elsewhere == 0
    assert plan.savings_hourly == plan.packing.cost_now - plan.packing.cost_after
    pods = {pod.key: pod for pod in facts.pods}
    moved = [move.pod for action in plan.actions for move in action.moves]
    assert len(moved) == len(set(moved))
    for action in plan.actions:
        assert action.savings_hourly > 0
        if level is not Level.AGGRESSIVE or method is Method.DELETE_EMPTY:
            assert action.new is None
        if method is Method.DELETE_EMPTY:
            assert action.empty
        for move in action.moves:
            pod = pods[move.pod]
            assert (pod.do_not_disrupt, pod.local_volume, pod.daemonset, bool(pod.owner)) == (False, False, False, True)
            assert move.source in action.nodes
            assert move.target not in gone(plan)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([*Level]))
def test_every_node_leaves_or_has_a_reason_in_words(nodes, seed, level):
    facts = make_fleet(nodes, seed, fill=0.3)
    plan = plan_of(facts, Consolidation(level))
    assert gone(plan) | set(plan.refusals) == {node.name for node in facts.nodes}
    assert not gone(plan) & set(plan.refusals)
    assert all(refusal.words for refusal in plan.refusals.values())
    assert gone(plan) <= plan.eligible


def test_the_same_cluster_gives_the_same_plan():
    facts = make_fleet(20, 5)
    assert plan_of(facts) == plan_of(facts)


# Levels ------------------------------------------------------------------------------------------------------------


def half_used(share: float, **fields: object):
    """One node used to that share, and one with room for it."""
    cpu = int(7910 * share)
    return facts_of(
        [make_node("a"), make_node("b")], [a_pod("web-0", "a", cpu, **fields), a_pod("db-0", "b", 7100 - cpu)]
    )


@pytest.mark.parametrize(
    ("chosen", "share", "leaves"),
    [
        (CONSERVATIVE, 0.19, True),
        (CONSERVATIVE, 0.21, False),
        (BALANCED, 0.44, True),
        (replace(BALANCED, threshold=0.4), 0.44, False),
        (AGGRESSIVE, 0.6, True),
    ],
)
def test_a_node_is_considered_below_the_threshold_of_the_level(chosen, share, leaves):
    facts = facts_of([make_node("a"), make_node("b", do_not_disrupt=True)], [a_pod("web-0", "a", int(7910 * share))])
    plan = plan_of(facts, chosen, catalogue=False)
    assert gone(plan) == ({"a"} if leaves else set())
    if not leaves:
        assert reason(plan, "a") == "busy"


def test_only_aggressive_buys_cheaper_nodes():
    facts = facts_of([make_node("a", "m6i.4xlarge")], [a_pod("web-0", "a", 1500)])
    assert not plan_of(facts, BALANCED).actions
    (action,) = plan_of(facts, AGGRESSIVE).actions
    assert action.new.instance_type == "c6i.large"
    assert action.moves[0].target == action.new_name
    assert action.types[0] == "c6i.large"
    assert not plan_of(facts, replace(AGGRESSIVE, buys=False)).actions


def test_delete_empty_waits_until_a_node_is_empty():
    nodes = [make_node("a"), make_node("b"), make_node("c")]
    daemon = a_pod("cni-a", "a", 100, daemonset=True, owner="DaemonSet")
    plan = plan_of(facts_of(nodes, [daemon, a_pod("web-0", "b", 100)]), ONLY_EMPTY)
    assert gone(plan) == {"a", "c"}
    assert reason(plan, "b") == "not_empty"


def test_three_nodes_become_two():
    nodes = [make_node(name) for name in "abc"]
    pods = [a_pod(f"web-{i}", name, 1700) for i, name in enumerate("aabbcc")]
    assert len(gone(plan_of(facts_of(nodes, pods), BALANCED, catalogue=False))) == 1


def test_a_balanced_move_must_pay():
    """Many pods for a small share of the cost: not worth it, unless the setting says that any saving is."""
    nodes = [make_node("small", "m6i.large"), make_node("big", "m6i.8xlarge"), make_node("other", "m6i.8xlarge")]
    pods = [a_pod(f"tiny{i}-0", "small", 40, 0.1) for i in range(20)]
    pods += [a_pod(f"full{i}-0", host, 4000) for host in ("big", "other") for i in range(7)]
    pods = [replace(pod, name=f"{pod.name}-{pod.node}") for pod in pods]
    plan = plan_of(facts_of(nodes, pods), BALANCED)
    assert reason(plan, "small") == "does_not_pay"
    assert "score" in plan.refusals["small"].words
    assert gone(plan_of(facts_of(nodes, pods), AGGRESSIVE, catalogue=False)) == {"small"}


def test_a_replacement_must_earn_back_what_both_nodes_cost_side_by_side():
    node = make_node("a", "m6i.2xlarge")
    nearly = NodeOffer("m6a.2xlarge", node.allocatable, node.hourly_price - Decimal("0.0001"), labels=dict(node.labels))
    plan = plan_of(facts_of([node], [a_pod("web-0", "a", 5000)]), offers=(nearly,))
    assert not plan.actions
    assert reason(plan, "a") in {"does_not_pay", "not_cheaper"}


# What holds a node -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [{"do_not_disrupt": True}, {"local_volume": True}, {"owner": ""}, {"node_selector": Selector.of(gone="x")}],
)
def test_a_pod_that_must_not_move_holds_its_node(fields):
    plan = plan_of(facts_of([make_node("a"), make_node("b")], [a_pod("web-0", "a", 100, **fields)]))
    assert gone(plan) == {"b"}
    assert reason(plan, "a") == "pod_stays"
    assert "default/web-0" in plan.refusals["a"].words


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"do_not_disrupt": True}, "do_not_disrupt"),
        ({"hourly_price": None}, "unpriced"),
        ({"lifecycle": Lifecycle.RESERVED}, "paid_anyway"),
        ({"unschedulable": True}, "cordoned"),
    ],
)
def test_some_nodes_stay_whatever_is_on_them(fields, why):
    plan = plan_of(facts_of([make_node("a", **fields), make_node("b")], []))
    assert reason(plan, "a") == why
    assert gone(plan) == {"b"}


def test_a_budget_of_pods_that_never_allows_holds_the_node():
    budget = DisruptionBudget("web", "default", Selector.of(app="web"), max_unavailable="0")
    facts = facts_of([make_node("a"), make_node("b")], [a_pod("web-0", "a"), a_pod("db-0", "b")], budgets=(budget,))
    plan = plan_of(facts)
    assert "a" not in gone(plan)
    assert "budget" in plan.refusals["a"].words


def test_an_exempt_pod_holds_its_node_and_says_why():
    facts = facts_of([make_node("a"), make_node("b")], [a_pod("dns-0", "a", 100), a_pod("web-0", "b", 100)])
    plan = plan_of(facts, exempt={"default/dns-0": "system namespace kube-system"})
    assert gone(plan) == {"b"}
    assert plan.refusals["a"].detail == "default/dns-0: system namespace kube-system"


def test_a_hold_wins_over_everything():
    plan = plan_of(facts_of([make_node("a"), make_node("b")], []), hold="maintenance until 18:00")
    assert not plan.actions
    assert plan.refusals["a"].words == "automation is on hold (maintenance until 18:00)"


@pytest.mark.parametrize(
    "fields",
    [
        {"zones": frozenset({ZONES[0]})},
        {"node_selector": Selector.of(**{"topology.kubernetes.io/zone": ZONES[0]})},
        {"pod_anti_affinity": (PodTerm(Selector.of(app="db")),)},
        {"topology_spread": (Spread(Selector.of(app="web"), "topology.kubernetes.io/zone"),)},
        {"host_ports": (80,)},
    ],
)
def test_pods_go_only_where_they_may_be(fields):
    """The only other node is in another zone, or has what the pod must be apart from."""
    nodes = [make_node("a", zone=ZONES[0]), make_node("b", zone=ZONES[1], do_not_disrupt=True)]
    other = a_pod("db-0", "b", 1000, host_ports=(80,) if "host_ports" in fields else ())
    plan = plan_of(facts_of(nodes, [a_pod("web-0", "a", 1000, **fields), other]), catalogue=False)
    assert reason(plan, "a") == "no_room"
    free = plan_of(facts_of(nodes, [a_pod("web-0", "a", 1000), other]), catalogue=False)
    assert gone(free) == {"a"}


def test_taints_and_the_limit_of_pods_are_honoured():
    target = make_node("b", do_not_disrupt=True)
    pods = [a_pod("web-0", "a", 100), a_pod("db-0", "b", 100)]
    for changed in (replace(target, taints=(Taint("gpu"),)), replace(target, max_pods=1)):
        plan = plan_of(facts_of([make_node("a"), changed], pods), catalogue=False)
        assert reason(plan, "a") == "no_room"
        assert "default/web-0 needs" in plan.refusals["a"].words


def test_a_new_node_carries_the_daemonsets():
    """Without them the smallest type would do."""
    daemon = a_pod("logs-a", "a", 600, daemonset=True, owner="DaemonSet", workload="default/DaemonSet/logs")
    (action,) = plan_of(facts_of([make_node("a", "m6i.4xlarge")], [daemon, a_pod("web-0", "a", 1500)])).actions
    assert action.new.instance_type == "c6i.xlarge"


def test_on_demand_pods_are_not_planned_onto_spot():
    node = make_node("a", "m6i.4xlarge")
    spot = NodeOffer(
        "m6i.xlarge", Resources(3920, 14 * GIB), Decimal("0.01"), lifecycle=Lifecycle.SPOT, labels=dict(node.labels)
    )
    assert not plan_of(facts_of([node], [a_pod("web-0", "a", 1500)]), offers=(spot,)).actions


# Churn -------------------------------------------------------------------------------------------------------------


def cheaper_spot(count: int) -> tuple[NodeOffer, ...]:
    return tuple(
        NodeOffer(
            f"kind{i}.large", Resources(2000, 8 * GIB), Decimal("0.05") + Decimal(i) / 1000, lifecycle=Lifecycle.SPOT
        )
        for i in range(count)
    )


@pytest.mark.parametrize(("count", "leaves"), [(14, False), (15, True), (40, True)])
def test_spot_for_spot_needs_fifteen_cheaper_types(count, leaves):
    facts = facts_of([spot_node("a", "big.2xlarge", "0.2")], [a_pod("web-0", "a", 1500)])
    plan = plan_of(facts, offers=cheaper_spot(count))
    assert bool(plan.actions) is leaves
    if leaves:
        assert len(plan.actions[0].types) == 15
        assert plan.actions[0].types[0] == "kind0.large"
    else:
        assert reason(plan, "a") == "few_cheaper_types"
        assert "14 of 15" in plan.refusals["a"].words


def test_it_does_not_buy_the_type_that_it_takes_away():
    nodes = [make_node("a", "m6i.large"), make_node("b", "m6i.large")]
    cheaper = replace(offers_for(nodes)[0], hourly_price=Decimal("0.01"))
    plan = plan_of(facts_of(nodes, [a_pod("web-0", "a", 1200), a_pod("db-0", "b", 1200)]), offers=(cheaper,))
    assert not plan.actions


def test_after_four_replacements_a_chain_rests():
    facts = facts_of([make_node("a", "m6i.4xlarge")], [a_pod("web-0", "a", 1500)])
    tired = Memory(chains={"a": Chain(4, NOW - timedelta(days=1))})
    plan = plan_of(facts, memory=tired)
    assert not plan.actions
    assert reason(plan, "a") == "chain"
    assert plan_of(facts, memory=Memory(chains={"a": Chain(3, NOW)})).actions
    assert plan_of(facts, memory=Memory(chains={"a": Chain(4, NOW - CHAIN_RESTS_AFTER)})).actions


def test_a_chain_follows_the_pods():
    memory = Memory().done(["a"], [], "b", NOW).done(["b"], [], "c", NOW)
    assert memory.steps("c", NOW) == 2
    memory = memory.done(["c"], ["old"], None, NOW)
    assert memory.steps("old", NOW) == 2
    assert memory.done(["old"], [], "d", NOW).steps("d", NOW) == 3
    assert memory.steps("old", NOW + CHAIN_RESTS_AFTER) == 0


def test_once_quiet_it_stays_quiet():
    facts = make_fleet(24, 3, fill=0.4)
    offers = offers_for(facts.nodes, TYPES, PRICES)
    memory, counts = Memory(), []
    for turn in range(8):
        plan = consolidate(facts, AGGRESSIVE, NOW, offers=offers, memory=memory, prefix=f"t{turn}")
        for action in plan.actions:
            memory = memory.done(action.nodes, action.receivers, action.new_name or None, NOW)
        facts = replay(facts, plan.actions).facts
        counts.append(len(plan.actions))
    assert counts[0] > 0
    assert counts[-1] == 0
    assert all(chain.steps <= 4 for chain in memory.chains.values())


def test_a_plan_disrupts_no_more_than_it_may():
    facts = make_fleet(30, 4, rules=False, fill=0.4)
    total = len(facts.nodes) + sum(not pod.daemonset for pod in facts.pods)
    plan = plan_of(facts, replace(AGGRESSIVE, most_disruption=0.1))
    assert 0 < sum(action.trouble for action in plan.actions) <= 0.1 * total
