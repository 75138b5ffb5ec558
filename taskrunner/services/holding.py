"""For engines that the platform itself keeps watch over: a cluster's Jobs run on while nobody renews a lease.

Such a task is held until its container has ended for certain, whoever is away until then.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from audit import services as audit
from core import clock, encryption
from core.actor import Actor
from core.live import publish
from taskrunner.enums import HELD
from taskrunner.models import Sample, Task, Worker
from taskrunner.services.claiming import METRICS, Claim, figures, held_task, tell
from taskrunner.services.submitting import TOPIC
from taskrunner.services.workers import TOPIC as WORKERS


def add_worker(*, actor: Actor, name: str, facts: Mapping[str, Any]) -> Worker:
    """A worker without an agent of its own. The caller audits why it is there."""
    from taskrunner.services.workers import _facts, _free_name

    known = _facts({**facts, "name": name})
    if actor.org_id is None:
        raise ValueError("A worker belongs to an organization.")
    with transaction.atomic():
        title = _free_name(actor.org_id, known["name"])
        worker = Worker(organization_id=actor.org_id, registered_at=clock.now(), **{**known, "name": title})
        worker.sleepable_kind, worker.sleepable_id = facts.get("sleepable_kind", ""), facts.get("sleepable_id")
        worker.save(force_insert=True)
        audit.record(actor=actor, verb="worker.enrolled", target=worker)
        publish(worker.organization_id, WORKERS, [worker.id])
    return worker


def hold(*, worker: Worker, task_id: UUID, fence: int, until: datetime) -> None:
    """Keep the task from being given away before `until`. Raises Conflict `stale_lease`."""
    rows = Task.objects.for_org(worker.organization_id).filter(
        id=task_id, fence=fence, worker=worker, status__in=HELD, lease_expires_at__gt=clock.now()
    )
    if not rows.update(lease_expires_at=until):
        held_task(worker, task_id, fence)


def claim_again(*, worker: Worker, task_id: UUID, fence: int) -> Claim:
    """What was claimed, once more, for a container that was perhaps not made. Raises Conflict `stale_lease`."""
    task = held_task(worker, task_id, fence)
    opened = encryption.unseal(task.sealed, bound_to=task.seal_name)
    return Claim(task, opened.get("secrets", {}), opened.get("files", {}))


def say(*, worker: Worker, task_id: UUID, fence: int, words: str) -> None:
    """Show what the task waits for."""
    rows = Task.objects.for_org(worker.organization_id).filter(
        id=task_id, fence=fence, worker=worker, status__in=HELD, cancel_requested_at=None
    )
    if rows.exclude(reason=words[:500]).update(reason=words[:500]):
        publish(worker.organization_id, TOPIC, [task_id])


def measure(*, worker: Worker, task_id: UUID, usage: Mapping[str, Any]) -> None:
    """Keep figures of a running task and tell its viewers."""
    kept, now = figures(usage), clock.now()
    if kept:
        Sample.objects.create(worker=worker, task_id=task_id, at=now, **kept)
        tell(task_id, {"type": "metrics", "sample": {**dict.fromkeys(METRICS), **kept, "at": now.isoformat()}})
