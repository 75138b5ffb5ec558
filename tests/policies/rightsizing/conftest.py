"""A cluster on a fake API server whose policy applies sizes, and a worker that does not wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from clusters.enums import Method, State
from clusters.models import Cluster
from clusters.providers.kube import HttpKube
from clusters.sleeping import gateway
from core import clock
from operations import runner
from operations.enums import ACTIVE
from operations.models import Operation
from policies.document import Document
from policies.models import Policy, PolicyAssignment
from policies.rightsizing import executors
from policies.rightsizing.models import SizeReport
from policies.rightsizing.reporting import workload_id
from tests.personas import Persona
from tests.policies.rightsizing.kube import RollingKube

GIB, MIB = 1024**3, 1024**2


@pytest.fixture
def kube() -> Iterator[RollingKube]:
    with RollingKube() as server:
        yield server


@contextmanager
def reached(kube: RollingKube) -> Iterator[HttpKube]:
    from kubernetes.client import ApiClient, Configuration

    with ApiClient(Configuration(host=kube.url)) as api:
        yield HttpKube(api)


@pytest.fixture
def cluster(alice: Persona, kube: RollingKube, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    row: Cluster = Cluster.objects.create(
        organization_id=alice.organization.id,
        name="lark-prod",
        method=Method.KUBECONFIG,
        credentials="sealed",
        state=State.LIVE,
        created_at=clock.now(),
        state_since=clock.now(),
    )
    monkeypatch.setattr(gateway, "open_kube", lambda cluster: reached(kube))
    monkeypatch.setattr(executors, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(executors, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(runner, "backoff", lambda attempt: 0.0)
    return row


@pytest.fixture
def govern(alice: Persona, cluster: Cluster) -> Callable[..., PolicyAssignment]:
    """Put a policy on the cluster: `govern(mode="apply", profile="p95")`; `enforce=False` lets it only recommend."""

    def make(*, enforce: bool = True, exemptions: Any = None, **rightsizing: Any) -> PolicyAssignment:
        document = {"rightsizing": {"mode": "apply", "down_from": 0, "down_until": 0, **rightsizing}}
        document |= {"exemptions": exemptions} if exemptions else {}
        now, org = clock.now(), alice.organization
        policy, _ = Policy.objects.for_org(org).update_or_create(
            organization=org,
            name="Careful",
            defaults={
                "document": Document.from_json(document).to_json(),
                "created_at": now,
                "updated_at": now,
                "organization": org,
            },
        )
        link, _ = PolicyAssignment.objects.for_org(org).update_or_create(
            cluster=cluster,
            defaults={
                "organization": org,
                "policy": policy,
                "mode": "enforce" if enforce else "recommend",
                "since": now,
            },
        )
        found: PolicyAssignment = link
        return found

    return make


def size(old: int | None, to: int | None = None, hold: str = "") -> dict[str, Any]:
    held = {"why": "close", "words": hold} if hold else None
    return {
        "old": old,
        "wanted": to,
        "to": old if held else to,
        "hold": held,
        "basis": "",
        "lower": None,
        "upper": None,
    }


def row(cluster: Cluster, key: str, saves: float | None = 40.0, **boxes: tuple[Any, Any]) -> dict[str, Any]:
    """A recommendation of cpu and memory sizes by container."""
    namespace, kind, name = key.split("/")
    shaped = [
        {"name": n, "cpu": cpu, "memory": memory, "urgent": False, "notes": []} for n, (cpu, memory) in boxes.items()
    ]
    sizes = [s for b in shaped for s in (b["cpu"], b["memory"]) if s["to"] is not None and not s["hold"]]
    up = any(s["to"] > (s["old"] or 0) for s in sizes)
    down = any(s["old"] is not None and s["to"] < s["old"] for s in sizes)
    return {
        "id": str(workload_id(cluster.id, key)),
        "key": key,
        "namespace": namespace,
        "kind": kind,
        "name": name,
        "replicas": 2,
        "changes": up or down,
        "up": up,
        "down": down,
        "urgent": False,
        "saves": saves,
        "potential": saves,
        "hold": None,
        "boxes": shaped,
    }


@pytest.fixture
def report(cluster: Cluster) -> Callable[..., SizeReport]:
    """Store these rows as the cluster's newest recommendations."""

    def store(*rows: dict[str, Any]) -> SizeReport:
        known, _ = SizeReport.objects.for_org(cluster.organization_id).update_or_create(
            cluster=cluster,
            defaults={
                "organization_id": cluster.organization_id,
                "at": clock.now(),
                "profile": "p95",
                "rows": list(rows),
                "workloads": len(rows),
                "changes": sum(r["changes"] for r in rows),
                "saves": sum(r["saves"] or 0 for r in rows),
                "potential": sum(r["saves"] or 0 for r in rows),
                "prices": "tests, 2026-01-01",
            },
        )
        made: SizeReport = known
        return made

    return store


@pytest.fixture
def work() -> Callable[..., list[str]]:
    """Run what is due until everything has ended; what each run came to."""

    def run(most: int = 200) -> list[str]:
        told = []
        for _ in range(most):
            ready = [o.id for o in Operation.objects.all_orgs().filter(status__in=[s.value for s in ACTIVE])]
            if not ready:
                break
            told += [runner.run_operation(one) for one in ready]
        return told

    return run


@pytest.fixture
def key() -> str:
    return uuid4().hex
