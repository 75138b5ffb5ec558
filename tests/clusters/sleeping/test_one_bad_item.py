"""One thing that cannot be changed does not hold up the others, and is not forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clusters.models import Cluster
from clusters.sleeping import hands, services
from clusters.sleeping.models import SleepSnapshot
from operations import services as operations
from tests.clusters.sleeping import fleet
from tests.clusters.sleeping.aws import MotoCloud
from tests.clusters.sleeping.conftest import ended
from tests.clusters.sleeping.life import LivingKube
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]


def test_a_refused_object_stays_awake_with_its_node_and_the_rest_sleeps(
    cluster: Cluster, kube: LivingKube, cloud: MotoCloud, alice: Persona, work: Callable[[], Any]
) -> None:
    cloud.prepare(fleet.NAME)
    cloud.asg("workers", 0, 1, 3)
    cloud.asg("locked", 0, 1, 3)
    held = {"nodeSelector": {"group": "locked"}}
    for obj in (fleet.deployment("api"), fleet.deployment("locked", replicas=1, **held), fleet.deployment("web")):
        kube.create(obj)
    kube.live()
    before = kube.picture(), cloud.state()
    kube.fail("PATCH /apis/apps/v1/namespaces/shop/deployments/locked", status=403, times=-1)
    sleep = services.request_sleep(actor=alice.actor, cluster_id=cluster.id)
    work()
    status, _, result = ended(sleep)
    assert status == "succeeded"
    assert list(result["failed"]) == ["Deployment/shop/locked"]
    assert [d["metadata"]["name"] for d in kube.all("deployments") if d["spec"]["replicas"]] == ["locked"]
    assert cloud.state()["locked"]["sizes"] == (1, 1, 1)
    kube.faults.clear()
    kube.fail("PATCH /apis/apps/v1/namespaces/shop/deployments/api", status=500, times=9)
    wake = services.request_wake(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert ended(wake)[0] == "succeeded", ended(wake)
    assert (kube.picture(), cloud.state()) == before


def test_a_cancelled_sleep_is_undone(
    cluster: Cluster, kube: LivingKube, cloud: MotoCloud, alice: Persona, work: Callable[[], Any]
) -> None:
    cloud.prepare(fleet.NAME)
    cloud.asg("workers", 0, 1, 3)
    for n in range(12):
        kube.create(fleet.deployment(f"w{n}", replicas=1))
    kube.live()
    before = kube.picture(), cloud.state()
    sleep = services.request_sleep(actor=alice.actor, cluster_id=cluster.id)

    count = iter(range(100))

    def renew(original: Callable[[], None]) -> Callable[[], None]:
        def counted() -> None:
            if next(count) == 5:
                operations.cancel_operation(actor=alice.actor, operation_id=sleep.id)
            original()

        return counted

    made = hands.Hands.__init__

    def init(self: Any, kube_: Any, groups: Any, fence: Any) -> None:
        made(self, kube_, groups, renew(fence))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hands.Hands, "__init__", init)
        work()
    assert ended(sleep)[0] == "cancelled"
    assert SleepSnapshot.objects.all_orgs().get().restored_at is not None
    assert (kube.picture(), cloud.state()) == before
    assert len(kube.writes) < 40, "it stopped on the way"
