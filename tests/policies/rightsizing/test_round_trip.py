"""Changes on an API server: made, watched, kept, taken back to the letter, and never made where they must not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from clusters.enums import State
from clusters.models import Cluster
from core import clock
from core.errors import Forbidden, InvalidState, NotFound
from operations.models import Operation
from policies.rightsizing import executors, judging, services
from policies.rightsizing.enums import MANAGER, Outcome
from policies.rightsizing.models import SizeChange, SizedWorkload
from tests.personas import Persona
from tests.policies.rightsizing.conftest import GIB, MIB, row, size
from tests.policies.rightsizing.kube import SHOP, RollingKube, box, deployment

pytestmark = [pytest.mark.integration, pytest.mark.django_db]
WEB = f"{SHOP}/Deployment/web"
LARGE = {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}


def only() -> SizeChange:
    found: SizeChange = SizeChange.objects.all_orgs().get()
    return found


def shrink(cluster: Cluster) -> dict[str, Any]:
    return row(cluster, WEB, app=(size(2000, 250), size(4 * GIB, 1024 * MIB)))


def test_a_workload_is_made_smaller_and_kept(
    cluster: Cluster, kube: RollingKube, govern: Any, report: Any, work: Callable[..., list[str]]
) -> None:
    kube.create(deployment("web", box(**LARGE), box("side", requests={"cpu": "100m"})))
    govern()
    report(shrink(cluster))
    assert services.apply_due() == 1
    work()
    assert kube.resources("web") == {
        "app": {"requests": {"cpu": "250m", "memory": "1024Mi"}, "limits": {"memory": "1024Mi"}},
        "side": {"requests": {"cpu": "100m"}},
    }
    change = only()
    assert (change.outcome, change.method) == (Outcome.KEPT, "rollout")
    assert change.before == {"app": LARGE}
    memory = json.loads(kube.get("deployments", SHOP, "web")["metadata"]["annotations"]["curfew.dev/size-before"])
    assert memory == {"change": str(change.id), "before": {"app": LARGE}}
    owners = {e["manager"] for e in kube.get("deployments", SHOP, "web")["metadata"]["managedFields"]}
    assert MANAGER in owners
    assert services.apply_due() == 0  # at most once a week


def test_what_was_unset_is_unset_again(
    cluster: Cluster, kube: RollingKube, govern: Any, report: Any, work: Callable[..., list[str]]
) -> None:
    kube.create(deployment("web", box(requests={"memory": "4Gi"}), box("side")))
    before = kube.get("deployments", SHOP, "web")["spec"]
    govern(in_place=False)
    report(row(cluster, WEB, app=(size(None, 100), size(4 * GIB, GIB)), side=(size(None, 50), size(None, 64 * MIB))))
    kube.broken = lambda template: "OOMKilled" if "resources" in template["containers"][1] else ""
    assert services.apply_due() == 1  # what grows first
    work()
    change = only()
    assert change.outcome == Outcome.ROLLED_BACK
    assert "killed for lack of memory" in change.why
    after = kube.get("deployments", SHOP, "web")
    assert after["spec"]["template"]["spec"]["containers"][0] == before["template"]["spec"]["containers"][0]
    assert not after["spec"]["template"]["spec"]["containers"][1].get("resources")
    assert "curfew.dev/size-before" not in (after["metadata"].get("annotations") or {})
    held = SizedWorkload.objects.all_orgs().get()
    assert held.held_until is not None
    assert held.held_until > clock.now() + timedelta(days=6)
    assert services.apply_due() == 0


def test_growing_is_done_in_place_and_shrinking_waits_for_its_hours(
    cluster: Cluster, kube: RollingKube, govern: Any, report: Any, work: Callable[..., list[str]]
) -> None:
    kube.create(deployment("web", box(requests={"cpu": "100m", "memory": "4Gi"})))
    kube.roll()
    local = clock.now().hour
    govern(down_from=(local + 2) % 24, down_until=(local + 3) % 24)
    report(row(cluster, WEB, app=(size(100, 400), size(4 * GIB, GIB))))
    assert services.apply_due() == 1
    work()
    change = only()
    assert (change.outcome, change.method) == (Outcome.KEPT, "in_place")
    pods = kube.all("pods")
    assert len(pods) == 2
    assert all(p["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "400m", "memory": "4Gi"} for p in pods)
    assert kube.resources("web") == {"app": {"requests": {"cpu": "100m", "memory": "4Gi"}}}
    assert services.apply_due() == 0


def test_a_node_that_cannot_resize_leaves_it_to_the_template(
    cluster: Cluster, kube: RollingKube, govern: Any, report: Any, work: Callable[..., list[str]]
) -> None:
    kube.create(deployment("web", box(requests={"cpu": "100m"})))
    kube.roll()
    kube.fail("/resize", status=422, reason="Invalid", message="not on this node", times=-1)
    govern()
    report(row(cluster, WEB, app=(size(100, 400), size(None))))
    services.apply_due()
    work()
    assert only().method == "rollout"
    assert kube.resources("web") == {"app": {"requests": {"cpu": "400m"}}}


@pytest.mark.parametrize("how", ["exempt", "gitops", "changed", "gone", "maintenance", "asleep"])
def test_nothing_is_written_where_nothing_may_be(
    how: str, cluster: Cluster, kube: RollingKube, govern: Any, report: Any, work: Callable[..., list[str]]
) -> None:
    obj = deployment("web", box(**LARGE), labels={"tier": "payments"} if how == "exempt" else {})
    if how != "gone":
        kube.create(obj)
    exemptions = {"labels": [{"key": "tier", "value": "payments"}]} if how == "exempt" else None
    govern(exemptions=exemptions)
    report(shrink(cluster))
    assert services.apply_due() == 1
    if how == "gitops":
        entry = {
            "manager": "argocd-controller",
            "operation": "Apply",
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"app"}': {}}}}}},
        }
        kube.change("deployments", SHOP, "web", {"metadata": {"managedFields": [entry]}})
    if how == "changed":
        patch = {"name": "app", "resources": {"requests": {"cpu": "1"}}}
        kube.change("deployments", SHOP, "web", {"spec": {"template": {"spec": {"containers": [patch]}}}})
    if how == "maintenance":
        Cluster.objects.all_orgs().filter(id=cluster.id).update(maintenance_since=clock.now())
    if how == "asleep":
        Cluster.objects.all_orgs().filter(id=cluster.id).update(state=State.ASLEEP)
    work()
    assert kube.writes == []
    assert not SizeChange.objects.all_orgs().exists()
    assert Operation.objects.all_orgs().get().result["held"]
    if how in ("maintenance", "asleep"):
        assert services.apply_due() == 0


def test_somebody_elses_newer_value_stands(
    cluster: Cluster, kube: RollingKube, govern: Any, report: Any, work: Callable[..., list[str]]
) -> None:
    kube.create(deployment("web", box(**LARGE)))
    govern()
    report(shrink(cluster))
    services.apply_due()

    def meddle(line: str) -> None:
        kube.after = lambda line: None
        patch = {"name": "app", "resources": {"requests": {"cpu": "3"}}}
        kube.change("deployments", SHOP, "web", {"spec": {"template": {"spec": {"containers": [patch]}}}})

    kube.after = meddle
    work()
    assert only().outcome == Outcome.UNPROVEN
    assert kube.resources("web")["app"]["requests"]["cpu"] == "3"
    assert SizedWorkload.objects.all_orgs().get().held_why.startswith("contested")


def test_by_hand_and_back_by_hand(
    alice: Persona,
    bob: Persona,
    mallory: Persona,
    cluster: Cluster,
    kube: RollingKube,
    govern: Any,
    report: Any,
    work: Any,
) -> None:
    kube.create(deployment("web", box(**LARGE)))
    wanted = shrink(cluster)
    report(wanted)
    ask = {"cluster_id": cluster.id, "recommendation_id": SizedWorkload(id=wanted["id"]).id}
    with pytest.raises(InvalidState, match="only recommends"):
        services.request_resize(actor=alice.actor, **ask)
    govern()
    with pytest.raises(Forbidden):
        services.request_resize(actor=bob.actor, **ask)
    with pytest.raises(NotFound):
        services.request_resize(actor=mallory.actor, **ask)
    services.request_resize(actor=alice.actor, **ask)
    work()
    change = only()
    assert change.outcome == Outcome.KEPT
    with pytest.raises(NotFound):
        services.request_rollback(actor=mallory.actor, change_id=change.id)
    services.request_rollback(actor=alice.actor, change_id=change.id)
    work()
    assert kube.resources("web") == {"app": LARGE}
    assert only().outcome == Outcome.ROLLED_BACK


def test_cancelled_while_it_is_watched_it_goes_back(
    alice: Persona,
    cluster: Cluster,
    kube: RollingKube,
    govern: Any,
    report: Any,
    work: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from operations import services as operations

    monkeypatch.setattr(executors, "WATCH_SECONDS", 3600.0)
    kube.create(deployment("web", box(**LARGE)))
    govern()
    report(shrink(cluster))
    services.apply_due()
    work(most=3)
    assert kube.resources("web")["app"]["requests"]["cpu"] == "250m"
    operations.cancel_operation(actor=alice.actor, operation_id=Operation.objects.all_orgs().get().id)
    work(most=5)
    assert kube.resources("web") == {"app": LARGE}


def test_a_slow_answer_takes_it_back(
    cluster: Cluster, kube: RollingKube, govern: Any, report: Any, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "WATCH_SECONDS", 3600.0)
    seen: list[str] = []

    def timed(self: Any, namespace: str, target: str, path: str) -> float:
        seen.append(f"{namespace} {target} {path}")
        return 0.02 if kube.resources("web")["app"]["requests"]["cpu"] == "2" else 0.9

    monkeypatch.setattr("clusters.providers.kube.HttpKube.time_service", timed)
    kube.create(deployment("web", box(**LARGE), annotations={"curfew.dev/latency-probe": "web:80/ready"}))
    govern()
    report(shrink(cluster))
    services.apply_due()
    work(most=12)
    assert only().outcome == Outcome.ROLLED_BACK
    assert "answers in 0.90 s" in only().why
    assert seen[0] == "shop web:80 /ready"
    assert kube.resources("web") == {"app": LARGE}


def test_what_is_not_settled_is_waited_for_and_then_taken_back(cluster: Cluster) -> None:
    obj = deployment("web", box(**LARGE))
    obj["status"] = {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2}
    now = clock.now()
    early = judging.judge(obj, [], {"ready": 2}, applied_at=now, now=now + timedelta(seconds=60))
    late = judging.judge(obj, [], {"ready": 2}, applied_at=now, now=now + timedelta(seconds=700))
    assert (early.settled, early.harm) == (False, "")
    assert "did not end" in late.harm
