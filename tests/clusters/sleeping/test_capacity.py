"""No capacity in the morning: other zones, then on-demand where that is allowed, then the provider's own words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from clusters.models import Cluster
from clusters.providers.groups import Group, GroupKind, LaunchFailure, Sizes
from clusters.sleeping import executors, services, waiting, watch
from clusters.sleeping.models import SleepSnapshot
from operations.models import Operation
from tests.clusters.sleeping import fleet
from tests.clusters.sleeping.aws import MotoCloud
from tests.clusters.sleeping.conftest import ended
from tests.clusters.sleeping.life import LivingKube
from tests.personas import Persona

FULL = "We currently do not have sufficient m5.xlarge capacity in the Availability Zone you requested"


@pytest.mark.unit
def test_remedies_in_their_order() -> None:
    group = Group(GroupKind.ASG, "g", Sizes(0, 2, 4), subnets={"s1": "", "s2": "", "s3": ""}, on_demand=20)
    here = LaunchFailure(datetime.now(UTC), FULL, True, zone="s1")
    somewhere = LaunchFailure(datetime.now(UTC), FULL, True)
    assert waiting.next_remedy(group, [here], [], may_buy=True) == {"subnets": ["s2", "s3"]}
    assert waiting.next_remedy(group, [somewhere], [], may_buy=True) == {"on_demand": 100}
    assert waiting.next_remedy(group, [somewhere], [], may_buy=False) is None
    everywhere = [LaunchFailure(None, FULL, True, zone=f"s{n}") for n in (1, 2, 3)]
    assert waiting.next_remedy(group, everywhere, [], may_buy=True) == {"on_demand": 100}
    managed = Group(GroupKind.MANAGED, "m", Sizes(0, 2, 4))
    assert waiting.next_remedy(managed, [here], [], may_buy=True) is None


@pytest.mark.django_db
@pytest.mark.integration
def test_a_full_zone_is_left_and_given_back(
    cluster: Cluster,
    kube: LivingKube,
    cloud: MotoCloud,
    alice: Persona,
    work: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud.prepare(fleet.NAME)
    cloud.asg("workers", 1, 2, 3)
    kube.create(fleet.deployment("web"))
    kube.live()
    before = kube.picture(), cloud.state()
    services.request_sleep(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert not kube.all("nodes")
    steered: list[list[str]] = []
    real = waiting._steer

    def steer(hands: Any, group: Group, remedy: Any) -> None:
        real(hands, group, remedy)
        steered.append(cloud.state()["workers"]["subnets"])
        kube.living = True  # the other zones have capacity

    monkeypatch.setattr(waiting, "_steer", steer)
    kube.living = False  # no machine joins
    details = '{"Subnet ID":"' + cloud.subnets[0] + '"}'
    when = "2099-01-01T00:00:00Z"
    cloud.failures["workers"] = [{"StatusCode": "Failed", "StatusMessage": FULL, "StartTime": when, "Details": details}]
    wake = services.request_wake(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert ended(wake)[0] == "succeeded", ended(wake)
    assert steered[0] == sorted(cloud.subnets[1:])
    assert (kube.picture(), cloud.state()) == before, "its own subnets are given back"


@pytest.mark.django_db
@pytest.mark.integration
def test_trouble_speaks_the_providers_words(
    cluster: Cluster,
    kube: LivingKube,
    cloud: MotoCloud,
    alice: Persona,
    work: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud.prepare(fleet.NAME)
    cloud.asg("workers", 1, 2, 3)
    kube.create(fleet.deployment("web"))
    kube.live()
    before = kube.picture(), cloud.state()
    services.request_sleep(actor=alice.actor, cluster_id=cluster.id)
    work()
    monkeypatch.setattr(executors, "NODES_SECONDS", 0.5)
    kube.living = False
    cloud.failures["workers"] = [{"StatusCode": "Failed", "StatusMessage": FULL, "StartTime": "2099-01-01T00:00:00Z"}]
    wake = services.request_wake(actor=alice.actor, cluster_id=cluster.id)
    work()
    status, error, _ = ended(wake)
    assert status == "failed"
    assert FULL in error
    snapshot = SleepSnapshot.objects.all_orgs().get()
    assert snapshot.restored_at is None, "what must be restored is kept"
    assert FULL in snapshot.trouble
    left = cloud.state()
    assert watch.watch_cluster(cluster_id=cluster.id) == [], "its own half-done wake is nobody's fight"
    assert (watch.watch_due(), cloud.state()) == (0, left)
    kube.living = True
    cloud.failures.clear()
    again = services.request_wake(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert ended(again)[0] == "succeeded"
    assert (kube.picture(), cloud.state()) == before
    assert Operation.objects.all_orgs().filter(status="succeeded").count() == 2


@pytest.mark.django_db
@pytest.mark.integration
def test_one_node_that_stays_does_not_hide_that_the_others_are_missing(
    cluster: Cluster,
    kube: LivingKube,
    cloud: MotoCloud,
    alice: Persona,
    work: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What can run is woken; the wake ends as trouble in the provider's words, and a later one ends well."""
    cloud.prepare(fleet.NAME)
    cloud.asg("system", 1, 1, 1)
    cloud.asg("workers", 1, 2, 3)
    kube.create(fleet.deployment("coredns", "kube-system", replicas=1, nodeSelector=fleet.SYSTEM))
    kube.create(fleet.deployment("web", replicas=2, nodeSelector={"group": "workers"}))
    kube.live()
    before = kube.picture(), cloud.state()
    services.request_sleep(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert len(kube.all("nodes")) == 1
    for name in ("NODES_SECONDS", "WAVE_SECONDS"):
        monkeypatch.setattr(executors, name, 0.3)
    kube.living = False
    cloud.failures["workers"] = [{"StatusCode": "Failed", "StatusMessage": FULL, "StartTime": "2099-01-01T00:00:00Z"}]
    wake = services.request_wake(actor=alice.actor, cluster_id=cluster.id)
    work()
    status, error, _ = ended(wake)
    assert status == "failed"
    assert "2 nodes of workers did not join; everything else is awake" in error
    assert FULL in error
    assert (kube.picture(), cloud.state()) == before, "everything is restored but what the provider lacks"
    assert SleepSnapshot.objects.all_orgs().get().trouble == error
    kube.living = True
    sleep = services.request_sleep(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert ended(sleep)[0] == "succeeded", "half awake, it may sleep again"
    assert cloud.state()["workers"]["sizes"] == (0, 0, 0)
    cloud.failures.clear()
    again = services.request_wake(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert ended(again)[0] == "succeeded"
    assert SleepSnapshot.objects.all_orgs().get().restored_at is not None
