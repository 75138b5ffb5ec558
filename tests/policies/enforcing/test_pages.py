"""What a policy does to nodes, on its page and over the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from clusters.models import Cluster as Row
from clusters.models import Summary
from core import clock
from policies.enforcing import looking, services
from policies.enforcing.models import Enforcement, NodeAction
from tests.personas import Persona
from tests.policies.enforcing.world import Cloud, Cluster, deployment

pytestmark = [pytest.mark.django_db, pytest.mark.integration]


def test_exempt_workloads_are_unmanaged_with_their_cost(
    row: Row, apply_policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"kind": "Deployment", "namespace": "x", "name": "a", "template": "t"}
    tables = {"workloads": {"1": told}, "specs": {"t": {"labels": {"curfew.dev/unmanaged": "true"}}}}
    monkeypatch.setattr(looking.reports, "load", lambda cluster, only: tables)
    rows = [
        {"namespace": "pay", "kind": "Deployment", "name": "ledger", "pods": 2, "hourly": "0.10"},
        {"namespace": "kube-system", "kind": "Deployment", "name": "coredns", "pods": 2, "hourly": None},
        {"namespace": "shop", "kind": "Deployment", "name": "web", "pods": 2, "hourly": "0.50"},
        {
            "namespace": "x",
            "kind": "Deployment",
            "name": "a",
            "labels": {"curfew.dev/unmanaged": "true"},
            "hourly": "0",
        },
    ]
    Summary.objects.create(organization_id=row.organization_id, cluster=row, at=clock.now(), workloads=rows)
    apply_policy("recommend", exemptions={"namespaces": ["pay"]})
    policy = looking.policy_of(row)
    assert policy is not None
    found = looking.unmanaged(row, policy.document.exemptions)
    assert [one["name"] for one in found["workloads"]] == ["ledger", "coredns", "a"]
    assert (found["hourly"], found["monthly"], found["savings_monthly"]) == ("0.10000000", "73.00", "0.00")
    assert found["unpriced"] == 1


def test_the_page_and_the_api_tell_the_same(
    row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any, alice: Persona, bob: Persona, mallory: Persona
) -> None:
    cloud.template_asg("workers", 1, 3, 5)
    kube.create(deployment("web", 2))
    kube.live()
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    work()
    looking.plan_cluster(cluster_id=row.id)
    client = Client()
    client.force_login(bob.user)
    told = client.get(f"/api/clusters/{row.id}/policy/nodes").json()
    assert (told["mode"], told["engine"], told["holds"]) == ("enforce", "direct", "")
    assert told["actions"][-1]["outcome"] == "done"
    assert told["actions"][-1]["ledger_hourly_after"] is None, "the ledger has no price of this cluster yet"
    assert told["unmanaged"]["savings_monthly"] == "0.00"
    assert told["staying"], "the nodes that are left stay for a reason"
    page = client.get(f"/policies/clusters/{row.id}/nodes/").content.decode()
    assert "Why the others stay" in page
    for one in told["staying"]:
        assert one["node"] in page
    assert told["actions"][-1]["nodes"][0] in page
    fragment = client.get(f"/policies/clusters/{row.id}/nodes/", headers={"HX-Request": "true"}).content.decode()
    assert fragment.strip().startswith('<div id="policy-nodes"')
    stranger = Client()
    stranger.force_login(mallory.user)
    assert stranger.get(f"/api/clusters/{row.id}/policy/nodes").status_code == 404


def test_a_node_stays_for_the_reason_that_its_pods_are_exempt(
    row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any
) -> None:
    cloud.template_asg("workers", 1, 2, 5)
    kube.create(deployment("web", 2))
    kube.live()
    apply_policy(exemptions={"namespaces": ["shop"]})
    looking.plan_cluster(cluster_id=row.id)
    words = " ".join(one["why"] for one in Enforcement.objects.all_orgs().get().staying)
    assert "is exempt" in words
    assert "marked do-not-disrupt" not in words


def test_a_damaged_policy_forbids_everything(row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any) -> None:
    assignment = apply_policy()
    assignment.policy.document = {"consolidation": {"budgets": [{"nodes": "many"}]}}
    assignment.policy.save()
    assert looking.plan_cluster(cluster_id=row.id) == "unreadable"
    assert looking.react(cluster_id=row.id) == []
    assert "nothing is done" in Enforcement.objects.all_orgs().get().problem


def test_an_action_needs_a_policy_that_allows_it(row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any) -> None:
    apply_policy("recommend")
    policy = looking.policy_of(row)
    assert policy is not None
    assert services.begin(cluster=row, policy=policy, kind=looking.Kind.REMOVE, reason="x", nodes=["a"]) is None
    assert not NodeAction.objects.all_orgs().exists()


def test_clusters_that_are_only_advised_are_looked_at_less_often(row: Row, apply_policy: Any) -> None:
    assignment = apply_policy("recommend")
    every, slow = timedelta(seconds=25), timedelta(minutes=5)
    assert looking.due_for_plan(every, slow) == [row.id]
    services.note(row, planned_at=clock.now() - timedelta(minutes=1))
    assert looking.due_for_plan(every, slow) == []
    assignment.mode = "enforce"
    assignment.save()
    assert looking.due_for_plan(every, slow) == [row.id]
    services.note(row, planned_at=clock.now())
    assert looking.due_for_plan(every, slow) == []
