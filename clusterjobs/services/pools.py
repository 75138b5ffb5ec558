"""The owner of a cluster lets it run tasks, within limits, in a namespace of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from audit import services as audit
from clusterjobs import gateway, selectors
from clusterjobs.enums import PROTECTED
from clusterjobs.models import JobPool, JobRun
from clusters import selectors as clusters
from clusters.enums import RESOURCE
from core import clock
from core.actor import Actor
from core.errors import Conflict, InvalidInput, InvalidState
from core.live import publish
from taskrunner import checking
from taskrunner import services as tasks
from taskrunner.enums import HELD, WORKERS_MANAGE, WorkerState
from taskrunner.models import Task, Worker

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SECRET = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_SIZES = {
    "cpu": (100, 1_024_000, "millicores"),
    "memory": (64, 64 * 1024 * 1024, "MiB"),
    "storage": (0, 2**40, "MiB"),
    "gpus": (0, 64, "GPUs"),
}
_POOL = ("namespace", "read_only_root", "pull_secret")


def _require(actor: Actor) -> None:
    actor.require("clusters.manage", "let clusters run tasks")
    actor.require(WORKERS_MANAGE, "let clusters run tasks")


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    known: dict[str, Any] = {}
    for name, value in given.items():
        try:
            known[name] = _read(name, value)
        except ValueError as wrong:
            errors[name] = [str(wrong)]
    if errors:
        raise InvalidInput(errors=errors)
    return known


def _read(name: str, value: Any) -> Any:
    if name in _SIZES:
        least, most, unit = _SIZES[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"A whole number from {least} to {most} {unit}.")
        return value
    if name == "namespace":
        text = str(value).strip()
        if not _NAME.fullmatch(text):
            raise ValueError("Lower case letters, digits and dashes, at most 63.")
        if text in PROTECTED or text.startswith("kube-"):
            raise ValueError("Tasks need a namespace of their own.")
        return text
    if name == "pull_secret":
        text = str(value or "").strip()
        if text and not _SECRET.fullmatch(text):
            raise ValueError("This is not the name of a Secret.")
        return text
    if name == "labels":
        return checking.labels(value)
    if name in ("read_only_root", "open"):
        return bool(value)
    raise ValueError("This cannot be set.")


def offer(*, actor: Actor, cluster_id: UUID, fields: Mapping[str, Any]) -> JobPool:
    """Let a cluster run tasks. `fields` are cpu, memory, storage and gpus that all its tasks together may reserve, and
    namespace, read_only_root, pull_secret, labels. Raises InvalidInput, InvalidState, Conflict."""
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    _require(actor)
    known = _checked(fields)
    missing = {name: ["Say how much tasks may use."] for name in ("cpu", "memory") if name not in known}
    if missing:
        raise InvalidInput(errors=missing)
    if not gateway.reaches(cluster):
        raise InvalidState(
            f"Curfew has no way to the API server of {cluster.name}. Connect it with a kubeconfig or through its EKS "
            "account; an agent that reports is not enough."
        )
    if JobPool.objects.visible_to(actor).filter(cluster=cluster).exists():
        raise Conflict(f"{cluster.name} runs tasks already.", code="already_offered")
    facts = {name: known.get(name, 0) for name in _SIZES} | {
        "labels": known.get("labels", {}),
        "engine": "Kubernetes",
        "hostname": cluster.server[:200],
        "sleepable_kind": RESOURCE,
        "sleepable_id": cluster.id,
    }
    now = clock.now()
    with transaction.atomic():
        worker = tasks.add_worker(actor=actor, name=cluster.name, facts=facts)
        pool = JobPool(organization_id=cluster.organization_id, cluster=cluster, worker=worker)
        pool.next_at = pool.created_at = now
        for name in _POOL:
            if name in known:
                setattr(pool, name, known[name])
        pool.save(force_insert=True)
        audit.record(
            actor=actor,
            verb="job_pool.offered",
            target=cluster,
            changes={name: [None, facts[name]] for name in _SIZES} | {"namespace": [None, pool.namespace]},
        )
    return pool


def change(*, actor: Actor, cluster_id: UUID, fields: Mapping[str, Any]) -> JobPool:
    """Change the limits and the ways of an offer; `open` False takes nothing new. The namespace stays while Jobs are
    in it. Raises InvalidInput, InvalidState, NotFound."""
    pool = selectors.get_pool(actor=actor, cluster_id=cluster_id)
    _require(actor)
    known = _checked(fields)
    with transaction.atomic():
        pool = (
            JobPool.objects.visible_to(actor).select_for_update(of=("self",)).select_related("worker").get(id=pool.id)
        )
        worker: Worker = pool.worker
        moved = known.get("namespace", pool.namespace) != pool.namespace
        if moved and JobRun.objects.for_org(pool.organization_id).filter(pool=pool, cleaned_at=None).exists():
            raise InvalidState("Tasks run in the old namespace; wait until they have ended.")
        before = {name: getattr(pool if name in _POOL else worker, name, None) for name in known if name != "open"}
        for name, value in known.items():
            if name in _POOL:
                setattr(pool, name, value)
            elif name != "open":
                setattr(worker, name, value)
        if "open" in known:
            before["open"] = worker.wanted == WorkerState.OPEN
            worker.wanted = WorkerState.OPEN if known["open"] else WorkerState.CORDONED
        pool.prepared_at, pool.next_at, pool.problem = None, clock.now(), ""
        pool.save(update_fields=[*_POOL, "prepared_at", "next_at", "problem"])
        worker.save(update_fields=[*_SIZES, "labels", "wanted"])
        diff = {name: [before[name], value] for name, value in known.items() if before[name] != value}
        if diff:
            audit.record(actor=actor, verb="job_pool.changed", target=worker, changes=diff)
            publish(pool.organization_id, "workers", [worker.id])
    return pool


def withdraw(*, actor: Actor, cluster_id: UUID) -> None:
    """The cluster runs no more tasks. Raises InvalidState while some run or are being cleaned up."""
    pool = selectors.get_pool(actor=actor, cluster_id=cluster_id)
    _require(actor)
    with transaction.atomic():
        worker = Worker.objects.visible_to(actor).select_for_update().get(id=pool.worker_id)
        busy = Task.objects.for_org(pool.organization_id).filter(worker=worker, status__in=HELD).exists()
        left = JobRun.objects.for_org(pool.organization_id).filter(pool=pool, cleaned_at=None).exists()
        if busy or (left and pool.cluster_id is not None):
            raise InvalidState(f"{worker.name} still runs tasks; close it, and wait until they have ended.")
        audit.record(actor=actor, verb="job_pool.withdrawn", target=worker)
        org_id, gone = worker.organization_id, worker.id
        worker.delete()
        publish(org_id, "workers", [gone])
