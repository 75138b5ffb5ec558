"""A worker takes a task, says that it still has it, and that the container runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from django.db.models import F

from audit import services as audit
from core import clock, encryption, hooks
from core.actor import Actor, ActorKind
from core.errors import Conflict, InvalidInput, NotFound
from core.live import publish
from taskrunner.enums import HELD, LEASE_SECONDS, Status
from taskrunner.models import Attempt, Sample, Task, Worker
from taskrunner.services import taking
from taskrunner.services.submitting import TOPIC

log = logging.getLogger(__name__)
MOST_A_CALL = 32
METRICS = ("cpu", "memory", "storage", "gpu", "gpu_memory", "network_in", "network_out", "disk_read", "disk_write")


@dataclass(frozen=True, slots=True)
class Claim:
    """A task with the fence under which its worker writes, and its secrets and files opened for this one use."""

    task: Task
    secrets: Mapping[str, str]
    files: Mapping[str, str]


def held_task(worker: Worker, task_id: UUID, fence: int, *, lock: bool = False) -> Task:
    """The task that this worker holds under this fence. Raises NotFound, or Conflict `stale_lease`."""
    rows = Task.objects.for_org(worker.organization_id)
    task: Task | None = (rows.select_for_update() if lock else rows).filter(id=task_id).first()
    if task is None:
        raise NotFound("There is no such task.")
    if task.fence != fence or task.worker_id != worker.id or task.status not in HELD:
        raise Conflict("Another worker has this task now, or it has ended. Stop its container.", code="stale_lease")
    return task


def claim(*, worker: Worker) -> Claim | None:
    """Give the worker the first task by priority and age that fits what it has free; None when there is none."""
    return next(iter(claim_some(worker=worker, most=1)), None)


def claim_some(*, worker: Worker, most: int, call: UUID | None = None, begins: bool = False) -> list[Claim]:
    """Give the worker up to `most` tasks that fit together into what it has free, first by priority and age.

    One claim of a worker at a time; claims of different workers pass each other. A call that `begins` ends the earlier
    ones, since an agent that was killed still has one waiting here: they get Conflict `superseded` at their next look.
    """
    tasks = taking.take(worker, min(most, MOST_A_CALL), clock.now(), call=call, begins=begins)
    if tasks:
        publish(worker.organization_id, TOPIC, [task.id for task in tasks])
    return [_opened(task) for task in tasks]


def _opened(task: Task) -> Claim:
    inside = encryption.unseal(task.sealed, bound_to=task.seal_name)
    return Claim(task, inside.get("secrets", {}), inside.get("files", {}))


def renew(*, worker: Worker, task_id: UUID, fence: int, metrics: Mapping[str, Any] | None = None) -> bool:
    """The worker still has the task: lengthen the lease and keep its figures. True when it is to be cancelled.

    Raises Conflict `stale_lease`: the worker stops the container and writes nothing more.
    """
    now = clock.now()
    held = Task.objects.for_org(worker.organization_id).filter(id=task_id, fence=fence, worker=worker, status__in=HELD)
    if not held.update(lease_expires_at=now + timedelta(seconds=LEASE_SECONDS)):
        held_task(worker, task_id, fence)  # says why
    kept = figures(metrics or {})
    if kept:
        Sample.objects.create(worker=worker, task_id=task_id, at=now, **kept)
        tell(task_id, {"type": "metrics", "sample": {**dict.fromkeys(METRICS), **kept, "at": now.isoformat()}})
    return held.filter(cancel_requested_at__isnull=False).exists()


def log_group(task_id: UUID | str) -> str:
    """The channel group that viewers of a task join."""
    return f"task.{task_id}"


def tell(task_id: UUID | str, message: dict[str, object]) -> None:
    """Send to the viewers of a task after commit. What is lost they read from the store at their next look."""

    def send() -> None:
        try:
            async_to_sync(get_channel_layer().group_send)(log_group(task_id), message)
        except (OSError, RuntimeError) as lost:
            log.warning("task_hint_lost", extra={"task": str(task_id), "reason": str(lost)})

    transaction.on_commit(send)


def figures(given: Mapping[str, Any], names: Iterable[str] = METRICS) -> dict[str, float]:
    """The known figures of a report that are numbers. Raises InvalidInput for one that is not finite or negative."""
    kept = {}
    for name in names:
        value = given.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
            raise InvalidInput(errors={name: ["A number that is not negative."]})
        kept[name] = float(value)
    return kept


def start(*, worker: Worker, task_id: UUID, fence: int) -> Task:
    """The container runs. Harmless when said twice."""
    with transaction.atomic():
        task = held_task(worker, task_id, fence, lock=True)
        if task.status == Status.CLAIMED:
            now = clock.now()
            task.status, task.started_at, task.reason = Status.RUNNING, now, f"Runs on {worker.name}"
            task.save(update_fields=["status", "started_at", "reason"])
            Attempt.objects.filter(task=task, number=fence).update(started_at=now)
            audit.record(actor=worker_actor(worker), verb="task.started", target=task, detail=f"On {worker.name}.")
            hooks.task_started.emit(task=task)
            publish(task.organization_id, TOPIC, [task.id])
    return task


def worker_actor(worker: Worker) -> Actor:
    """The worker as who acts."""
    return Actor(ActorKind.AGENT, str(worker.id), worker.name, worker.organization_id)


def note_progress(*, task: Task, percent: int, words: str) -> None:
    """Keep how far the task says it is; told to open pages when it changed."""
    changed = (
        Task.objects.for_org(task.organization_id)
        .filter(id=task.id, fence=F("fence"))
        .exclude(progress=percent, progress_words=words)
    )
    if changed.update(progress=percent, progress_words=words[:200]):
        publish(task.organization_id, TOPIC, [task.id])
