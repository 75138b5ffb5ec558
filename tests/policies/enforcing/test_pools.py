"""Karpenter's pools under a policy: written, shown, fought over, given back to the field."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from clusters.models import Cluster as Row
from clusters.sleeping.models import SleepSnapshot
from core import clock
from policies.enforcing import karpenter, looking, pools
from policies.enforcing.models import Enforcement, NodeAction, WrittenObject
from policies.models import NodeTemplate, PolicyAssignment
from tests.fakes import kube_objects as make
from tests.fakes.kube_store import Kind, Table
from tests.personas import Persona
from tests.policies.enforcing.world import Cloud, Cluster

WINTER, SUMMER = datetime(2026, 1, 15, 12, tzinfo=UTC), datetime(2026, 7, 15, 12, tzinfo=UTC)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("schedule", "zone", "at", "utc"),
    [
        ("0 9 * * 1-5", "Europe/Berlin", WINTER, "0 8 * * 1-5"),
        ("0 9 * * 1-5", "Europe/Berlin", SUMMER, "0 7 * * 1-5"),
        ("30 23 * * FRI", "America/New_York", WINTER, "30 4 * * 6"),
        ("0 1 * * 0", "Asia/Kolkata", WINTER, "30 19 * * 6"),
        ("15,45 10 * * *", "Asia/Kolkata", WINTER, None),
        ("0 9 1 * *", "Europe/Berlin", WINTER, "0 8 1 * *"),
        ("0 0 1 * *", "Europe/Berlin", WINTER, None),
        ("*/5 * * * *", "UTC", WINTER, "*/5 * * * *"),
        ("0 9 * * *", "Mars/Olympus", WINTER, None),
    ],
)
def test_cron_in_utc(schedule: str, zone: str, at: datetime, utc: str | None) -> None:
    assert karpenter.to_utc(schedule, zone, at) == utc


@pytest.fixture
def fleet(row: Row, kube: Cluster, alice: Persona) -> dict[str, Any]:
    """A pool of the owner's, with limits, and its picture."""
    kube.store.tables["karpenter.k8s.aws", "ec2nodeclasses"] = Table(
        Kind("karpenter.k8s.aws", "v1", "ec2nodeclasses", "EC2NodeClass", False)
    )
    kube.living = False
    pool = make.node_pool("burst")
    pool["metadata"].pop("managedFields", None)
    kube.create(pool)
    NodeTemplate.objects.create(
        organization_id=alice.organization.id,
        name="general",
        families=["m5"],
        is_default=True,
        weight=40,
        created_at=row.created_at,
        updated_at=row.created_at,
    )
    return copy.deepcopy(kube.picture())


def _all(kube: Cluster, row: Row, work: Any) -> None:
    looking.plan_cluster(cluster_id=row.id)
    work()


@pytest.mark.django_db
@pytest.mark.integration
def test_pools_are_written_and_given_back(
    fleet: dict[str, Any], row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    apply_policy(
        consolidation={
            "enabled": True,
            "method": "replace_and_move",
            "stabilization_minutes": 7,
            "zone": "Europe/Berlin",
            "budgets": [{"nodes": "20%"}, {"nodes": "0", "schedule": "0 9 * * 1-5", "minutes": 480}],
        }
    )
    _all(kube, row, work)
    burst = kube.get("nodepools", "", "burst")["spec"]
    before = fleet["NodePool//burst"]["spec"]
    assert burst["disruption"]["consolidationPolicy"] == "WhenEmptyOrUnderutilized"
    assert burst["disruption"]["consolidateAfter"] == "7m"
    assert burst["disruption"]["budgets"][1]["duration"] == "480m"
    assert {k: v for k, v in burst.items() if k != "disruption"} == {
        k: v for k, v in before.items() if k != "disruption"
    }, "limits, weight and requirements are the owner's"
    assert kube.get("nodepools", "", "general")["spec"]["weight"] == 40
    assert kube.get("ec2nodeclasses", "", "general")
    assert Enforcement.objects.all_orgs().get().engine == "karpenter"
    assert not NodeAction.objects.all_orgs().exists(), "Karpenter does the work"
    writes = len(kube.writes)
    _all(kube, row, work)
    assert [w for w in kube.writes[writes:] if "dryRun" not in w] == [], "level: nothing to do"
    changes = {c["path"] for c in WrittenObject.objects.all_orgs().get(name="burst").changes}
    assert "/spec/disruption/consolidateAfter" in changes
    PolicyAssignment.objects.all_orgs().update(mode="off")
    _all(kube, row, work)
    assert kube.picture() == fleet
    assert not WrittenObject.objects.all_orgs().filter(restored_at=None).exists()


@pytest.mark.django_db
@pytest.mark.integration
def test_a_pool_with_nodes_closes_first_and_goes_with_the_last(
    fleet: dict[str, Any], row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    apply_policy()
    _all(kube, row, work)
    claim = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {"name": "general-1", "labels": {"karpenter.sh/nodepool": "general"}},
        "spec": {},
    }
    kube.create(claim)
    PolicyAssignment.objects.all_orgs().update(mode="off")
    _all(kube, row, work)
    assert kube.get("nodepools", "", "general")["spec"]["limits"]["cpu"] == "0"
    kube.delete("nodeclaims", "", "general-1")
    cluster = Row.objects.all_orgs().get(id=row.id)
    pools.request(cluster, "again")
    work()
    assert kube.picture() == fleet


@pytest.mark.django_db
@pytest.mark.integration
@pytest.mark.parametrize(("manager", "outcome"), [("kubectl-edit", "person"), ("argocd-controller", "three times")])
def test_fights_are_named(
    manager: str,
    outcome: str,
    fleet: dict[str, Any],
    row: Row,
    kube: Cluster,
    cloud: Cloud,
    apply_policy: Any,
    work: Any,
) -> None:
    apply_policy(autoscaling={"enabled": False})
    _all(kube, row, work)
    with pools.gateway.open_kube(row) as api:
        for number in range(4):
            theirs = {"spec": {"disruption": {"consolidateAfter": f"{number + 50}m"}}}
            api._manager = manager  # type: ignore[attr-defined]
            api.patch(pools.RESOURCES["NodePool"], "", "burst", theirs)
            _all(kube, row, work)
    row_now = WrittenObject.objects.all_orgs().get(name="burst")
    assert manager in row_now.contested
    assert outcome in row_now.contested
    value = kube.get("nodepools", "", "burst")["spec"]["disruption"]["consolidateAfter"]
    assert value == ("50m" if outcome == "person" else "53m") or value == "53m"


@pytest.mark.django_db
@pytest.mark.integration
def test_a_sleeping_cluster_is_not_written_to(
    fleet: dict[str, Any], row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    apply_policy()
    Enforcement.objects.create(organization_id=row.organization_id, cluster=row, engine="karpenter")
    SleepSnapshot.objects.create(
        organization_id=row.organization_id, cluster=row, cluster_name=row.name, taken_at=clock.now()
    )
    _all(kube, row, work)
    pools.request(row, "by hand")
    work()
    assert kube.picture() == fleet
    assert "asleep" in Enforcement.objects.all_orgs().get().holds


@pytest.mark.django_db
@pytest.mark.integration
def test_recommending_shows_the_diff_and_writes_nothing(
    fleet: dict[str, Any],
    row: Row,
    kube: Cluster,
    cloud: Cloud,
    apply_policy: Any,
    work: Any,
    alice: Persona,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apply_policy("recommend")
    report = looking.Look(looking.ClusterFacts(), karpenter=True)
    monkeypatch.setattr(looking, "read_stored", lambda cluster: report)
    _all(kube, row, work)
    shown = Enforcement.objects.all_orgs().get().preview
    assert {one["object"] for one in shown if one["object"]} == {
        "NodePool/burst",
        "NodePool/general",
        "EC2NodeClass/general",
    }
    burst = next(one for one in shown if one["object"] == "NodePool/burst")
    assert "/spec/disruption/consolidateAfter" in {c["path"] for c in burst["changes"]}
    assert any("burst" in one["note"] for one in shown), "it says which pools the template does not bind"
    assert kube.picture() == fleet
    client = Client()
    client.force_login(alice.user)
    assert "NodePool/burst" in client.get(f"/policies/clusters/{row.id}/nodes/").content.decode()
