"""Shapes of the cluster API, bulk actions, analysis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from rest_framework.test import APIClient

from clusters import services
from clusters.models import Cluster, Sample
from tests.clusters.conftest import Joined, Time
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
Join = Callable[..., Joined]


@pytest.fixture
def api(api_of: Callable[[Persona], APIClient], alice: Persona) -> APIClient:
    return api_of(alice)


def test_a_cluster_is_made_and_its_token_shown_once(api: APIClient, time: Time) -> None:
    made = api.post("/api/clusters", {"name": "lark", "environment": "prod", "tags": {"team": "fx"}}, format="json")
    assert made.status_code == 201
    assert made.json()["agent_token"].startswith("cfa_")
    assert made.json()["manifest_url"].endswith(".yaml")
    again = api.get(f"/api/clusters/{made.json()['id']}").json()
    assert "agent_token" not in again
    assert (again["state"], again["environment"], again["monthly_run_rate"]) == ("connecting", "prod", None)


def test_what_is_wrong_is_said_by_field(api: APIClient) -> None:
    answer = api.post("/api/clusters", {"name": "", "environment": "moon"}, format="json")
    assert answer.status_code == 422
    assert set(answer.json()["errors"]) == {"name", "environment"}


def test_lists_hold_the_report(api: APIClient, join: Join, time: Time, prices: None) -> None:
    joined = join(nodes=5, pods=40)
    row = joined.report(usage=joined.reporter.usage(at=time.now))
    base = f"/api/clusters/{joined.id}"
    nodes = api.get(f"{base}/nodes").json()
    assert nodes["count"] == 5
    total = sum(Decimal(node["hourly_price"]) for node in nodes["results"])
    assert total == row.hourly_cost
    groups = api.get(f"{base}/node-groups").json()["results"]
    assert sum(group["nodes"] for group in groups) == 5
    assert abs(sum(Decimal(group["hourly"]) for group in groups) - total) < Decimal("0.000001")
    assert sum(space["pods"] for space in api.get(f"{base}/namespaces").json()["results"]) == row.pod_count
    assert api.get(f"{base}/workloads").json()["count"] > 0
    assert api.get(f"{base}/history?span=1h").json()["count"] == 1


def test_analysis_is_potential_and_explains_itself(api: APIClient, join: Join, time: Time, prices: None) -> None:
    joined = join(nodes=5, pods=40)
    joined.report(usage=joined.reporter.usage(at=time.now))
    base = f"/api/clusters/{joined.id}"
    efficiency = api.get(f"{base}/efficiency").json()
    assert efficiency["kind"] == "potential"
    assert f"grade {efficiency['grade']}" in efficiency["formula"]
    spot = api.get(f"{base}/spot-readiness").json()
    assert all(one["ready"] or one["words"] for one in spot["workloads"])
    cis = api.get(f"{base}/compliance").json()
    verdicts = [check["verdict"] for check in cis["checks"]]
    assert {v: verdicts.count(v) for v in ("pass", "fail", "manual")} == {
        "pass": cis["passed"],
        "fail": cis["failed"],
        "manual": cis["manual"],
    }
    assert joined.row.violations == cis["failed"]
    stability = api.get(f"{base}/stability").json()
    assert 0 <= stability["index"] <= 100
    assert abs(sum(part["weight"] for part in stability["components"]) - 1) < 1e-9
    assert api.get(f"{base}/activity").json()["monthly_savings"] is None
    fleet = api.get(f"{base}/fleet-composition").json()["fleet"]
    assert (fleet["nodes"], Decimal(fleet["hourly"])) == (5, joined.row.hourly_cost)


def test_perfect_packing_never_costs_more(api: APIClient, join: Join, time: Time, prices: None) -> None:
    joined = join(nodes=6, pods=12)
    joined.report()
    assert services.packing_due() == [joined.id]
    assert services.plan(cluster_id=joined.id) is True
    assert services.packing_due() == []
    found = api.get(f"/api/clusters/{joined.id}/bin-packing").json()["perfect_packing"]
    assert Decimal(found["hourly_now"]) == joined.row.hourly_cost
    assert Decimal(found["hourly_planned"]) <= Decimal(found["hourly_now"])
    assert found["nodes_now"] == 6


def test_idle_nights_are_found_after_two_weeks(api: APIClient, join: Join, time: Time, prices: None) -> None:
    joined = join(nodes=2, pods=2)
    row = joined.report()
    start = time.now.replace(hour=0) - timedelta(days=21)
    Sample.objects.for_org(row.organization_id).bulk_create(
        [
            Sample(
                organization_id=row.organization_id,
                cluster=row,
                span="1h",
                at=at,
                cpu_milli=8000,
                used_cpu_milli=5000 if 8 <= at.hour < 20 and at.weekday() < 5 else 80,
                changes=300 if 8 <= at.hour < 20 and at.weekday() < 5 else None,
            )
            for hour in range(21 * 24)
            if (at := start + timedelta(hours=hour))
        ]
    )
    found = api.get(f"/api/clusters/{joined.id}/activity").json()
    assert found["blue_hours"] == 168 - 5 * (12 + 2)  # the hours before and after count as busy
    assert Decimal(found["monthly_savings"]) > 0
    assert found["grid"][5] == "0" * 24


def test_bulk_does_what_can_be_done(api: APIClient, join: Join, time: Time, mallory: Persona) -> None:
    live, silent = join("live"), join("silent")
    live.report()
    theirs = services.create_cluster(actor=mallory.actor, name="theirs").cluster
    ids = [str(live.id), str(silent.id), str(theirs.id)]
    answer = api.post("/api/clusters/bulk", {"ids": ids, "action": "sync"}, format="json").json()
    assert answer["done"] == [str(live.id)]
    assert [one["code"] for one in answer["skipped"]] == ["invalid_state", "not_found"]
    api.post("/api/clusters/bulk", {"ids": ids, "action": "maintenance_on"}, format="json")
    assert Cluster.objects.all_orgs().filter(maintenance_since__isnull=False).count() == 2


def test_compare_refuses_what_is_not_ours(api: APIClient, join: Join, time: Time, mallory: Persona) -> None:
    mine = join("mine")
    theirs = services.create_cluster(actor=mallory.actor, name="theirs").cluster
    answer = api.post("/api/clusters/compare", {"ids": [str(mine.id), str(theirs.id)]}, format="json")
    assert answer.status_code == 404


def test_overview_adds_up(api: APIClient, join: Join, time: Time, prices: None) -> None:
    rows = [join(name, nodes=3).report() for name in ("one", "two")]
    found = api.get("/api/clusters/overview").json()
    expected = sum(row.hourly_cost for row in rows) * 730
    assert Decimal(found["run_rate"]["monthly"]) == expected.quantize(Decimal("0.000001"))
    assert found["run_rate"]["kind"] == "projected"
    assert found["waste"]["kind"] == "potential"
    assert found["fleet"]["nodes"] == 6
