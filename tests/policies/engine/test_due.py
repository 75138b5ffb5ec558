"""From a plan to what may begin: the stabilization window, budgets, and a second look."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from clusters.analysis.facts import DisruptionBudget, Selector
from clusters.analysis.packing import offers_for
from policies.document import Budget, Exemptions
from policies.document import Consolidation as Card
from policies.engine.budgets import NodeBudget
from policies.engine.due import confirm, select_due
from policies.engine.from_policy import consolidation_settings, exempt_pods
from policies.engine.memory import Memory
from policies.enums import Level, Method, Reason
from tests.policies.engine.make import AGGRESSIVE, BALANCED, NOW, a_pod, facts_of, gone, make_node, plan_of

pytestmark = pytest.mark.unit
LATER = NOW + timedelta(minutes=10)


def fleet(count: int = 20):
    """Half the nodes hardly used, half with room."""
    nodes = [make_node(f"n{i:02}") for i in range(count)]
    pods = [a_pod(f"app{i}-0", f"n{i:02}", 300 if i < count // 2 else 5000) for i in range(count)]
    return facts_of(nodes, pods)


def settled(plan) -> Memory:
    return Memory().seen(plan.eligible, NOW)


def test_a_node_must_have_been_eligible_for_the_whole_window():
    facts = fleet()
    plan = plan_of(facts, BALANCED)
    first = select_due(plan, facts, BALANCED, NOW, Memory())
    assert not first.actions
    name = next(iter(gone(plan)))
    assert first.refusals[name].words == "it has not been underused for long enough (0 of 10 minutes)"
    nearly = select_due(plan, facts, BALANCED, LATER - timedelta(seconds=30), first.memory)
    assert nearly.refusals[name].detail == "9.5 of 10 minutes"
    assert select_due(plan, facts, BALANCED, LATER, first.memory).actions


def test_a_node_that_was_busy_in_between_starts_anew():
    facts = fleet()
    plan = plan_of(facts, BALANCED)
    memory = settled(plan).seen([], NOW + timedelta(minutes=5)).seen(plan.eligible, NOW + timedelta(minutes=6))
    assert not select_due(plan, facts, BALANCED, LATER, memory).actions
    assert select_due(plan, facts, BALANCED, LATER + timedelta(minutes=6), memory).actions


def test_no_more_nodes_than_the_budget_allows_at_once():
    facts = fleet()
    plan = plan_of(facts, BALANCED)
    assert len(gone(plan)) > 4
    due = select_due(plan, facts, BALANCED, LATER, settled(plan))
    assert sum(len(action.nodes) for action in due.actions) == 2  # 10 % of 20
    held = gone(plan) - {name for action in due.actions for name in action.nodes}
    assert {str(due.refusals[name].reason) for name in held} == {"budget"}
    assert not select_due(plan, facts, BALANCED, LATER, settled(plan), leaving=2).actions
    assert not select_due(plan, facts, BALANCED, LATER, settled(plan), leaving=1, not_ready=1).actions


def test_an_unreadable_budget_and_a_hold_stop_everything():
    facts = fleet()
    plan = plan_of(facts, BALANCED)
    broken = replace(BALANCED, budgets=(NodeBudget("50%"), NodeBudget("10%", "every night", timedelta(hours=1))))
    due = select_due(plan, facts, broken, LATER, settled(plan))
    assert not due.actions
    assert "cannot be read" in due.refusals[next(iter(gone(plan)))].words
    assert not select_due(plan, facts, BALANCED, LATER, settled(plan), hold="maintenance").actions


def first_action(facts, settings):
    plan = plan_of(facts, settings)
    return plan.actions[0], settled(plan)


def test_nothing_begins_before_the_second_look():
    facts = fleet()
    action, memory = first_action(facts, BALANCED)
    assert str(confirm(action, LATER, facts, BALANCED, LATER + timedelta(seconds=14), memory).reason) == "too_early"
    assert confirm(action, LATER, facts, BALANCED, LATER + timedelta(seconds=15), memory) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda f, n: replace(f, pods=(*f.pods, a_pod("late-0", n))), "changed"),
        (lambda f, n: replace(f, nodes=tuple(x for x in f.nodes if x.name != n)), "changed"),
        (
            lambda f, n: replace(f, nodes=tuple(replace(x, do_not_disrupt=x.name == n) for x in f.nodes)),
            "do_not_disrupt",
        ),
        (lambda f, n: replace(f, nodes=tuple(replace(x, unschedulable=x.name == n) for x in f.nodes)), "cordoned"),
        (lambda f, n: replace(f, pods=tuple(replace(p, do_not_disrupt=p.node == n) for p in f.pods)), "pod_stays"),
        (lambda f, n: replace(f, nodes=tuple(replace(x, unschedulable=x.name != n) for x in f.nodes)), "no_room"),
        (
            lambda f, n: replace(
                f,
                budgets=tuple(
                    DisruptionBudget(p.name, p.namespace, Selector.of(app=p.labels["app"]), max_unavailable="0")
                    for p in f.pods
                ),
            ),
            "pod_stays",
        ),
    ],
)
def test_a_change_in_between_stops_the_action(change, why):
    """The bugs of others: do-not-disrupt set a moment before, a pod that came to the node, a budget that closed."""
    facts = fleet()
    action, memory = first_action(facts, BALANCED)
    refusal = confirm(action, LATER, change(facts, action.nodes[0]), BALANCED, LATER + timedelta(seconds=15), memory)
    assert str(refusal.reason) == why
    assert refusal.subject == action.nodes[0]


def test_a_replacement_is_stopped_when_its_price_is_gone():
    facts = facts_of([make_node("a", "m6i.4xlarge")], [a_pod("web-0", "a", 1500)])
    settings = replace(AGGRESSIVE, budgets=(NodeBudget("1"),))
    action, memory = first_action(facts, settings)
    assert action.new is not None
    later = LATER + timedelta(seconds=15)
    assert confirm(action, LATER, facts, settings, later, memory, offers=(action.new,)) is None
    gone_up = replace(action.new, hourly_price=action.new.hourly_price * 2)
    assert str(confirm(action, LATER, facts, settings, later, memory, offers=(gone_up,)).reason) == "changed"
    assert (
        str(confirm(action, LATER, facts, settings, later, memory, offers=offers_for(facts.nodes)).reason) == "changed"
    )


def test_settings_come_from_the_policys_document():
    card = Card(
        level=Level.AGGRESSIVE,
        method=Method.REPLACE_AND_MOVE,
        stabilization_minutes=25,
        budgets=(Budget("5"), Budget("0", "0 9 * * mon-fri", 480, (Reason.UNDERUTILIZED,))),
    )
    found = consolidation_settings(card, "Europe/Paris")
    assert (found.below, found.zone, found.stabilization) == (0.8, "Europe/Paris", timedelta(minutes=25))
    assert found.budgets[1] == NodeBudget("0", "0 9 * * mon-fri", timedelta(hours=8), frozenset({Reason.UNDERUTILIZED}))
    assert found.replaces
    assert not consolidation_settings(replace(card, max_new_nodes=0), "UTC").replaces


def test_exempt_pods_come_with_their_reason():
    pods = [
        a_pod("coredns-0", "a", namespace="kube-system"),
        a_pod("web-0", "a", namespace="shop", labels={"tier": "gold"}),
        a_pod("job-0", "a"),
    ]
    found = exempt_pods(Exemptions(labels=(("tier", "gold"),)), pods)
    assert found == {"kube-system/coredns-0": "system namespace kube-system", "shop/web-0": "label tier=gold is exempt"}
