"""The agent as a process of its own, a fake API server, and this platform on a real socket."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusters import selectors, services
from clusters.models import Cluster
from clusters.services import polling
from tests.fakes.kube import FakeKube
from tests.personas import Persona

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.integration
@pytest.mark.django_db(transaction=True)
def test_one_snapshot_of_a_real_agent_process(
    live_server: Any, alice: Persona, client_of: Callable, prices: None
) -> None:
    made = services.create_cluster(actor=alice.actor, name="lark-prod")
    with FakeKube() as kube:
        kube.seed(nodes=4, pods=30)
        done = subprocess.run(
            [sys.executable, "-m", "agent", "cluster", "--once", "--url", live_server.url, "--api-server", kube.url],
            cwd=ROOT,
            env={**os.environ, "CURFEW_TOKEN": made.token},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    services.refigure(cluster_id=made.cluster.id)
    row = Cluster.objects.all_orgs().get()
    assert (row.state, row.node_count, row.pod_count, row.distribution) == ("live", 4, 30, "eks")
    assert row.hourly_cost
    assert row.used_cpu_milli
    summary = selectors.summary_of(actor=alice.actor, cluster=row)
    assert summary is not None
    assert sum(group["nodes"] for group in summary.groups) == 4
    page = client_of(alice).get(f"/clusters/{row.id}/?tab=nodes").content.decode()
    assert "EKS managed" in page or "Karpenter" in page


@pytest.mark.integration
@pytest.mark.django_db(transaction=True)
def test_a_cluster_without_an_agent_is_read_on_the_same_way(
    alice: Persona, monkeypatch: pytest.MonkeyPatch, prices: None
) -> None:
    from contextlib import contextmanager

    from kubernetes.client import ApiClient, Configuration

    from tests.clusters.test_kubeconfig import changed

    made = services.create_cluster(actor=alice.actor, name="polled", kubeconfig_text=changed())
    with FakeKube() as kube:
        kube.seed(nodes=3, pods=12)

        @contextmanager
        def opened(cluster: Cluster) -> Any:
            with ApiClient(Configuration(host=kube.url)) as api:
                api.configuration.retries = False
                yield api

        monkeypatch.setattr(polling, "opened", opened)
        assert services.poll_cluster(cluster_id=made.cluster.id) is True
        row = Cluster.objects.all_orgs().get()
        assert (row.state, row.node_count) == ("live", 3)
        kube.deny(resource="nodes")
        assert services.poll_cluster(cluster_id=row.id) is False
        row = Cluster.objects.all_orgs().get()
        assert row.state == "error"
        assert "could not be read" in row.cause
        assert row.poll_failures == 1
        kube.denied.clear()
        assert services.poll_cluster(cluster_id=row.id) is True
        assert Cluster.objects.all_orgs().get().state == "live"
