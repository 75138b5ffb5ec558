"""The model of the scheduler: the filters one by one, and drains that can be undone."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from clusters.analysis.facts import HOSTNAME, ZONE, PodTerm, Selector, Spread, Taint, Toleration
from policies.engine.actions import Action
from policies.engine.replay import drain, soften
from policies.engine.scheduler import Scheduler
from tests.clusters.analysis.fleets import ZONES, make_fleet
from tests.policies.engine.make import a_pod, facts_of, make_node

pytestmark = pytest.mark.unit
WEB = Selector.of(app="web")


def feasible(nodes, pods, **fields) -> set[str]:
    return set(Scheduler(facts_of(nodes, pods)).feasible(a_pod("web-9", None, 1000, **fields)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"a", "b"}),
        ({"cpu": 7000}, {"b"}),
        ({"zones": frozenset({ZONES[1]})}, {"b"}),
        ({"node_selector": Selector.of(pool="general")}, {"a", "b"}),
        ({"node_selector": Selector.of(pool="none")}, set()),
        ({"node_affinity": (Selector.of(pool="none"), Selector.of(pool="general"))}, {"a", "b"}),
        ({"pod_anti_affinity": (PodTerm(WEB),)}, {"b"}),
        ({"pod_affinity": (PodTerm(WEB),)}, {"a"}),
        ({"pod_affinity": (PodTerm(WEB, ZONE),)}, {"a"}),
        ({"pod_affinity": (PodTerm(Selector.of(app="nobody")),)}, set()),
        ({"topology_spread": (Spread(WEB, ZONE),)}, {"b"}),
        ({"topology_spread": (Spread(WEB, ZONE, hard=False),)}, {"a", "b"}),
        ({"topology_spread": (Spread(WEB, "rack"),)}, set()),
        ({"host_ports": (80,)}, {"b"}),
        ({"tolerations": (Toleration(operator="Exists"),)}, {"a", "b", "tainted", "cordoned"}),
    ],
)
def test_a_pod_goes_only_where_the_scheduler_would_put_it(fields, expected):
    nodes = [
        make_node("a", zone=ZONES[0]),
        make_node("b", zone=ZONES[1]),
        make_node("tainted", zone=ZONES[1], taints=(Taint("gpu"),)),
        make_node("cordoned", zone=ZONES[1], unschedulable=True),
    ]
    pods = [a_pod("web-0", "a", 1000, host_ports=(80,))]
    cpu = fields.pop("cpu", 1000)
    found = Scheduler(facts_of(nodes, pods)).feasible(a_pod("web-9", None, cpu, **fields))
    assert set(found) == expected


def test_a_running_pod_keeps_others_away():
    loner = a_pod("db-0", "a", pod_anti_affinity=(PodTerm(WEB, HOSTNAME),))
    assert feasible([make_node("a"), make_node("b")], [loner]) == {"b"}
    elsewhere = replace(loner, namespace="other")
    assert feasible([make_node("a"), make_node("b")], [elsewhere]) == {"a", "b"}
    everywhere = replace(elsewhere, pod_anti_affinity=(PodTerm(WEB, HOSTNAME, ("*",)),))
    assert feasible([make_node("a"), make_node("b")], [everywhere]) == {"b"}


def test_the_first_of_a_group_may_be_anywhere():
    assert feasible([make_node("a")], [], pod_affinity=(PodTerm(WEB),)) == {"a"}


def test_the_emptiest_node_wins_unless_it_is_about_to_leave():
    cluster = Scheduler(facts_of([make_node("a"), make_node("b")], [a_pod("db-0", "a", 5000)]))
    assert cluster.schedule(a_pod("web-0", None)) == "b"
    soften(cluster, ["b"])
    assert cluster.schedule(a_pod("web-1", None)) == "a"


def state(cluster: Scheduler):
    return {name: (sorted(cluster.on[name]), list(cluster.free[name])) for name in sorted(cluster.nodes)}, {
        space: {term: +count for term, count in terms.items() if +count} for space, terms in cluster.wary.items()
    }


@pytest.mark.parametrize("seed", range(6))
def test_a_drain_can_be_undone(seed):
    facts = make_fleet(8, seed, fill=0.5)
    cluster = Scheduler(facts)
    before = state(cluster)
    for name in [node.name for node in facts.nodes]:
        done = drain(cluster, Action((name,), (), Decimal(0), 1, 1))
        assert name not in cluster.nodes
        done.undo(cluster)
        assert state(cluster) == before


def test_a_cordoned_node_still_counts_for_the_spread_while_it_is_drained():
    """Two pods of a zone-wide rule, one in each zone: the drained zone's pod has no place until its node is gone."""
    rule = (Spread(WEB, ZONE),)
    nodes = [make_node("a", zone=ZONES[0]), make_node("b", zone=ZONES[1])]
    pods = [a_pod("web-0", "a", topology_spread=rule), a_pod("web-1", "b", topology_spread=rule)]
    cluster = Scheduler(facts_of(nodes, pods))
    cluster.change("a", unschedulable=True)
    cluster.unbind(cluster.on["a"]["default/web-0"])
    assert cluster.feasible(replace(pods[0], node=None)) == []
    cluster.remove_node("a")
    assert cluster.feasible(replace(pods[0], node=None)) == ["b"]
