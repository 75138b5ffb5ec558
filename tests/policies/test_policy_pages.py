"""The pages and the API of policies: cards, impact while editing, versions, clusters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts import selectors as accounts
from clusters import services as clusters
from clusters.models import Cluster
from policies import services
from policies.models import Policy, PolicyAssignment
from tests.clusters.conftest import prices  # noqa: F401  a fixture
from tests.clusters.report import Reporter, cluster
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
CARDS = {
    "autoscaling.strategy": "capacity_optimized",
    "consolidation.level": "balanced",
    "consolidation.method": "delete_empty",
    "consolidation.stabilization_minutes": "10",
    "consolidation.max_new_nodes": "on",
    "budget.nodes": ["10%", ""],
    "budget.schedule": ["", ""],
    "budget.minutes": ["", ""],
    "budget.reason": ["", ""],
    "rightsizing.mode": "recommend",
    "rightsizing.profile": "p95",
    "rightsizing.headroom_percent": "20",
    "rightsizing.minimum_monthly": "10",
    "rightsizing.in_place": "on",
    "autoscaling.on_demand_fallback": "on",
    "placement.spot": "none",
}


def by_session(person: Persona) -> APIClient:
    client = APIClient()
    client.force_login(person.user)
    return client


@pytest.fixture
def reported(alice: Persona, prices: None) -> Cluster:  # noqa: F811
    """A cluster of five nodes and twenty pods with prices."""
    made = clusters.create_cluster(actor=alice.actor, name="prod", region="eu-west-1")
    token = accounts.agent_token(made.token)
    assert token is not None
    assert clusters.ingest_snapshot(token=token, body=Reporter(cluster(5, 20), uid="prod").full())[0] == 200
    clusters.refigure(cluster_id=made.cluster.id)
    row: Cluster = Cluster.objects.all_orgs().get(id=made.cluster.id)
    return row


@pytest.fixture
def policy(alice: Persona) -> Policy:
    return services.create_policy(actor=alice.actor, name="Careful")


def test_the_form_of_an_unchanged_policy_says_what_it_says(alice: Persona, client_of: Callable, policy: Policy) -> None:
    client = client_of(alice)
    assert client.get(f"/policies/{policy.id}/").status_code == 200
    client.post(f"/policies/{policy.id}/", {**CARDS, "number": "1"})
    policy.refresh_from_db()
    assert policy.number == 1


def test_saving_the_cards_makes_a_version(alice: Persona, client_of: Callable, policy: Policy) -> None:
    form = {
        **CARDS,
        "number": "1",
        "note": "Nights only",
        "consolidation.enabled": "on",
        "consolidation.level": "aggressive",
        "consolidation.zone": "Europe/Berlin",
        "budget.nodes": ["10%", "0"],
        "budget.schedule": ["", "0 9 * * 1-5"],
        "budget.minutes": ["", "480"],
        "budget.reason": ["", "underutilized"],
        "exemptions.namespaces": ["billing"],
        "exemptions.more": "monitoring, payments",
        "label.key": ["tier", ""],
        "label.value": ["db", ""],
    }
    answer = client_of(alice).post(f"/policies/{policy.id}/", form)
    assert (answer.status_code, answer["Location"]) == (302, f"/policies/{policy.id}/")
    policy.refresh_from_db()
    assert policy.number == 2
    assert policy.document["consolidation"] == {
        "enabled": True,
        "level": "aggressive",
        "method": "delete_empty",
        "stabilization_minutes": 10,
        "zone": "Europe/Berlin",
        "budgets": [
            {"nodes": "10%", "schedule": "", "minutes": 0, "reasons": []},
            {"nodes": "0", "schedule": "0 9 * * 1-5", "minutes": 480, "reasons": ["underutilized"]},
        ],
        "max_new_nodes": 1,
    }
    assert policy.document["exemptions"] == {
        "namespaces": ["billing", "monitoring", "payments"],
        "labels": [{"key": "tier", "value": "db"}],
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rightsizing.headroom_percent": "7"}, "A whole number from 10 to 50"),
        ({"consolidation.stabilization_minutes": "soon"}, "A whole number from 0 to 1440"),
        ({"budget.nodes": ["many", ""]}, "a percentage such as 10%"),
        ({"exemptions.more": "No_Such"}, "cannot be the name of a namespace"),
        ({"number": "0"}, "saved version 1 meanwhile"),
    ],
)
def test_what_cannot_be_saved_is_said_and_stays_typed(
    change: dict[str, Any], words: str, alice: Persona, client_of: Callable, policy: Policy
) -> None:
    answer = client_of(alice).post(
        f"/policies/{policy.id}/", {**CARDS, "number": "1", "placement.spot": "force", **change}
    )
    text = answer.content.decode()
    assert answer.status_code == 422
    assert words in text
    assert 'value="force" checked' in text
    policy.refresh_from_db()
    assert policy.number == 1


def test_the_badges_follow_what_is_edited_and_nothing_is_stored(
    alice: Persona, client_of: Callable, policy: Policy, reported: Cluster
) -> None:
    services.apply_policy(actor=alice.actor, policy_id=policy.id, cluster_ids=[reported.id])
    client = client_of(alice)

    def badge(**more: Any) -> str:
        text = client.post(f"/policies/{policy.id}/impact", {**CARDS, **more}).content.decode()
        return text.split('id="impact-consolidation"')[1].split("</div>")[0]

    assert "no change in cost" in badge()
    moved = badge(
        **{
            "consolidation.enabled": "on",
            "consolidation.method": "replace_and_move",
            "consolidation.level": "aggressive",
        }
    )
    assert "Potential savings: +$" in moved
    policy.refresh_from_db()
    assert policy.number == 1


def test_the_bar_of_unsaved_changes_names_them(alice: Persona, client_of: Callable, policy: Policy) -> None:
    template = services.save_template(actor=alice.actor, values={"name": "Only c7", "families": ["c7i"]})
    client = client_of(alice)

    def bar(**more: Any) -> str:
        text = client.post(f"/policies/{policy.id}/impact", {**CARDS, **more}).content.decode()
        return text.split('id="unsaved-words"')[1].split(">", 1)[1].split("</span>")[0] if "unsaved" in text else ""

    assert bar() == "Nothing is different from what is saved."
    assert bar(**{"consolidation.level": "aggressive", "autoscaling.template": str(template.id)}) == (
        "Constraint boundary: none → Only c7 · Aggressiveness: Balanced → Aggressive"
    )
    many = {"consolidation.method": "replace_and_move", "placement.spot": "force", "rightsizing.mode": "off"}
    assert bar(**many, **{"rightsizing.headroom_percent": "30"}).endswith(
        "Rightsizing: Recommendations only → Off · Safety buffer, percent: 20 → 30 · 1 more"
    )
    assert bar(**{"rightsizing.headroom_percent": "7"}) == ""


def test_exemptions_take_their_savings_away(alice: Persona, policy: Policy, reported: Cluster) -> None:
    client = by_session(alice)
    url = f"/api/clusters/{reported.id}/policy/impact"
    on = {"enabled": True, "method": "replace_and_move", "level": "aggressive"}
    spaces = sorted({str(one["name"]) for one in _spaces(reported)})
    free = client.post(url, {"document": {"consolidation": on}}, format="json").json()
    bound = client.post(
        url, {"document": {"consolidation": on, "exemptions": {"namespaces": spaces}}}, format="json"
    ).json()
    saved = [float(one["cards"]["consolidation"]["monthly_savings"]) for one in (free, bound)]
    assert saved[1] < saved[0]  # a node without pods of its own may still go
    assert ", moving 0 pods" in bound["cards"]["consolidation"]["words"]
    assert bound["cards"]["exemptions"]["words"].startswith("8 of 8 workloads are Unmanaged")


def _spaces(row: Cluster) -> list[dict[str, Any]]:
    from clusters.models import Summary

    return list(Summary.objects.all_orgs().get(cluster=row).namespaces)


def test_applying_changing_the_mode_and_taking_off_on_the_page(
    alice: Persona, client_of: Callable, policy: Policy, reported: Cluster
) -> None:
    client = client_of(alice)
    url = f"/policies/{policy.id}/clusters"
    client.post(url, {"add": [str(reported.id)], "mode": "enforce"})
    assert PolicyAssignment.objects.for_org(alice.organization).get().mode == "enforce"
    assert "prod" in client.get(f"/policies/{policy.id}/").content.decode()
    client.post(url, {"set_mode": str(reported.id), f"mode-{reported.id}": "off"})
    assert PolicyAssignment.objects.for_org(alice.organization).get().mode == "off"
    client.post(url, {"take_off": str(reported.id)})
    assert not PolicyAssignment.objects.for_org(alice.organization).exists()
    assert "Choose 1 to 500 clusters" in client.post(url, {"mode": "off"}, follow=True).content.decode()


def test_a_version_is_compared_and_restored_on_its_page(alice: Persona, client_of: Callable, policy: Policy) -> None:
    document = {**policy.document, "placement": {"spot": "force"}}
    services.save_policy(actor=alice.actor, policy_id=policy.id, document=document)
    client = client_of(alice)
    text = client.get(f"/policies/{policy.id}/versions/1/").content.decode()
    assert "Spot preference: <del>Force spot</del>" in text
    assert "Spot preference: <ins>None</ins>" in text
    client.post(f"/policies/{policy.id}/versions/1/")
    policy.refresh_from_db()
    assert (policy.number, policy.document["placement"]["spot"]) == (3, "none")


def test_the_registry_applies_policies_and_templates_to_many(
    alice: Persona, client_of: Callable, policy: Policy, reported: Cluster
) -> None:
    template = services.save_template(actor=alice.actor, values={"name": "Only c7", "families": ["c7i"]})
    client = client_of(alice)
    client.post("/clusters/bulk", {"id": [str(reported.id)], "action": "policy", "policy": str(policy.id)})
    client.post("/clusters/bulk", {"id": [str(reported.id)], "action": "template", "template": str(template.id)})
    assert PolicyAssignment.objects.for_org(alice.organization).get().cluster_id == reported.id
    clusters.refigure(cluster_id=reported.id)
    drift = client.get(f"/api/clusters/{reported.id}/drift").json()
    assert (drift["template"], drift["drifted_nodes"]) == ("Only c7", 5)


def test_the_cluster_policy_over_http(alice: Persona, reported: Cluster) -> None:
    client = by_session(alice)
    url = f"/api/clusters/{reported.id}/policy"
    assert client.get(url).status_code == 404
    made = client.put(url, {"document": {"placement": {"spot": "prefer"}}, "mode": "enforce"}, format="json")
    assert made.status_code == 200, made.json()
    assert (made.json()["policy"]["name"], made.json()["mode"]) == ("prod", "enforce")
    again = client.put(url, {"document": {"placement": {"spot": "force"}}}, format="json").json()
    assert (again["policy"]["version"], again["mode"]) == (2, "enforce")
    wrong = client.put(url, {"document": {"placement": {"spot": "always"}}}, format="json")
    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["placement.spot"])
    assert client.delete(url).status_code == 204


def test_policies_and_templates_over_http(alice: Persona) -> None:
    client = by_session(alice)
    made = client.post("/api/node-templates", {"name": "General", "families": ["m5"], "disk_gib": 80}, format="json")
    assert (made.status_code, made.json()["is_default"], made.json()["disk_gib"]) == (201, True, 80)
    one = made.json()["id"]
    check = client.post("/api/node-templates/check", {"families": ["g4dn"], "architectures": ["arm64"]}, format="json")
    assert [c["subject"] for c in check.json()["conflicts"]] == ["g4dn", ""]
    assert check.json()["price"]["average_hourly"] is None
    yaml = client.get(f"/api/node-templates/{one}/karpenter?cluster=prod").content.decode()
    taken = client.post("/api/node-templates/import", {"manifest": yaml}, format="json")
    assert taken.status_code == 422
    assert "General: There is a template called General already." in taken.json()["errors"]["manifest"]
    client.patch(f"/api/node-templates/{one}", {"name": "Renamed"}, format="json")
    taken = client.post("/api/node-templates/import", {"manifest": yaml}, format="json")
    assert (taken.status_code, taken.json()["templates"][0]["families"]) == (201, ["m5"])
    policy = client.post("/api/policies", {"name": "P", "document": {"autoscaling": {"template": one}}}, format="json")
    assert policy.status_code == 201
    gone = client.delete(f"/api/node-templates/{one}")
    assert (gone.status_code, gone.json()["code"]) == (409, "conflict")
    listed = client.get("/api/node-templates").json()["results"]
    assert [row["used_by"]["policies"] for row in listed if row["id"] == one] == [
        [{"id": policy.json()["id"], "name": "P"}]
    ]
    stale = client.put(f"/api/policies/{policy.json()['id']}", {"document": {}, "version": 7}, format="json")
    assert stale.status_code == 409


def test_the_pages_ask_as_many_questions_about_three_rows_as_about_one(alice: Persona, client_of: Callable) -> None:
    client = client_of(alice)
    first = services.create_policy(actor=alice.actor, name="Policy 0")

    def questions() -> tuple[int, int]:
        found = []
        for path in ("/policies/", f"/policies/{first.id}/"):
            client.get(path)
            with CaptureQueriesContext(connection) as asked:
                assert client.get(path).status_code == 200
            found.append(len(asked))
        return found[0], found[1]

    def follow(number: int) -> None:
        made = clusters.create_cluster(actor=alice.actor, name=f"cluster {number}").cluster
        services.apply_policy(actor=alice.actor, policy_id=first.id, cluster_ids=[made.id])
        services.create_policy(actor=alice.actor, name=f"Another {number}")
        services.save_policy(
            actor=alice.actor, policy_id=first.id, document={"rightsizing": {"headroom_percent": 20 + number}}
        )

    follow(1)
    one = questions()
    follow(2)
    follow(3)
    assert questions() == one
