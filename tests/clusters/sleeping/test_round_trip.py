"""A night: everything asleep that may, nothing that may not, and in the morning not one field that differs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clusters.models import Cluster
from clusters.sleeping import services
from clusters.sleeping.kinds import ANNOTATION
from clusters.sleeping.models import SleepSnapshot
from tests.clusters.sleeping import fleet
from tests.clusters.sleeping.aws import MotoCloud
from tests.clusters.sleeping.conftest import ended
from tests.clusters.sleeping.life import LivingKube
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]


def test_a_night_leaves_no_trace(
    cluster: Cluster, kube: LivingKube, cloud: MotoCloud, alice: Persona, work: Callable[[], list[str]]
) -> None:
    fleet.build(kube, cloud, count=40, asgs=4, managed=1)
    services.set_rules(
        actor=alice.actor,
        cluster_id=cluster.id,
        selective=False,
        groups=[],
        critical=["monitoring"],
        keep=[],
        to_zero=False,
        on_demand=False,
    )
    objects, groups = kube.picture(), cloud.state()
    sleep = services.request_sleep(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert ended(sleep)[0] == "succeeded", ended(sleep)
    assert sleep.result.get("failed") is None
    cluster.refresh_from_db()
    assert cluster.state == "asleep"
    awake = {d["metadata"]["name"] for d in kube.all("deployments") if d["spec"].get("replicas", 1)}
    assert awake == {"coredns", "cert-manager", "curfew-agent", "policy", "grafana", "ledger", "cache", "trainer"}
    sizes = {name: state["sizes"] for name, state in cloud.state().items()}
    assert [sizes[f"workers-{n}"] for n in (1, 2, 3)] == [(0, 0, 0)] * 3
    assert sizes["managed managed-0"] == {"minSize": 0, "desiredSize": 0, "maxSize": 3}
    assert {n["metadata"]["labels"].get("group") for n in kube.all("nodes")} == {"system"}
    assert kube.all("nodeclaims") == []
    assert all(c["spec"]["suspend"] for c in kube.all("cronjobs"))
    wake = services.request_wake(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert ended(wake)[0] == "succeeded", ended(wake)
    assert kube.picture() == objects
    assert cloud.state() == groups
    snapshot = SleepSnapshot.objects.all_orgs().get()
    assert snapshot.restored_at is not None
    assert not any(ANNOTATION in str(o["metadata"].get("annotations")) for o in kube.all("deployments"))
