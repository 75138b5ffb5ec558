"""The pages and the API of clusters that run tasks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from rest_framework.test import APIClient

from clusterjobs.models import JobPool
from clusters.enums import Method
from clusters.models import Cluster
from core import clock
from taskrunner.models import Worker
from tests.personas import Persona

pytestmark = [pytest.mark.integration, pytest.mark.django_db]


@pytest.fixture
def cluster(alice: Persona) -> Cluster:
    row: Cluster = Cluster.objects.create(
        organization_id=alice.organization.id, name="lark-batch", method=Method.KUBECONFIG, credentials="sealed",
        cpu_milli=8000, requested_cpu_milli=2000, memory_bytes=32 * 2**30, created_at=clock.now(),
    )  # fmt: skip
    return row


def test_offer_change_withdraw(alice: Persona, cluster: Cluster, client_of: Callable[[Persona], Client]) -> None:
    client = client_of(alice)
    url = f"/workers/clusters/{cluster.id}"
    assert "Let it run tasks" in client.get("/workers/clusters").text
    assert 'value="6.0"' in client.get(url).text  # what nothing has reserved
    given = {"cores": "4", "memory": "8", "namespace": "kube-system"}
    wrong = client.post(url, given)
    assert (wrong.status_code, "a namespace of their own" in wrong.text) == (422, True)
    assert client.post(url, {**given, "namespace": "jobs"}).status_code == 302
    worker = Worker.objects.all_orgs().get()
    assert (worker.name, worker.cpu, worker.memory, worker.sleepable_id) == ("lark-batch", 4000, 8192, cluster.id)
    assert "4 cores, 8 GiB" in client.get("/workers/clusters").text
    assert client.post(url, {**given, "cores": "2", "namespace": "jobs"}).status_code == 302
    worker.refresh_from_db()
    assert (worker.cpu, worker.wanted) == (2000, "cordoned")
    assert client.post(f"{url}/withdraw").status_code == 302
    assert (JobPool.objects.all_orgs().count(), Worker.objects.all_orgs().count()) == (0, 0)


def test_an_agent_alone_is_no_way_in(alice: Persona, cluster: Cluster, api_of: Callable[[Persona], APIClient]) -> None:
    Cluster.objects.all_orgs().update(method=Method.AGENT, credentials="")
    answer = api_of(alice).put(f"/api/clusters/{cluster.id}/worker-pool", {"cpu": 1000, "memory": 1024}, format="json")
    assert (answer.status_code, "kubeconfig" in answer.json()["detail"]) == (409, True)
