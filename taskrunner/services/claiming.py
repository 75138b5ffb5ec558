"""A worker takes a task, says that it still has it, and that the container runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import connection, transaction
from django.db.models import Count, F, Sum

from audit import services as audit
from core import clock, encryption
from core.actor import Actor, ActorKind
from core.errors import Conflict, InvalidInput, NotFound
from core.live import publish
from taskrunner import placing
from taskrunner.enums import FIRST_LEASE_SECONDS, HELD, LEASE_SECONDS, Status, WorkerState
from taskrunner.models import Attempt, Quota, Sample, Task, Worker
from taskrunner.placing import Resources
from taskrunner.services.submitting import TOPIC

log = logging.getLogger(__name__)
LOOKED_AT = 50
METRICS = ("cpu", "memory", "storage", "gpu", "network_in", "network_out", "disk_read", "disk_write")


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


def begin_claiming(*, worker: Worker) -> UUID:
    """A worker's new call ends the earlier ones: an agent that was killed still has one waiting here."""
    call = uuid4()
    Worker.objects.for_org(worker.organization_id).filter(id=worker.id).update(claim_call=call)
    return call


def claim(*, worker: Worker, call: UUID | None = None) -> Claim | None:
    """Give the worker the first task by priority and age that fits what it has free; None when there is none.

    One claim of a worker at a time; claims of different workers pass each other. Raises Conflict `superseded` when
    another call of the worker began after `call`.
    """
    with transaction.atomic():
        held = Worker.objects.for_org(worker.organization_id).select_for_update().filter(id=worker.id).first()
        if held is None or held.wanted != WorkerState.OPEN:
            return None
        if call is not None and held.claim_call != call:
            raise Conflict("Another call of this worker asks for tasks now.", code="superseded")
        task = _choose(held)
        if task is None:
            return None
        now = clock.now()
        task.fence += 1
        task.attempt += 1
        task.status, task.worker, task.claimed_at = Status.CLAIMED, held, now
        task.lease_expires_at, task.started_at = now + timedelta(seconds=FIRST_LEASE_SECONDS), None
        task.reason, task.exit_code, task.exit_class = f"Starting on {held.name}", None, ""
        task.progress, task.progress_words = None, ""
        task.save(
            update_fields=[
                "fence", "attempt", "status", "worker", "claimed_at", "lease_expires_at", "started_at", "reason",
                "exit_code", "exit_class", "progress", "progress_words",
            ]
        )  # fmt: skip
        Attempt.objects.create(task=task, number=task.fence, worker=held, worker_label=held.name, claimed_at=now)
        if held.idle_since is not None:
            Worker.objects.for_org(held.organization_id).filter(id=held.id).update(idle_since=None)
        publish(task.organization_id, TOPIC, [task.id])
    opened = encryption.unseal(task.sealed, bound_to=task.seal_name)
    return Claim(task, opened.get("secrets", {}), opened.get("files", {}))


def _choose(worker: Worker) -> Task | None:
    free = worker.capacity - held_resources(worker)
    if free.cpu <= 0 or free.memory <= 0:
        return None
    rows = Task.objects.for_org(worker.organization_id).filter(
        status=Status.QUEUED,
        not_before__lte=clock.now(),
        cancel_requested_at=None,
        cpu__lte=free.cpu,
        memory__lte=free.memory,
        storage__lte=max(0, free.storage),
        gpus__lte=max(0, free.gpus),
    )
    rows = rows.order_by("-priority", "queued_at", "id")
    if connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    limits = _Limits(worker.organization_id)
    for start in (0, LOOKED_AT):  # a second look behind those that other workers' labels or limits hold back
        for task in rows[start : start + LOOKED_AT * (1 if start == 0 else 10)]:
            if placing.fits(task.wish, free, worker.labels) and limits.allow(task):
                chosen: Task = task
                return chosen
    return None


def held_resources(worker: Worker) -> Resources:
    """What the tasks on the worker have reserved."""
    sums = (
        Task.objects.for_org(worker.organization_id)
        .filter(worker=worker, status__in=HELD)
        .aggregate(cpu=Sum("cpu"), memory=Sum("memory"), storage=Sum("storage"), gpus=Sum("gpus"))
    )
    return Resources(**{name: value or 0 for name, value in sums.items()})


class _Limits:
    """The quotas of an organization against what runs now; both are read when first asked."""

    def __init__(self, org_id: UUID) -> None:
        self.org_id = org_id
        self.quotas: list[Quota] | None = None
        self.running: dict[UUID | None, dict[str, int]] = {}

    def allow(self, task: Task) -> bool:
        if self.quotas is None:
            self.quotas = list(Quota.objects.for_org(self.org_id))
        return all(self._within(quota, task) for quota in self.quotas if quota.user_id in (None, task.owner_id))

    def _within(self, quota: Quota, task: Task) -> bool:
        now = self._now(quota.user_id)
        return (
            (quota.most_running is None or now["n"] < quota.most_running)
            and (quota.most_cpu is None or now["cpu"] + task.cpu <= quota.most_cpu)
            and (quota.most_memory is None or now["memory"] + task.memory <= quota.most_memory)
            and (quota.most_gpus is None or now["gpus"] + task.gpus <= quota.most_gpus)
        )

    def _now(self, user_id: UUID | None) -> dict[str, int]:
        if user_id not in self.running:
            rows = Task.objects.for_org(self.org_id).filter(status__in=HELD)
            rows = rows if user_id is None else rows.filter(owner_id=user_id)
            sums = rows.aggregate(n=Count("id"), cpu=Sum("cpu"), memory=Sum("memory"), gpus=Sum("gpus"))
            self.running[user_id] = {name: value or 0 for name, value in sums.items()}
        return self.running[user_id]


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


def figures(given: Mapping[str, Any]) -> dict[str, float]:
    """The known figures of a report that are numbers. Raises InvalidInput for one that is not finite or negative."""
    kept = {}
    for name in METRICS:
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
