"""Karpenter's NodePools: limits, fixed numbers and spot set from the page, on the API server and through an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import Client
from kubernetes.client import ApiClient, Configuration

from accounts import selectors as accounts
from audit.models import AuditEntry
from clusters import extensions, services
from clusters.models import Cluster, Summary
from clusters.providers import karpenter
from clusters.providers.kube import HttpKube
from clusters.sleeping import gateway
from core import encryption
from core.errors import InvalidInput, InvalidState, NotFound
from operations import runner
from operations.models import Operation
from tests.clusters.conftest import run_group_change
from tests.clusters.report import Reporter, records
from tests.clusters.sleeping.by_agent import UID, Agent
from tests.fakes import kube_objects as make
from tests.fakes.kube import FakeKube
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
ARCH = {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}


def _static(name: str) -> dict[str, Any]:
    pool = make.node_pool(name)
    del pool["spec"]["weight"]
    return {**pool, "spec": {**pool["spec"], "replicas": 3, "limits": {"nodes": "5"}}}


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with FakeKube() as server:
        pool = make.node_pool("general")
        pool["spec"]["template"]["spec"]["requirements"].insert(0, ARCH)
        odd = make.node_pool("odd")
        odd["spec"]["template"]["spec"]["requirements"][0]["operator"] = "NotIn"
        for obj in (pool, odd, _static("fixed")):
            server.create(obj)
        yield server


@pytest.fixture
def prod(kube: FakeKube, alice: Persona, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster that reported its pools, reached with a kubeconfig's credentials."""
    monkeypatch.setattr(runner._LeaseKeeper, "start", lambda self: None)
    made = services.create_cluster(actor=alice.actor, name="lark-prod")
    token = accounts.agent_token(made.token)
    assert token is not None
    objects = [make.node("n1", group="workers"), *kube.all("nodepools", "karpenter.sh")]
    assert services.ingest_snapshot(token=token, body=Reporter(records(*objects), uid=UID).full())[0] == 200
    services.refigure(cluster_id=made.cluster.id)
    row = Cluster.objects.all_orgs().get(id=made.cluster.id)
    row.credentials = encryption.seal({"token": "x"}, bound_to=row.seal_name)
    row.save(update_fields=["credentials"])

    @contextmanager
    def reached(cluster: Cluster) -> Iterator[HttpKube]:
        with ApiClient(Configuration(host=kube.url)) as api:
            yield HttpKube(api)

    monkeypatch.setattr(gateway, "open_kube", reached)
    return row


def _spec(kube: FakeKube, name: str) -> dict[str, Any]:
    found = next(p for p in kube.all("nodepools", "karpenter.sh") if p["metadata"]["name"] == name)
    spec: dict[str, Any] = found["spec"]
    return spec


def _row(cluster: Cluster, name: str) -> dict[str, Any]:
    groups = Summary.objects.all_orgs().get(cluster=cluster).groups
    return next(group for group in groups if group["name"] == name)


def test_limits_set_on_the_page_reach_the_pool(
    kube: FakeKube, prod: Cluster, alice: Persona, bob: Persona, client_of: Callable[[Persona], Client]
) -> None:
    page = client_of(alice).get(f"/clusters/{prod.id}/?tab=nodes").content.decode()
    assert 'value="4000Gi"' in page
    assert 'aria-label="Memory limit of general"' in page
    assert "Memory limit of fixed" not in page, "only nodes are limited where their number is fixed"
    assert "Memory limit of" not in client_of(bob).get(f"/clusters/{prod.id}/?tab=nodes").content.decode()
    posted = {"kind": "karpenter", "name": "general", "cpu": "200", "memory": "", "nodes": "12"}
    assert client_of(bob).post(f"/clusters/{prod.id}/groups", posted).status_code == 403
    assert client_of(alice).post(f"/clusters/{prod.id}/groups", posted).status_code == 302
    done = run_group_change()
    assert done.status == "succeeded", done.error
    assert done.result == {
        "before": "cpu 1000, memory 4000Gi, spot/on-demand",
        "after": "cpu 200, nodes 12, spot/on-demand",
        "spot": None,
    }
    assert _spec(kube, "general")["limits"] == {"cpu": "200", "nodes": "12"}
    assert _row(prod, "general")["limits"] == {"cpu": "200", "nodes": "12"}, "the page shows it before the next report"
    entry = AuditEntry.objects.all_orgs().get(verb="cluster.group_change_requested")
    assert entry.changes == {
        "limits.cpu": ["1000", "200"],
        "limits.memory": ["4000Gi", None],
        "limits.nodes": [None, "12"],
    }


def test_spot_is_turned_off_and_on_again_and_nothing_else_is_touched(
    kube: FakeKube, prod: Cluster, alice: Persona, client_of: Callable[[Persona], Client]
) -> None:
    before = _spec(kube, "general")
    page = client_of(alice).get(f"/clusters/{prod.id}/?tab=nodes").content.decode()
    assert page.count("Spot mode<") == 2, "not for the pool whose purchase is written otherwise"
    for wanted, values in (("0", ["on-demand"]), ("1", ["spot", "on-demand"])):
        posted = {"kind": "karpenter", "name": "general", "spot": wanted}
        assert client_of(alice).post(f"/clusters/{prod.id}/groups", posted).status_code == 302
        assert run_group_change().status == "succeeded"
        capacity = {"key": "karpenter.sh/capacity-type", "operator": "In", "values": values}
        assert _spec(kube, "general")["template"]["spec"]["requirements"] == [ARCH, capacity]
        assert _row(prod, "general")["capacity"] == values
    assert _spec(kube, "general") == before


def test_a_fixed_number_of_nodes_is_set_through_the_api(
    kube: FakeKube, prod: Cluster, alice: Persona, api_of: Callable[[Persona], Any]
) -> None:
    url = f"/api/clusters/{prod.id}/node-groups"
    asked = {"kind": "karpenter", "name": "fixed", "replicas": 6, "limits": {"nodes": "8"}}
    answer = api_of(alice).post(url, asked, format="json")
    assert answer.status_code == 202, answer.content
    assert run_group_change().status == "succeeded"
    assert (_spec(kube, "fixed")["replicas"], _spec(kube, "fixed")["limits"]) == (6, {"nodes": "8"})
    for wrong in (
        {"kind": "karpenter", "name": "fixed", "low": 1, "high": 2},
        {"kind": "managed", "name": "x", "replicas": 1},
        {"kind": "karpenter", "name": "fixed", "replicas": 9},
        {"kind": "karpenter", "name": "fixed", "limits": {"cpu": "8"}},
        {"kind": "karpenter", "name": "general", "replicas": 2},
    ):
        assert api_of(alice).post(url, wrong, format="json").status_code in (400, 422), wrong
    assert Operation.objects.all_orgs().filter(kind="cluster.group").count() == 1


@pytest.mark.parametrize(
    "limits", [{"cpu": "many"}, {"cpu": "-1"}, {"memory": "400"}, {"nodes": "1.5"}, {"nvidia.com/gpu": "2"}, {}]
)
def test_what_is_no_limit_is_refused(prod: Cluster, alice: Persona, limits: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        services.request_pool_change(actor=alice.actor, cluster_id=prod.id, name="general", limits=limits or None)


def test_what_cannot_be_is_refused_with_its_reason(
    prod: Cluster, alice: Persona, mallory: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(who: Persona, name: str = "general", **more: Any) -> Operation:
        return services.request_pool_change(actor=who.actor, cluster_id=prod.id, name=name, **(more or {"spot": False}))

    with pytest.raises(NotFound):
        ask(mallory)
    with pytest.raises(NotFound):
        ask(alice, "nobody")
    with pytest.raises(InvalidInput) as odd:
        ask(alice, "odd")
    assert "change the NodePool itself" in odd.value.errors["spot"][0]
    monkeypatch.setattr(extensions, "_pool_owners", [lambda cluster, name: "its optimization policy"])
    with pytest.raises(InvalidState, match="written by its optimization policy"):
        ask(alice)
    monkeypatch.setattr(extensions, "_pool_owners", [])
    Cluster.objects.all_orgs().update(credentials="")
    with pytest.raises(InvalidState, match="with orders allowed"):
        ask(alice)
    Cluster.objects.all_orgs().update(credentials="sealed", state="asleep")
    with pytest.raises(InvalidState, match="Wake it first"):
        ask(alice)
    assert not Operation.objects.all_orgs().filter(kind="cluster.group").exists()


def test_the_api_servers_refusal_is_the_operations_reason(kube: FakeKube, prod: Cluster, alice: Persona) -> None:
    services.request_pool_change(actor=alice.actor, cluster_id=prod.id, name="general", limits={"cpu": "5"})
    kube.deny(verb="patch", resource="nodepools")
    failed = run_group_change()
    assert failed.status == "failed"
    assert "does not allow PATCH" in failed.error
    assert "nodepools/general" in failed.error
    assert _spec(kube, "general")["limits"]["cpu"] == "1000"


def test_through_an_agent_that_takes_orders(
    kube: FakeKube, prod: Cluster, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cluster.objects.all_orgs().update(credentials="")
    token = accounts.agent_token(services.reinstall(actor=alice.actor, cluster_id=prod.id).token)
    assert token is not None
    agent = Agent(Cluster.objects.all_orgs().get(id=prod.id), token, kube.url)
    agent.beat()
    monkeypatch.setattr(gateway, "open_kube", agent.reached)
    services.request_pool_change(
        actor=alice.actor, cluster_id=prod.id, name="general", limits={"cpu": "300"}, spot=False
    )
    done = run_group_change()
    assert done.status == "succeeded", done.error
    assert _spec(kube, "general")["limits"] == {"cpu": "300", "memory": "4000Gi"}
    assert karpenter.capacity_of(_spec(kube, "general")["template"]["spec"]["requirements"]) == ["on-demand"]


def test_a_pool_without_a_word_about_purchase_is_on_demand() -> None:
    assert karpenter.capacity_of([ARCH]) == ["on-demand"]
    assert karpenter.turned([ARCH], True)[1]["values"] == ["spot", "on-demand"]
    only = [{"key": karpenter.CAPACITY, "operator": "In", "values": ["spot"]}]
    assert karpenter.turned(only, False)[0]["values"] == ["on-demand"]
