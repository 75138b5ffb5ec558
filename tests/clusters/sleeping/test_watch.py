"""Fighters are named, put back three times an hour and then left alone; people are respected; and waking without rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command

from clusters.models import Cluster
from clusters.services import connecting
from clusters.sleeping import files, services, watch
from clusters.sleeping.models import SleepFight, SleepSnapshot
from clusters.sleeping.sleepable import ClusterKind
from core import clock
from core.errors import InvalidState
from core.sleepable import SleepState
from tests.clusters.sleeping import fleet
from tests.clusters.sleeping.aws import MotoCloud
from tests.clusters.sleeping.life import LivingKube
from tests.personas import Persona

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
Work = Callable[[], list[str]]


@pytest.fixture
def asleep(cluster: Cluster, kube: LivingKube, cloud: MotoCloud, alice: Persona, work: Work) -> Any:
    """A small cluster, asleep, and its picture before."""
    cloud.prepare(fleet.NAME)
    cloud.asg("workers", 1, 2, 3)
    for obj in (fleet.deployment("web", replicas=2), fleet.deployment("api", replicas=3), *fleet.gitops()[:1]):
        kube.create(obj)
    kube.live()
    before = kube.picture(), cloud.state()
    services.request_sleep(actor=alice.actor, cluster_id=cluster.id)
    work()
    return before


def scale(kube: LivingKube, name: str, replicas: int, manager: str) -> None:
    answer = httpx.patch(
        f"{kube.url}/apis/apps/v1/namespaces/shop/deployments/{name}/scale?fieldManager={manager}",
        content=json.dumps({"spec": {"replicas": replicas}}),
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200, answer.text


def state(alice: Persona, cluster: Cluster) -> tuple[SleepState, str]:
    (view,) = ClusterKind().list(alice.actor, [cluster.id])
    return view.state, view.cause


def test_a_controller_is_named_and_fought_three_times_an_hour(
    asleep: Any, cluster: Cluster, kube: LivingKube, alice: Persona, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = clock.now()
    for number in range(1, 6):
        monkeypatch.setattr(clock, "now", lambda number=number: began + timedelta(minutes=number))
        if kube.get("deployments", "shop", "web")["spec"]["replicas"] == 0:
            scale(kube, "web", 2, "argocd-controller")
        (fight,) = watch.watch_cluster(cluster_id=cluster.id)
        assert (fight.target, fight.manager, fight.value) == ("Deployment/shop/web", "argocd-controller", "2")
    assert kube.get("deployments", "shop", "web")["spec"]["replicas"] == 2, "left alone after three times"
    outcomes = list(SleepFight.objects.all_orgs().order_by("id").values_list("outcome", flat=True))
    assert outcomes == ["reapplied"] * 3 + ["contested"]
    word, cause = state(alice, cluster)
    assert word == SleepState.CONTESTED
    assert "argocd-controller" in cause
    monkeypatch.setattr(clock, "now", lambda: began + timedelta(minutes=65))
    watch.watch_cluster(cluster_id=cluster.id)
    assert kube.get("deployments", "shop", "web")["spec"]["replicas"] == 0, "the hour is over"
    assert state(alice, cluster)[0] == SleepState.ASLEEP
    services.request_wake(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert kube.picture() == asleep[0], "what was remembered first is what comes back"


def test_a_person_is_respected(asleep: Any, cluster: Cluster, kube: LivingKube, alice: Persona, work: Work) -> None:
    scale(kube, "api", 1, "kubectl-scale")
    for _ in range(3):
        watch.watch_cluster(cluster_id=cluster.id)
    assert kube.get("deployments", "shop", "api")["spec"]["replicas"] == 1
    assert list(SleepFight.objects.all_orgs().values_list("manager", "outcome")) == [("kubectl-scale", "respected")]
    assert state(alice, cluster)[0] == SleepState.ASLEEP
    services.request_wake(actor=alice.actor, cluster_id=cluster.id)
    work()
    assert kube.get("deployments", "shop", "api")["spec"]["replicas"] == 1, "a change of somebody's stands"
    assert kube.get("deployments", "shop", "web")["spec"]["replicas"] == 2
    assert "annotations" not in kube.get("deployments", "shop", "api")["metadata"]


def test_a_cluster_that_sleeps_is_not_let_go_without_its_restore_file(
    asleep: Any, cluster: Cluster, kube: LivingKube, cloud: MotoCloud, alice: Persona, tmp_path: Path
) -> None:
    with pytest.raises(InvalidState):
        connecting.disconnect_cluster(actor=alice.actor, cluster_id=cluster.id)
    snapshot = SleepSnapshot.objects.all_orgs().get()
    saved = tmp_path / "restore.json"
    saved.write_text(json.dumps(files.restore_file(snapshot)))
    services.hand_over(actor=alice.actor, snapshot_id=snapshot.id)
    cluster.refresh_from_db()
    cluster.price_seq = 0
    connecting.disconnect_cluster(actor=alice.actor, cluster_id=cluster.id)
    SleepSnapshot.objects.all_orgs().update(entries=[], groups=[])  # the database knows nothing any more
    again = Cluster.objects.create(
        organization_id=alice.organization.id,
        name="again",
        method="kubeconfig",
        credentials="x",
        created_at=clock.now(),
    )
    for name in ("web", "api"):  # and somebody took our annotations off
        kube.change("deployments", "shop", name, {"metadata": {"annotations": None}})
    out = StringIO()
    call_command("wake", "--from-snapshot", str(saved), "--cluster", again.name, stdout=out)
    assert "done" in out.getvalue()
    assert (kube.picture(), cloud.state()) == asleep


def test_the_commands_do_it_alone(
    asleep: Any, cluster: Cluster, kube: LivingKube, cloud: MotoCloud, tmp_path: Path
) -> None:
    out = StringIO()
    call_command("wake", "cluster", cluster.name, "--json", stdout=out)
    assert json.loads(out.getvalue())["status"] == "succeeded"
    assert (kube.picture(), cloud.state()) == asleep
    call_command("sleep", "cluster", str(cluster.id), stdout=StringIO())
    assert kube.get("deployments", "shop", "web")["spec"]["replicas"] == 0
    snapshot = SleepSnapshot.objects.all_orgs().get(restored_at=None)
    call_command("wake", "--from-snapshot", str(snapshot.id), stdout=StringIO())
    assert (kube.picture(), cloud.state()) == asleep
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    for wrong in (["wake", "cluster", "nobody"], ["wake", "--from-snapshot", str(bad)], ["sleep", "teapot", "x"]):
        with pytest.raises(CommandError):
            call_command(*wrong, stdout=StringIO())
