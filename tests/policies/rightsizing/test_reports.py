"""From an agent's reports to recommendations, pages and the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from clusters.models import Cluster
from clusters.services import refigure
from core import clock
from dashboard.demo import policies as demo_policies
from policies.rightsizing import reporting, services
from policies.rightsizing.due import in_hours, orders
from policies.rightsizing.models import SizedWorkload, SizeReport
from tests.clusters import conftest as fixtures
from tests.clusters.conftest import Joined
from tests.personas import Persona
from tests.policies.rightsizing.conftest import row, size

api_of, join, prices, time = fixtures.api_of, fixtures.join, fixtures.prices, fixtures.time
pytestmark = [pytest.mark.integration, pytest.mark.django_db]


@pytest.fixture
def joined(join: Any, prices: None, time: Any) -> Joined:
    """A cluster whose agent reported a day and a half of little use."""
    found: Joined = join(nodes=2, pods=10)
    time.go(0)
    assert found.send(found.reporter.full())[0] == 200
    for _ in range(4):
        usage: list[Any] = []
        for _ in range(35):
            now = time.go(1000)
            usage += found.reporter.usage(cpu=5_000_000, memory=40 * 1024**2, at=now)
        assert found.send(found.reporter.delta(usage=usage))[0] == 200
    refigure(cluster_id=found.id)
    return found


def test_a_report_becomes_recommendations_with_dollars_and_reasons(joined: Joined, alice: Persona) -> None:
    assert reporting.due() == [joined.id]
    assert reporting.refresh(cluster_id=joined.id)
    report = SizeReport.objects.all_orgs().get()
    assert report.workloads == len(report.rows) > 0
    assert reporting.due() == []
    assert "tests, 2026-01-01" in report.prices
    system = [r for r in report.rows if r["namespace"] == "kube-system"]
    assert all(r["hold"]["why"] == "exempt" and r["saves"] == 0 for r in system)
    for found in report.rows:
        for box in found["boxes"]:
            for name in ("cpu", "memory"):
                one = box[name]
                assert one["hold"] or one["to"] != one["old"], f"{found['key']} {name} stays without a reason"
                assert not one["hold"] or one["hold"]["words"]


def test_the_page_and_the_api_say_the_same(joined: Joined, alice: Persona, client_of: Any, api_of: Any) -> None:
    reporting.refresh(cluster_id=joined.id)
    client = client_of(alice)
    page = client.get(f"/policies/rightsizing/{joined.id}/")
    assert page.status_code == 200
    answer = api_of(alice).get(f"/api/clusters/{joined.id}/recommendations").json()
    assert answer["count"] == SizeReport.objects.all_orgs().get().workloads
    assert (answer["mode"], answer["kind"], answer["currency"]) == ("recommend", "potential", "USD")
    for one in answer["results"]:
        assert one["name"] in page.content.decode()
    assert api_of(alice).get(f"/api/clusters/{joined.id}/recommendations?show=nonsense").status_code in (400, 422)
    assert client.get("/policies/rightsizing/").status_code == 200
    assert client.get(f"/clusters/{joined.id}/").status_code == 200


def test_a_policy_that_is_off_leaves_no_report(joined: Joined, alice: Persona) -> None:
    from policies import services as policies

    reporting.refresh(cluster_id=joined.id)
    policy = policies.create_policy(actor=alice.actor, name="Nothing")
    document = policy.parsed().to_json()
    document["rightsizing"]["mode"] = "off"
    policies.save_policy(actor=alice.actor, policy_id=policy.id, document=document)
    policies.apply_policy(actor=alice.actor, policy_id=policy.id, cluster_ids=[joined.id])
    assert not reporting.refresh(cluster_id=joined.id)
    assert not SizeReport.objects.all_orgs().exists()


@pytest.mark.parametrize("rows", [1, 3])
def test_the_page_asks_the_database_a_fixed_number_of_times(
    rows: int, cluster: Cluster, report: Any, alice: Persona, client_of: Any, django_assert_max_num_queries: Any
) -> None:
    report(*(row(cluster, f"shop/Deployment/web{n}", app=(size(2000, 250), size(None))) for n in range(rows)))
    client = client_of(alice)
    client.get(f"/policies/rightsizing/{cluster.id}/")
    with django_assert_max_num_queries(24):
        assert client.get(f"/policies/rightsizing/{cluster.id}/").status_code == 200


def test_hours_over_midnight() -> None:
    night = [in_hours(clock.now().replace(hour=h), 22, 6) for h in (21, 22, 23, 0, 5, 6)]
    assert night == [False, True, True, True, True, False]
    assert in_hours(clock.now(), 0, 0)


def test_three_at_a_time_and_killed_ones_first(cluster: Cluster) -> None:
    many = [row(cluster, f"shop/Deployment/w{n}", saves=10.0 * n, app=(size(2000, 250), size(None))) for n in range(6)]
    many[0]["urgent"] = True
    chosen, waiting = orders(many, {}, clock.now(), night=True, under_way=0)
    assert [o.row["name"] for o in chosen] == ["w0", "w5", "w4"]
    assert set(waiting.values()) == {"3 changes are under way"}
    by_day, why = orders(many, {}, clock.now(), night=False, under_way=0)
    assert not by_day
    assert set(why.values()) == {"it waits for the hours in which the policy makes things smaller"}


def test_a_held_workload_waits(cluster: Cluster, govern: Any, report: Any) -> None:
    govern()
    found = row(cluster, "shop/Deployment/web", app=(size(2000, 250), size(None)))
    report(found)
    SizedWorkload.objects.for_org(cluster.organization_id).create(
        id=found["id"],
        organization_id=cluster.organization_id,
        cluster=cluster,
        key=found["key"],
        held_until=clock.now() + timedelta(days=1),
        held_why="its last change was taken back",
    )
    assert services.apply_due() == 0


def test_the_badge_while_editing_is_what_the_report_says_after_saving(
    joined: Joined, alice: Persona, api_of: Any
) -> None:
    from policies import services as policies

    policy = policies.create_policy(actor=alice.actor, name="Careful")
    policies.apply_policy(actor=alice.actor, policy_id=policy.id, cluster_ids=[joined.id])
    said = []
    for rightsizing, spaces in (
        ({"headroom_percent": 10, "minimum_monthly": "0"}, []),
        ({"headroom_percent": 50, "minimum_monthly": "0"}, []),
        ({"profile": "vpa", "minimum_monthly": "0"}, []),
        ({"minimum_monthly": "1000"}, []),
        ({"minimum_monthly": "0"}, [one["name"] for one in _namespaces(joined)]),
    ):
        document = {**policy.parsed().to_json(), "exemptions": {"namespaces": spaces}}
        document["rightsizing"] |= rightsizing
        url = f"/api/clusters/{joined.id}/policy/impact"
        badge = api_of(alice).post(url, {"document": document}, format="json").json()["cards"]["rightsizing"]
        policies.save_policy(actor=alice.actor, policy_id=policy.id, document=document)
        reporting.refresh(cluster_id=joined.id)
        report = SizeReport.objects.all_orgs().get()
        assert float(badge["monthly_savings"] or 0) == pytest.approx(report.saves or 0, abs=0.01)
        assert not spaces or "No workload" in badge["words"]
        assert spaces or badge["words"].startswith(f"{report.changes} of {report.workloads} workloads")
        said.append(report.saves or 0)
    assert said[0] > said[1] > 0, "more headroom saves less"
    assert said[3] == said[4] == 0


def _namespaces(joined: Joined) -> list[dict[str, Any]]:
    from clusters.models import Summary

    return [one for one in Summary.objects.all_orgs().get(cluster_id=joined.id).namespaces if one["name"]]


def test_the_demo_has_its_recommendations_from_the_first_page_on(
    joined: Joined, alice: Persona, client_of: Any
) -> None:
    Cluster.objects.all_orgs().filter(id=joined.id).update(name="lark-prod")
    assert demo_policies.make(alice.actor) == 1
    assert SizeReport.objects.all_orgs().get().cluster_id == joined.id
    assert "You can save" in client_of(alice).get("/").content.decode()
