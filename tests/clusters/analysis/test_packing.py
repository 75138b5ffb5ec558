"""Re-packing: every plan obeys every rule, small ones are the best there is, and the verifier cannot be fooled."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clusters.analysis.facts import (
    GIB,
    HOSTNAME,
    MIB,
    ZONE,
    ClusterFacts,
    DisruptionBudget,
    Lifecycle,
    Node,
    Pod,
    PodTerm,
    Resources,
    Selector,
    Spread,
    Taint,
    Toleration,
)
from clusters.analysis.packing import NodeOffer, PlannedNode, StuckReason, offers_for, plan_packing, verify
from clusters.analysis.packing.duals import maximize
from tests.clusters.analysis.fleets import BATCH, PRICES, TYPES, ZONES, make_fleet, make_node

pytestmark = pytest.mark.unit
EFFORT = 60_000


def a_pod(name: str, node: str | None, cpu: int = 1000, memory_gib: float = 1, **fields: object) -> Pod:
    app = name.rsplit("-", 1)[0]
    pod = Pod(
        name,
        workload=f"default/Deployment/{app}",
        node=node,
        requests=Resources(cpu, int(memory_gib * GIB)),
        labels={"app": app},
        owner_replicas=2,
    )
    return replace(pod, **fields)


def plan_of(nodes: list[Node], pods: list[Pod], offers: list[NodeOffer] | None = None, **facts: object):
    """Plan, insist that the verifier agrees, and answer the facts and the plan."""
    cluster = ClusterFacts(tuple(nodes), tuple(pods), **facts)
    plan = plan_packing(cluster, offers, effort=EFFORT)
    assert verify(cluster, plan, offers if offers is not None else offers_for(nodes)) == []
    return cluster, plan


def node_of(plan, pod: str) -> str:
    return next(planned.node.name for planned in plan.nodes if f"default/{pod}" in planned.pods)


# Properties --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 14), st.integers(0, 10_000), st.booleans(), st.floats(0.2, 0.85), st.booleans())
def test_every_plan_obeys_every_rule_and_never_costs_more(nodes, seed, rules, fill, catalogue):
    facts = make_fleet(nodes, seed, rules=rules, fill=fill)
    offers = offers_for(facts.nodes, TYPES, PRICES) if catalogue else None
    plan = plan_packing(facts, offers, effort=EFFORT)
    assert verify(facts, plan, offers if catalogue else offers_for(facts.nodes)) == []
    assert plan.cost_after <= plan.cost_now
    assert plan.savings_monthly == (plan.cost_now - plan.cost_after) * 730


def test_the_same_facts_give_the_same_plan():
    facts = make_fleet(12, 5)
    offers = offers_for(facts.nodes, TYPES, PRICES)
    assert plan_packing(facts, offers, effort=EFFORT) == plan_packing(facts, offers, effort=EFFORT)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from((500, 1000, 1500, 2500)), st.sampled_from((1, 2, 5))), min_size=1, max_size=6)
)
@example([(500, 2), (1000, 5), (1000, 5), (1500, 2)])  # two pairs beat the one that fills a node exactly
@example([(500, 1), (1000, 1), (1000, 1)])  # one larger node beats two small ones
def test_small_clusters_get_the_best_plan_there_is(sizes):
    """Against every assignment of up to six pods to up to six nodes of three types."""
    kinds = [(2000, 4, Decimal("0.10")), (4000, 8, Decimal("0.19")), (2000, 8, Decimal("0.13"))]
    offers = [
        NodeOffer(f"kind-{index}", Resources(cpu, memory * GIB), price, labels={"kind": str(index)})
        for index, (cpu, memory, price) in enumerate(kinds)
    ]
    nodes = [
        Node(f"n{i}", Resources(8000, 16 * GIB), hourly_price=Decimal(1), lifecycle=Lifecycle.ON_DEMAND)
        for i in range(len(sizes))
    ]
    pods = [a_pod(f"app{i}-0", f"n{i}", cpu, memory) for i, (cpu, memory) in enumerate(sizes)]
    facts = ClusterFacts(tuple(nodes), tuple(pods))
    plan = plan_packing(facts, offers, effort=400_000)
    assert verify(facts, plan, offers) == []
    assert plan.cost_after == _cheapest(sizes, kinds)


def _cheapest(sizes, kinds) -> Decimal:
    """Brute force: every way to part the pods into groups, each group on its cheapest node."""

    def group_cost(group):
        cpu, memory = sum(sizes[i][0] for i in group), sum(sizes[i][1] for i in group)
        fitting = [price for c, m, price in kinds if cpu <= c and memory <= m]
        return min(fitting) if fitting else (Decimal(1) if cpu <= 8000 and memory <= 16 else None)

    best = None
    for assignment in product(range(len(sizes)), repeat=len(sizes)):
        if any(label > max(assignment[:i], default=-1) + 1 for i, label in enumerate(assignment)):
            continue
        groups = [[i for i, label in enumerate(assignment) if label == g] for g in set(assignment)]
        costs = [group_cost(group) for group in groups]
        if None not in costs and (best is None or sum(costs) < best):
            best = sum(costs)
    return best


# What must not move ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"do_not_disrupt": True}, StuckReason.DO_NOT_DISRUPT),
        ({"local_volume": True}, StuckReason.LOCAL_VOLUME),
        ({"owner": ""}, StuckReason.NO_CONTROLLER),
        ({"node_selector": Selector.of(gone="yes")}, StuckReason.RULES_BROKEN),
        ({"pod_affinity": (PodTerm(Selector.of(app="nobody")),)}, StuckReason.RULES_BROKEN),
    ],
)
def test_a_pod_that_must_not_move_keeps_its_node(fields, reason):
    nodes = [make_node("a"), make_node("b"), make_node("c")]
    pods = [a_pod("web-0", "a", **fields), a_pod("job-0", "b"), a_pod("api-0", "c")]
    _, plan = plan_of(nodes, pods)
    assert [(stuck.pod, stuck.node, stuck.reason) for stuck in plan.stuck] == [("default/web-0", "a", reason)]
    assert node_of(plan, "web-0") == "a"
    assert plan.removed == ("b", "c")
    assert plan.moves == 2


def test_node_level_reasons():
    nodes = [
        make_node("kept", do_not_disrupt=True),
        make_node("unpriced", hourly_price=None),
        make_node("full"),
        make_node("reserved", lifecycle=Lifecycle.RESERVED),
        make_node("free"),
    ]
    pods = [
        a_pod("a-0", "kept"),
        a_pod("b-0", "unpriced"),
        a_pod("c-0", "full", cpu=9000),
        a_pod("d-0", "reserved"),
        a_pod("e-0", "free"),
    ]
    _, plan = plan_of(nodes, pods)
    assert {stuck.pod: stuck.reason for stuck in plan.stuck} == {
        "default/a-0": StuckReason.NODE_DO_NOT_DISRUPT,
        "default/b-0": StuckReason.UNPRICED,
        "default/c-0": StuckReason.NODE_OVERFULL,
    }
    assert plan.unpriced == ("unpriced",)
    assert plan.removed == ("free",)
    assert plan.cost_now == Decimal("0.384") * 4
    assert plan.cost_after == Decimal("0.384") * 3


@pytest.mark.parametrize(
    ("budgets", "stuck"),
    [
        ([DisruptionBudget("pdb", "default", Selector.of(app="web"), disruptions_allowed=0)], "budget"),
        ([DisruptionBudget("pdb", "default", Selector.of(app="web"), min_available="2")], "budget"),
        ([DisruptionBudget("pdb", "default", Selector.of(app="web"), max_unavailable="0%")], "budget"),
        ([DisruptionBudget("pdb", "default", Selector.of(app="web"), min_available="50%")], None),
        ([DisruptionBudget("pdb", "default", Selector.of(app="web"), max_unavailable="1")], None),
        ([DisruptionBudget("pdb", "other", Selector.of(app="web"), disruptions_allowed=0)], None),
        (
            [
                DisruptionBudget("one", "default", Selector.of(app="web"), disruptions_allowed=1),
                DisruptionBudget("two", "default", Selector(), disruptions_allowed=1),
            ],
            "two_budgets",
        ),
    ],
)
def test_disruption_budgets(budgets, stuck):
    nodes = [make_node("a"), make_node("b")]
    pods = [a_pod("web-0", "a"), a_pod("web-1", "b")]
    _, plan = plan_of(nodes, pods, budgets=tuple(budgets))
    assert [str(pod.reason) for pod in plan.stuck] == ([stuck] * 2 if stuck else [])
    assert len(plan.nodes) == (2 if stuck else 1)


# Rules of placement ------------------------------------------------------------------------------------------------


def test_pods_that_want_to_be_apart_stay_apart():
    nodes = [make_node(name) for name in "abc"]
    apart = (PodTerm(Selector.of(app="web")),)
    pods = [a_pod(f"web-{i}", name, pod_anti_affinity=apart) for i, name in enumerate("abc")]
    small = [offer for offer in offers_for(nodes, TYPES, PRICES) if offer.instance_type == "c6i.large"]
    _, plan = plan_of(nodes, pods, small)
    assert len({node_of(plan, f"web-{i}") for i in range(3)}) == 3
    assert plan.cost_after == Decimal("0.085") * 3


def test_the_other_side_of_anti_affinity_counts_too():
    """A pod without a rule must not join one whose rule is against it."""
    nodes = [make_node("a"), make_node("b")]
    pods = [a_pod("loner-0", "a", pod_anti_affinity=(PodTerm(Selector()),)), a_pod("web-0", "b")]
    _, plan = plan_of(nodes, pods)
    assert node_of(plan, "loner-0") != node_of(plan, "web-0")


def test_pods_that_must_share_a_node_move_together():
    nodes = [make_node(name, "c6i.4xlarge") for name in "ab"]
    pods = [
        a_pod("web-0", "a", pod_affinity=(PodTerm(Selector.of(app="cache")),)),
        a_pod("cache-0", "a"),
        a_pod("other-0", "b"),
    ]
    offers = [offer for offer in offers_for(nodes, TYPES, PRICES) if offer.instance_type == "c6i.xlarge"]
    _, plan = plan_of(nodes, pods, offers)
    assert node_of(plan, "web-0") == node_of(plan, "cache-0")
    assert plan.cost_after == Decimal("0.17")


def test_what_must_share_a_node_with_a_stuck_pod_is_stuck():
    nodes = [make_node("a"), make_node("b")]
    pods = [
        a_pod("web-0", "a", pod_affinity=(PodTerm(Selector.of(app="cache")),)),
        a_pod("cache-0", "a", local_volume=True),
        a_pod("other-0", "b"),
    ]
    _, plan = plan_of(nodes, pods)
    assert {pod.pod: pod.reason for pod in plan.stuck} == {
        "default/cache-0": StuckReason.LOCAL_VOLUME,
        "default/web-0": StuckReason.TOGETHER,
    }


def test_zone_spread_and_volumes_keep_their_zone():
    nodes = [make_node(f"n{i}", zone=ZONES[i % 3]) for i in range(6)]
    spread = (Spread(Selector.of(app="web"), ZONE, 1),)
    pods = [a_pod(f"web-{i}", f"n{i}", topology_spread=spread) for i in range(6)]
    pods.append(a_pod("db-0", "n4", zones=frozenset({ZONES[1]})))
    _, plan = plan_of(nodes, pods)
    zones = {planned.node.zone: planned.pods for planned in plan.nodes}
    assert len(plan.nodes) == 3
    assert {zone: sum("web" in key for key in keys) for zone, keys in zones.items()} == dict.fromkeys(ZONES, 2)
    assert "default/db-0" in zones[ZONES[1]]


def test_a_hard_spread_over_hosts_limits_each_node_and_a_soft_one_does_not():
    nodes = [make_node(name) for name in "abcd"]
    for hard, left in ((True, 2), (False, 1)):
        spread = (Spread(Selector.of(app="web"), HOSTNAME, 2, hard=hard),)
        pods = [a_pod(f"web-{i}", name, topology_spread=spread) for i, name in enumerate("abcd")]
        _, plan = plan_of(nodes, pods)
        assert len(plan.nodes) == left


def test_a_new_node_does_not_open_a_zone_that_a_spread_would_find_empty():
    nodes = [make_node("a", zone=ZONES[0]), make_node("b", zone=ZONES[0])]
    pods = [a_pod(f"web-{i}", name, topology_spread=(Spread(Selector.of(app="web")),)) for i, name in enumerate("ab")]
    far = replace(
        offers_for(nodes)[0],
        zone=ZONES[1],
        hourly_price=Decimal("0.01"),
        labels={**offers_for(nodes)[0].labels, ZONE: ZONES[1]},
    )
    _, plan = plan_of(nodes, pods, [far, *offers_for(nodes)])
    assert {planned.node.zone for planned in plan.nodes} == {ZONES[0]}


def test_taints_selectors_and_architecture():
    nodes = [make_node("a"), make_node("b", pool="batch")]
    tolerant = {"tolerations": (Toleration("dedicated", "Exists"),), "node_selector": Selector.of(pool="batch")}
    pods = [a_pod("web-0", "a"), a_pod("job-0", "b", **tolerant)]
    _, plan = plan_of(nodes, pods, list(offers_for(nodes, TYPES, PRICES)))
    assert BATCH in next(p.node for p in plan.nodes if "default/job-0" in p.pods).taints
    assert not next(p.node for p in plan.nodes if "default/web-0" in p.pods).taints


def test_on_demand_pods_do_not_become_spot_but_spot_pods_may_move_to_on_demand():
    nodes = [make_node("a"), make_node("s", lifecycle=Lifecycle.SPOT)]
    _, plan = plan_of(nodes, [a_pod("web-0", "a"), a_pod("job-0", "s")])
    assert plan.removed == ("s",)
    nodes = [make_node("a", "c6i.large"), make_node("s", "c6i.large", lifecycle=Lifecycle.SPOT)]
    _, plan = plan_of(nodes, [a_pod("web-0", "a", 1500), a_pod("job-0", "s", 1500)])
    assert plan.removed == ()


def test_daemonsets_cost_room_on_every_new_node():
    nodes = [make_node("a", "m6i.4xlarge")]
    daemon = replace(a_pod("agent-a", "a", 1500, 1), daemonset=True, tolerations=(Toleration(operator="Exists"),))
    tight = NodeOffer("tight", Resources(2000, 8 * GIB), Decimal("0.05"))
    roomy = NodeOffer("roomy", Resources(2600, 8 * GIB), Decimal("0.06"))
    _, plan = plan_of(nodes, [daemon, a_pod("web-0", "a", 1000)], [tight, roomy])
    assert [planned.node.instance_type for planned in plan.nodes] == ["roomy"]
    assert plan.nodes[0].overhead == daemon.requests


def test_a_daemonset_that_avoids_a_node_takes_no_room_there():
    nodes = [make_node("a", "m6i.4xlarge")]
    daemon = replace(a_pod("agent-a", "a", 1500, 1), daemonset=True, node_selector=Selector.of(pool="general"))
    tight = NodeOffer("tight", Resources(2000, 8 * GIB), Decimal("0.05"), labels={"pool": "other"})
    _, plan = plan_of(nodes, [daemon, a_pod("web-0", "a", 1000)], [tight])
    assert [planned.node.instance_type for planned in plan.nodes] == ["tight"]


def test_the_pod_limit_binds():
    nodes = [make_node(f"n{i}") for i in range(4)]
    pods = [a_pod(f"tiny{i}-0", f"n{i % 4}", 10, 0.01) for i in range(40)]
    few = NodeOffer("few", Resources(4000, 16 * GIB), Decimal("0.1"), max_pods=20)
    _, plan = plan_of(nodes, pods, [few])
    assert [len(planned.pods) for planned in plan.nodes] == [20, 20]


def test_host_ports_keep_pods_apart():
    nodes = [make_node("a"), make_node("b")]
    pods = [a_pod("edge-0", "a", host_ports=(443,)), a_pod("proxy-0", "b", host_ports=(443, 80))]
    _, plan = plan_of(nodes, pods)
    assert node_of(plan, "edge-0") != node_of(plan, "proxy-0")


def test_gpus_stay_on_gpu_nodes():
    gpu = replace(make_node("g", "m6i.4xlarge"), allocatable=Resources(15000, 57 * GIB, 2), hourly_price=Decimal(4))
    nodes = [gpu, replace(gpu, name="h", labels={**gpu.labels, HOSTNAME: "h"}), make_node("a")]
    pods = [replace(a_pod(f"train{n}-0", n), requests=Resources(1000, GIB, 1)) for n in "gh"] + [a_pod("web-0", "a")]
    _, plan = plan_of(nodes, pods, list(offers_for(nodes, TYPES, PRICES)))
    assert node_of(plan, "traing-0") == node_of(plan, "trainh-0")
    assert plan.cost_after == Decimal(4)


def test_pending_pods_and_cordoned_nodes():
    nodes = [make_node("a"), make_node("b", unschedulable=True, taints=(Taint("node.kubernetes.io/unschedulable"),))]
    _, plan = plan_of(nodes, [a_pod("web-0", "a"), a_pod("job-0", "b"), a_pod("late-0", None)])
    assert plan.pending == ("default/late-0",)
    assert plan.removed == ("b",)


@pytest.mark.parametrize("facts", [ClusterFacts(), ClusterFacts((make_node("a"),))])
def test_nothing_to_pack(facts):
    plan = plan_packing(facts)
    assert verify(facts, plan) == []
    assert plan.cost_after == 0
    assert plan.nodes == ()


# Offers ------------------------------------------------------------------------------------------------------------


def test_offers_keep_to_pools_zones_and_known_prices():
    nodes = [make_node("a"), make_node("b", pool="batch", zone=ZONES[1])]
    offers = offers_for(nodes, TYPES, PRICES[:2])
    assert {(o.instance_type, o.pool, o.zone) for o in offers} == {
        ("m6i.2xlarge", "general", ZONES[0]),
        ("m6i.2xlarge", "batch", ZONES[1]),
        *(
            (price.instance_type, pool, zone)
            for price in PRICES[:2]
            for pool, zone in (("general", ZONES[0]), ("batch", ZONES[1]))
        ),
    }
    assert all((BATCH in offer.taints) == (offer.pool == "batch") for offer in offers)
    assert all(HOSTNAME not in offer.labels for offer in offers)


def test_a_type_of_another_architecture_is_not_offered():
    arm = replace(TYPES[0], architecture="arm64")
    assert all(o.instance_type != arm.name for o in offers_for([make_node("a")], [arm], PRICES))


# The verifier ------------------------------------------------------------------------------------------------------


def moved(plan, key: str, to: str):
    """The plan with one pod put somewhere else."""
    nodes = []
    for planned in plan.nodes:
        pods = set(planned.pods) - {key}
        if planned.node.name == to:
            pods |= {key}
        nodes.append(replace(planned, pods=tuple(sorted(pods))))
    return replace(plan, nodes=tuple(nodes))


def test_the_verifier_sees_every_kind_of_violation():
    apart = (PodTerm(Selector.of(app="web")),)
    nodes = [make_node("a"), make_node("b"), make_node("c", pool="batch"), make_node("d", zone=ZONES[1])]
    pods = [
        a_pod("web-0", "a", pod_anti_affinity=apart),
        a_pod("web-1", "b", pod_anti_affinity=apart),
        a_pod("held-0", "a", do_not_disrupt=True),
        a_pod("big-0", "b", cpu=7800),
        a_pod("pair-0", "a", pod_affinity=(PodTerm(Selector.of(app="held")),)),
        a_pod("volume-0", "d", zones=frozenset({ZONES[1]})),
        a_pod("even-0", "a", topology_spread=(Spread(Selector.of(app="even")),)),
        a_pod("even-1", "d", topology_spread=(Spread(Selector.of(app="even")),)),
    ]
    facts = ClusterFacts(tuple(nodes), tuple(pods))
    everything = tuple(PlannedNode(n, False, tuple(sorted(p.key for p in pods if p.node == n.name))) for n in nodes)
    plan = replace(
        plan_packing(facts, effort=EFFORT), nodes=everything, removed=(), cost_after=Decimal("0.384") * 4, moves=0
    )
    assert "holds more" in " ".join(verify(facts, moved(plan, "default/pair-0", "b")))
    for key, to, words in (
        ("default/web-1", "a", "apart"),
        ("default/held-0", "d", "must not be moved"),
        ("default/web-0", "c", "tolerate"),
        ("default/pair-0", "d", "wants to be with"),
        ("default/volume-0", "a", "no volume"),
        ("default/even-1", "a", "spread badly"),
    ):
        assert words in " ".join(verify(facts, replace(moved(plan, key, to), moves=1))), key
    lost = replace(plan, nodes=plan.nodes[1:])
    assert {"default/web-0 has no place", "the removed nodes are not those that are missing"} <= set(
        verify(facts, lost)
    )
    assert "costs" in " ".join(verify(facts, replace(plan, cost_after=Decimal(1))))
    invented = replace(plan, nodes=(*plan.nodes, PlannedNode(make_node("x", "c6i.large"), True, ())))
    assert "x is not on offer" in verify(facts, invented, offers_for(nodes))


def test_the_small_simplex_agrees_with_known_answers():
    assert maximize([3, 5], [[1, 0], [0, 2], [3, 2]], [4, 12, 18]) == pytest.approx([2, 6])
    assert maximize([1, 1], [[1, 0]], [2]) == pytest.approx([2, 0])


def test_memory_of_a_plan_is_counted_in_whole_bytes():
    """Requests that fill a node to the last byte fit; one byte more does not."""
    nodes = [make_node("a", "c6i.large"), make_node("b", "c6i.large")]
    room = nodes[0].allocatable
    half = Resources(room.cpu_milli // 2, room.memory_bytes // 2)
    exact = [replace(a_pod(f"x{i}-0", n), requests=half) for i, n in enumerate("ab")]
    _, plan = plan_of(nodes, exact)
    assert len(plan.nodes) == 1
    more = [replace(a_pod(f"x{i}-0", n), requests=half + Resources(0, 1 + i * MIB)) for i, n in enumerate("ab")]
    _, plan = plan_of(nodes, more)
    assert len(plan.nodes) == 2
