"""Spot readiness: one reason a test, a yes when none applies, and money only where a price is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from clusters.analysis.facts import (
    CAPACITY_TYPE,
    GIB,
    ClusterFacts,
    DisruptionBudget,
    Lifecycle,
    Pod,
    Requirement,
    Resources,
    Selector,
    Workload,
)
from clusters.analysis.spot_readiness import NotReady, SpotPrice, part_of_node, reasons_against, spot_readiness
from tests.clusters.analysis.fleets import make_node
from tests.clusters.analysis.real_data import rows

pytestmark = pytest.mark.unit
WEB = Workload("shop", "Deployment", "web", 2)
BUDGET = DisruptionBudget("web", "shop", Selector.of(app="web"), max_unavailable="1")
PRICE = SpotPrice("m6i.2xlarge", Decimal("0.184"), price_date=date(2026, 8, 1), source="test")


def pods(**changes: object) -> list[Pod]:
    pod = Pod("web-0", "shop", WEB.key, "a", Resources(2000, 4 * GIB), labels={"app": "web"}, owner_replicas=2)
    return [replace(pod, **changes), replace(pod, name="web-1", node="b", **changes)]


def test_a_guarded_stateless_deployment_is_ready():
    assert reasons_against(WEB, pods(), [BUDGET]) == []


@pytest.mark.parametrize(
    ("workload", "changes", "budgets", "reason"),
    [
        (replace(WEB, persistent_volumes=True), {}, [BUDGET], NotReady.PERSISTENT_VOLUME),
        (WEB, {"zones": frozenset({"a"})}, [BUDGET], NotReady.PERSISTENT_VOLUME),
        (replace(WEB, replicas=1), {}, [BUDGET], NotReady.SINGLE_REPLICA),
        (WEB, {}, [], NotReady.NO_BUDGET),
        (WEB, {}, [replace(BUDGET, namespace="other")], NotReady.NO_BUDGET),
        (WEB, {"local_volume": True}, [BUDGET], NotReady.LOCAL_STORAGE),
        (replace(WEB, grace_seconds=121), {}, [BUDGET], NotReady.LONG_GRACE),
        (WEB, {"do_not_disrupt": True}, [BUDGET], NotReady.DO_NOT_DISRUPT),
        (WEB, {"requests": Resources(100, GIB, 1)}, [BUDGET], NotReady.GPU),
        (WEB, {"owner": ""}, [BUDGET], NotReady.BARE_POD),
        (replace(WEB, kind="Job", restarts_on_failure=False), {}, [], NotReady.NOT_RESTARTED),
        (WEB, {"priority": 2_000_000_000}, [BUDGET], NotReady.SYSTEM_CRITICAL),
        (WEB, {"node_selector": Selector((Requirement(CAPACITY_TYPE, "In", ("on-demand",)),))}, [BUDGET], NotReady.PINNED),
        (WEB, {"node_affinity": (Selector((Requirement(CAPACITY_TYPE, "NotIn", ("spot",)),)),)}, [BUDGET], NotReady.PINNED),
    ],
)  # fmt: skip
def test_each_reason_alone_is_a_no(workload, changes, budgets, reason):
    assert reasons_against(workload, pods(**changes), budgets) == [reason]
    assert reason.words


def test_replicas_on_one_node_and_workloads_without_pods():
    together = [replace(pod, node="a") for pod in pods()]
    assert reasons_against(WEB, together, [BUDGET]) == [NotReady.ONE_NODE]
    assert reasons_against(WEB, [], [BUDGET]) == [NotReady.NO_PODS]


def test_a_job_that_restarts_needs_neither_replicas_nor_a_budget():
    assert reasons_against(replace(WEB, kind="Job", replicas=1), pods()[:1], []) == []


def test_an_affinity_with_a_way_to_spot_is_no_pin():
    choice = (Selector((Requirement(CAPACITY_TYPE, "In", ("on-demand",)),)), Selector.of(disk="ssd"))
    assert reasons_against(WEB, pods(node_affinity=choice), [BUDGET]) == []


def test_savings_are_the_pods_share_of_the_price_difference():
    nodes = (make_node("a"), make_node("b"))
    facts = ClusterFacts(nodes, tuple(pods()), (BUDGET,), (WEB,))
    result = spot_readiness(facts, [PRICE])
    share = part_of_node(pods()[0], nodes[0])
    assert 0.2 < share < 0.25
    assert result.monthly_savings == pytest.approx(Decimal(float(share * 2) * 0.2 * 730), abs=Decimal("0.01"))
    assert result.workloads[0].hourly_cost == pytest.approx(Decimal(float(share) * 2 * 0.384), abs=Decimal("0.001"))
    assert (result.score, result.weighed_by, result.oldest_price) == (1.0, "cost", date(2026, 8, 1))


def test_a_zones_own_price_comes_first_and_dearer_spot_saves_nothing():
    facts = ClusterFacts((make_node("a"), make_node("b")), tuple(pods()), (BUDGET,), (WEB,))
    dear = replace(PRICE, zone="us-east-1a", hourly_price=Decimal("0.5"))
    assert spot_readiness(facts, [PRICE, dear]).monthly_savings == 0


def test_unknown_prices_are_named_and_not_guessed():
    nodes = (make_node("a"), make_node("b", hourly_price=None))
    result = spot_readiness(ClusterFacts(nodes, tuple(pods()), (BUDGET,), (WEB,)), [])
    assert result.unknown_prices == ("m6i.2xlarge in us-east-1a",)
    assert result.unpriced_nodes == ("b",)
    assert result.workloads[0].monthly_savings is None
    assert result.monthly_savings == 0


def test_pods_on_spot_already_save_nothing_more():
    nodes = (make_node("a", lifecycle=Lifecycle.SPOT), make_node("b", lifecycle=Lifecycle.SPOT))
    result = spot_readiness(ClusterFacts(nodes, tuple(pods()), (BUDGET,), (WEB,)), [PRICE])
    assert result.monthly_savings == 0
    assert result.workloads[0].spot_pods == 2


def test_the_score_is_weighed_by_cost_and_leaves_daemonsets_out():
    nodes = (make_node("a"), make_node("b"))
    database = Pod(
        "db-0", "shop", "shop/StatefulSet/db", "a", Resources(6000, 12 * GIB), zones=frozenset({"us-east-1a"})
    )
    daemon = Pod("agent", "kube-system", "kube-system/DaemonSet/agent", "a", Resources(1000, GIB), daemonset=True)
    result = spot_readiness(ClusterFacts(nodes, (*pods(), database, daemon), (BUDGET,), (WEB,)), [PRICE])
    assert result.score == pytest.approx(4 / 10, rel=1e-5)
    assert [(w.workload, w.ready) for w in result.workloads] == [
        ("shop/Deployment/web", True),
        ("shop/StatefulSet/db", False),
    ]


def test_without_prices_requests_are_weighed_and_without_pods_there_is_no_score():
    nodes = (make_node("a", hourly_price=None), make_node("b", hourly_price=None))
    result = spot_readiness(ClusterFacts(nodes, tuple(pods()), (BUDGET,), (WEB,)), [PRICE])
    assert (result.score, result.weighed_by) == (1.0, "requests")
    assert spot_readiness(ClusterFacts(), []).score is None


def test_real_workloads_of_three_environments():
    """GOV.UK's Helm values: without budgets nothing with two replicas is ready; with them all stateless ones are."""
    workloads, all_pods, budgets = [], [], []
    nodes = tuple(make_node(f"n{i}", "m6i.4xlarge") for i in range(40))
    for number, row in enumerate(rows("k8s_workloads_govuk/dev/workloads.csv.gz")):
        replicas = int(row["replicas"] or 0)
        if not replicas or not row["cpu_request_m"]:
            continue
        workload = Workload(row["environment"], "Deployment", f"{row['app']}-{row['component']}", replicas)
        workloads.append(workload)
        budgets.append(
            DisruptionBudget(workload.name, workload.namespace, Selector.of(app=workload.name), max_unavailable="1")
        )
        need = Resources(int(float(row["cpu_request_m"])), int(float(row["mem_request_mib"] or 0)) * 1024**2)
        all_pods += [
            Pod(f"{workload.name}-{i}", workload.namespace, workload.key, f"n{(number + i) % 40}", need,
                labels={"app": workload.name}, owner_replicas=replicas)
            for i in range(replicas)
        ]  # fmt: skip
    assert len(workloads) > 100
    bare = spot_readiness(ClusterFacts(nodes, tuple(all_pods), (), tuple(workloads)), [])
    guarded = spot_readiness(ClusterFacts(nodes, tuple(all_pods), tuple(budgets), tuple(workloads)), [])
    assert bare.score == 0
    ready = {w.workload for w in guarded.workloads if w.ready}
    assert ready == {w.key for w in workloads if w.replicas and w.replicas > 1}
    assert 0 < guarded.score < 1
