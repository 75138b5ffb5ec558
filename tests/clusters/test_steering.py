"""Budgets, drift, bulk actions of apps above, maintenance that pauses, search: what people do with connected clusters."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from clusters import extensions, selectors, services
from clusters.analysis.drift import TemplateRules
from clusters.models import Alert, Cluster
from clusters.selectors.automation import paused
from clusters.selectors.money import burndown
from core.actor import Actor
from core.errors import InvalidInput, InvalidState
from dashboard import search
from hibernation import services as hibernation
from hibernation.models import Assignment
from tests.clusters.conftest import Joined, Time
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
Join = Callable[..., Joined]


@pytest.fixture
def browser(client_of: Callable[[Persona], Client], alice: Persona) -> Client:
    return client_of(alice)


@pytest.fixture
def clean_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "_bulk", {})
    monkeypatch.setattr(extensions, "_templates", [])


def test_the_burndown_is_the_ledger(join: Join, time: Time, prices: None, alice: Persona, browser: Client) -> None:
    joined = join(nodes=3, pods=9)
    row = joined.report()
    assert burndown(actor=alice.actor, cluster=row) is None
    answer = browser.post(f"/clusters/{joined.id}/edit", {"name": "lark-prod", "monthly_budget": "1000"})
    assert answer.status_code == 302
    time.go(36 * 3600)
    month = burndown(actor=alice.actor, cluster=joined.row)
    assert month is not None
    assert row.hourly_cost is not None
    assert month.spent == (row.hourly_cost * 36).quantize(month.spent)
    days = {day.day.day: day for day in month.days}
    assert days[11].left == Decimal(1000), "it was connected on the 12th"
    assert days[13].left == Decimal(1000) - month.spent
    assert days[14].left is None
    assert month.expected is not None
    assert days[30].forecast == pytest.approx(Decimal(1000) - month.expected)
    assert days[30].ideal == 0
    page = browser.get(f"/clusters/{joined.id}/").content.decode()
    assert "Cost burndown" in page
    assert "Set a budget" not in page
    refused = browser.post(f"/clusters/{joined.id}/edit", {"name": "lark-prod", "monthly_budget": "-4"})
    assert refused.status_code == 422
    with pytest.raises(InvalidInput):
        services.update_cluster(actor=alice.actor, cluster_id=joined.id, monthly_budget="NaN")


def test_drift_is_judged_by_the_template_that_another_app_brings(
    join: Join, time: Time, browser: Client, clean_extensions: None, api_of: Callable[[Persona], Any], alice: Persona
) -> None:
    joined = join(nodes=3, pods=9)
    joined.report()
    assert "nothing to drift from" in browser.get(f"/clusters/{joined.id}/?tab=compliance").content.decode()
    assert api_of(alice).get(f"/api/clusters/{joined.id}/drift").json()["template"] is None
    extensions.register_templates(lambda cluster: TemplateRules("Only Graviton", families=frozenset({"m7g"})))
    assert services.judge_again(organization_id=alice.organization.id, ids=[joined.id]) == 1
    assert services.refigure(cluster_id=joined.id)
    told = api_of(alice).get(f"/api/clusters/{joined.id}/drift").json()
    assert (told["template"], told["nodes"], told["drifted_nodes"]) == ("Only Graviton", 3, 3)
    assert {one["rule"] for one in told["drifted"]} == {"family"}
    page = browser.get(f"/clusters/{joined.id}/?tab=compliance").content.decode()
    assert "3 of 3 nodes are not what" in page
    assert Alert.objects.all_orgs().get(cluster_id=joined.id, kind="drift", ended_at=None)
    extensions._templates.clear()
    services.judge_again(organization_id=alice.organization.id, ids=[joined.id])
    services.refigure(cluster_id=joined.id)
    assert not Alert.objects.all_orgs().filter(kind="drift", ended_at=None).exists()


def test_an_app_above_adds_a_bulk_action(
    join: Join, time: Time, browser: Client, clean_extensions: None, alice: Persona, bob: Persona
) -> None:
    applied: list[tuple[str, str]] = []

    def apply(actor: Actor, cluster: Cluster, choice: str) -> None:
        if cluster.name == "busy":
            raise InvalidState("not now")
        applied.append((cluster.name, choice))

    action = extensions.BulkAction(
        "schedule",
        "Apply schedule",
        "clock",
        "hibernation.operate",
        lambda a: [extensions.Choice("n", "Nights")],
        apply,
    )
    extensions.register_bulk(action)
    one, busy = join("one"), join("busy")
    page = browser.get("/clusters/").content.decode()
    assert "Apply schedule" in page
    assert "Nights" in page
    data = {"id": [str(one.id), str(busy.id)], "action": "schedule", "schedule": "n"}
    assert browser.post("/clusters/bulk", data).status_code == 302
    assert applied == [("one", "n")]
    assert browser.post("/clusters/bulk", {**data, "schedule": "unknown"}).status_code == 400
    assert extensions.bulk_actions(bob.actor) == []


def test_chosen_clusters_follow_a_schedule(join: Join, time: Time, browser: Client, alice: Persona) -> None:
    one = join("one")
    one.report()
    hours = hibernation.save_schedule(actor=alice.actor, name="Office hours", zone="UTC", grid=["1" * 24] * 7)
    assert "Office hours" in browser.get("/clusters/").content.decode()
    data = {"id": [str(one.id)], "action": "schedule", "schedule": str(hours.id)}
    assert browser.post("/clusters/bulk", data).status_code == 302
    followers = Assignment.objects.for_org(alice.organization).values_list("resource_kind", "resource_id")
    assert list(followers) == [("cluster", one.id)]


def test_maintenance_is_what_automation_asks_for(join: Join, time: Time, alice: Persona, mallory: Persona) -> None:
    one, two = join("one"), join("two")
    assert paused(actor=alice.actor) == {}
    services.begin_maintenance(actor=alice.actor, cluster_id=one.id, reason="upgrade to 1.34")
    assert set(paused(actor=alice.actor, ids=[one.id, two.id])) == {one.id}
    assert "upgrade to 1.34" in paused(actor=alice.actor)[one.id]
    assert paused(actor=mallory.actor, ids=[one.id]) == {}
    services.end_maintenance(actor=alice.actor, cluster_id=one.id)
    assert paused(actor=alice.actor) == {}


def test_search_finds_clusters_of_ones_own(join: Join, time: Time, alice: Persona, mallory: Persona) -> None:
    joined = join("lark-prod", region="eu-west-1")
    hits = [hit for group in search.find(actor=alice.actor, words="lark eu-west") for hit in group.hits]
    assert [hit.url for hit in hits] == [f"/clusters/{joined.id}/"]
    assert search.find(actor=mallory.actor, words="lark") == []
    assert selectors.find(actor=alice.actor, words="nothing-like-it", most=5) == []


def test_the_upgrade_page_names_old_agents_only(join: Join, time: Time, browser: Client) -> None:
    old, new = join("old"), join("new")
    for one in (old, new):
        one.report()
    Cluster.objects.all_orgs().filter(id=old.id).update(agent_version="0.9.0")
    from clusters.inventory import install

    Cluster.objects.all_orgs().filter(id=new.id).update(agent_version=install.chart().app_version)
    page = browser.get(f"/clusters/upgrade?id={old.id}&id={new.id}").content.decode()
    assert "# old: choose its context first" in page
    assert "# new:" not in page
