"""From a policy to the cluster: by the webhook's rules, or by patching; given back, fought over, let off, exempt."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from agent.cluster.orders import load_key
from agent.cluster.rules import opened
from clusters.models import Cluster, Records
from clusters.packed import pack
from clusters.providers.kube import HttpKube
from clusters.services import orders_key
from clusters.sleeping import gateway
from core import clock
from operations import runner
from operations.enums import ACTIVE
from operations.models import Operation
from policies.document import Document
from policies.models import PlacedWorkload, PlacementState, Policy, PolicyAssignment
from policies.placement import selectors, services
from policies.placement.templates import MANAGER, RESTORE
from tests.clusters.conftest import Joined
from tests.clusters.conftest import join as join
from tests.clusters.sleeping.conftest import reached
from tests.fakes import kube_objects as make
from tests.fakes.kube import FakeKube
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
SPOT = {"eks.amazonaws.com/capacityType": "SPOT"}


def nodes() -> dict[str, Any]:
    return {
        f"n{number}": {
            "name": f"n{number}",
            "zone": f"eu-west-1{zone}",
            "lifecycle": "spot" if number else "on-demand",
            "instance_type": "m5.large",
            "labels": SPOT if number else {},
            "taints": [],
        }
        for number, zone in enumerate("abc")
    }


def told(cluster: Cluster, **tables: Any) -> None:
    """What the cluster's last report says."""
    for collection, table in tables.items():
        Records.objects.for_org(cluster.organization_id).update_or_create(
            cluster_id=cluster.id,
            collection=collection,
            defaults={"organization_id": cluster.organization_id, "count": len(table), "packed": pack(table)},
        )


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with FakeKube() as server:
        for name, space in (("web", "shop"), ("api", "shop"), ("dns", "kube-system"), ("ledger", "payments")):
            server.create(make.deployment(name, space, replicas=2))
        server.create(make.stateful_set("db", "shop"))
        yield server


@pytest.fixture
def joined(join: Callable[..., Joined], alice: Persona) -> Joined:
    made = join("lark")
    row = made.row
    Cluster.objects.for_org(row.organization_id).filter(id=row.id).update(uid="uid-of-lark", cloud="aws", state="live")
    told(row, nodes=nodes())
    return made


@pytest.fixture
def by_patch(joined: Joined, kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(gateway, "open_kube", lambda cluster: reached(kube))  # type: ignore[arg-type]
    monkeypatch.setattr(gateway, "has_way", lambda cluster: True)
    return joined.row


def apply_policy(who: Persona, cluster: Cluster, *, mode: str = "enforce", **cards: Any) -> Policy:
    now = clock.now()
    document = Document.from_json(cards).to_json()
    org = who.organization
    policy, _ = Policy.objects.for_org(org).update_or_create(
        name="P", defaults={"organization": org, "document": document, "created_at": now, "updated_at": now}
    )
    PolicyAssignment.objects.for_org(org).update_or_create(
        cluster=cluster, defaults={"organization": org, "policy": policy, "mode": mode, "since": now}
    )
    return policy


def work() -> None:
    for _ in range(20):
        due = Operation.objects.all_orgs().filter(status__in=ACTIVE).first()
        if due is None:
            return
        runner.run_operation(due.id)
    raise AssertionError("never ended")


def sync(cluster: Cluster) -> None:
    PlacementState.objects.all_orgs().update(synced="")
    services.keep(cluster_id=cluster.id)
    work()


def templates(kube: FakeKube) -> dict[str, Any]:
    found = {}
    for plural in ("deployments", "statefulsets"):
        for obj in kube.all(plural):
            one = copy.deepcopy(obj)
            for name in ("managedFields", "resourceVersion", "generation"):
                one["metadata"].pop(name, None)
            found[one["metadata"]["namespace"] + "/" + one["metadata"]["name"]] = one
    return found


def selector_of(kube: FakeKube, name: str) -> Any:
    return templates(kube)[name]["spec"]["template"]["spec"].get("nodeSelector")


FORCE = {"placement": {"spot": "force"}, "exemptions": {"namespaces": ["payments"]}}


def test_patched_where_there_is_no_webhook_and_given_back_exactly(
    by_patch: Cluster, kube: FakeKube, alice: Persona
) -> None:
    before = templates(kube)
    apply_policy(alice, by_patch, placement={"spot": "force", "block_burstable": True, "spread_zones": True})
    assert services.keep(cluster_id=by_patch.id)
    work()
    for name in ("shop/web", "shop/api", "shop/db", "payments/ledger"):
        assert selector_of(kube, name) == SPOT, name
    assert templates(kube)["kube-system/dns"] == before["kube-system/dns"]
    owners = {e["manager"] for e in kube.get("deployments", "shop", "web")["metadata"]["managedFields"]}
    assert MANAGER in owners
    assert not services.keep(cluster_id=by_patch.id), "once is enough"
    apply_policy(alice, by_patch, **FORCE)
    sync(by_patch)
    assert templates(kube)["payments/ledger"] == before["payments/ledger"], "exempt now: given back"
    services.choose(actor=alice.actor, cluster_id=by_patch.id, way="off", fallback_minutes=10)
    services.keep(cluster_id=by_patch.id)
    work()
    assert templates(kube) == before
    assert not PlacedWorkload.objects.all_orgs().exists()


def test_a_policy_that_may_only_recommend_changes_nothing(by_patch: Cluster, kube: FakeKube, alice: Persona) -> None:
    before = templates(kube)
    apply_policy(alice, by_patch, mode="recommend", **FORCE)
    services.keep(cluster_id=by_patch.id)
    work()
    assert templates(kube) == before
    found = selectors.placement_of(actor=alice.actor, cluster_id=by_patch.id)
    assert (found.used, found.asked) == ("", ("Spot only",))
    assert "recommend" in " ".join(found.notes)


def test_maintenance_wins(by_patch: Cluster, kube: FakeKube, alice: Persona) -> None:
    apply_policy(alice, by_patch, **FORCE)
    Cluster.objects.all_orgs().update(maintenance_since=clock.now())
    assert not services.keep(cluster_id=by_patch.id)
    assert not Operation.objects.all_orgs().exists()


@pytest.mark.parametrize("boundary", range(1, 7))
def test_broken_off_at_any_write_everything_is_given_back(
    by_patch: Cluster, kube: FakeKube, alice: Persona, monkeypatch: pytest.MonkeyPatch, boundary: int
) -> None:
    """The worker ends before or after its nth write, and the annotations are stripped besides."""

    class Ended(BaseException):
        pass

    before = templates(kube)
    apply_policy(alice, by_patch, placement={"spot": "force", "spread_zones": True})
    real, count = HttpKube.apply, [0]

    def apply(self: HttpKube, *args: Any, **how: Any) -> Any:
        count[0] += 1
        if count[0] * 2 - 1 == boundary:
            raise Ended
        answer = real(self, *args, **how)
        if count[0] * 2 == boundary:
            raise Ended
        return answer

    monkeypatch.setattr(HttpKube, "apply", apply)
    services.keep(cluster_id=by_patch.id)
    with pytest.raises(Ended):
        work()
    monkeypatch.setattr(HttpKube, "apply", real)
    Operation.objects.all_orgs().update(status="failed")
    for obj in kube.all("deployments"):
        if RESTORE in (obj["metadata"].get("annotations") or {}):
            place = obj["metadata"]["namespace"], obj["metadata"]["name"]
            kube.change("deployments", *place, {"metadata": {"annotations": {RESTORE: None}}})
    services.choose(actor=alice.actor, cluster_id=by_patch.id, way="off", fallback_minutes=10)
    sync(by_patch)
    after = templates(kube)
    for one in (*before.values(), *after.values()):  # stripping leaves an empty map, as kubectl does
        if not one["metadata"].get("annotations", True):
            del one["metadata"]["annotations"]
    assert after == before


def test_whoever_takes_it_back_each_time_is_left_alone_after_three(
    by_patch: Cluster, kube: FakeKube, alice: Persona
) -> None:
    apply_policy(alice, by_patch, **FORCE)
    sync(by_patch)
    original = None
    for round_ in range(5):
        assert (selector_of(kube, "shop/web") == SPOT) is (round_ < 4), round_
        original = kube.get("deployments", "shop", "web")
        clean = copy.deepcopy(original)
        clean["metadata"].pop("annotations", None)
        clean["spec"]["template"]["spec"].pop("nodeSelector", None)
        clean["spec"]["template"].get("metadata", {}).pop("annotations", None)
        clean["metadata"].pop("resourceVersion")
        kube.store.replace(kube.kind("deployments"), "shop", "web", clean)
        sync(by_patch)
    row = PlacedWorkload.objects.all_orgs().get(name="web")
    assert row.standing == "contested"
    assert "exempt" in row.words


def test_a_workload_whose_pod_waits_is_let_off_for_an_hour(
    by_patch: Cluster, kube: FakeKube, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_policy(alice, by_patch, **FORCE)
    sync(by_patch)
    made = (clock.now() - timedelta(minutes=11)).isoformat()
    pod = {
        "name": "web-1",
        "namespace": "shop",
        "phase": "Pending",
        "created_at": made,
        "owner": {"kind": "Deployment", "name": "web"},
    }
    told(by_patch, pods={"shop/web-1": pod})
    services.keep(cluster_id=by_patch.id)
    work()
    assert selector_of(kube, "shop/web") is None
    preferred = templates(kube)["shop/web"]["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    assert "preferredDuringSchedulingIgnoredDuringExecution" in preferred
    assert selector_of(kube, "shop/api") == SPOT
    told(by_patch, pods={})
    later = clock.now() + timedelta(minutes=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    services.keep(cluster_id=by_patch.id)
    work()
    assert selector_of(kube, "shop/web") == SPOT


def test_the_webhook_is_told_over_the_heartbeat_and_patching_ends(
    joined: Joined, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_policy(alice, joined.row, **FORCE)
    services.keep(cluster_id=joined.id)
    state = PlacementState.objects.all_orgs().get()
    assert state.used == ""
    assert "no webhook" in " ".join(state.notes)
    report = {"version": 0, "replicas": [{"pod": "a", "version": 0, "counts": {"reviewed": 3}}], "softened": {}}
    _, answer = _beat(joined, placement=report)
    assert "placement" not in answer
    services.keep(cluster_id=joined.id)
    _, answer = _beat(joined, placement=report)
    rules = opened(answer["placement"], load_key(orders_key(joined.row)), "uid-of-lark")
    assert (rules.version, rules.strategy, rules.spot) == (1, "force", tuple(SPOT.items()))
    assert rules.exempt_namespaces == {"payments"}
    _, answer = _beat(joined, placement={**report, "version": 1})
    assert "placement" not in answer, "once it is kept, nothing more is sent"
    services.choose(actor=alice.actor, cluster_id=joined.id, way="off", fallback_minutes=10)
    services.keep(cluster_id=joined.id)
    _, answer = _beat(joined, placement={**report, "version": 1})
    rules = opened(answer["placement"], load_key(orders_key(joined.row)), "uid-of-lark")
    assert (rules.version, rules.idle) == (2, True)


def _beat(joined: Joined, **more: Any) -> tuple[int, dict[str, Any]]:
    from clusters import services as cluster_services

    body = {**json.loads(joined.reporter.beat()), **more}
    return cluster_services.record_heartbeat(token=joined.token, body=json.dumps(body).encode())


def test_exempt_workloads_are_unmanaged_their_cost_counts_and_they_save_nothing(
    joined: Joined, alice: Persona, mallory: Persona
) -> None:
    from core.errors import NotFound

    apply_policy(alice, joined.row, exemptions={"namespaces": ["payments"], "labels": [{"key": "tier", "value": "db"}]})
    workloads = {
        f"Deployment/{space}/{name}": {"kind": "Deployment", "namespace": space, "name": name, "labels": labels}
        for space, name, labels in (
            ("shop", "web", {}),
            ("shop", "db", {"tier": "db"}),
            ("payments", "ledger", {}),
            ("kube-system", "coredns", {}),
            ("net", "aws-node", {}),
            ("net2", "dns", {"k8s-app": "kube-dns"}),
        )
    }
    told(joined.row, workloads=workloads)
    found = selectors.unmanaged(actor=alice.actor, cluster_id=joined.id)
    assert {(r.namespace, r.name) for r in found.rows} == {
        ("shop", "db"),
        ("payments", "ledger"),
        ("kube-system", "coredns"),
        ("net", "aws-node"),
        ("net2", "dns"),
    }
    assert all(row.savings == 0 and row.reason for row in found.rows)
    assert found.unknown == 5, "a cost that is not known is not zero"
    with pytest.raises(NotFound):
        selectors.unmanaged(actor=mallory.actor, cluster_id=joined.id)
