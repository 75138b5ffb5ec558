"""How queued tasks become a worker's: in one call on PostgreSQL, by steps on every database and under limits of people.

Both hold the worker's row for one transaction: claims of one worker come one after the other and each sees what the one
before reserved. Claims of different workers pass each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, F, QuerySet, Sum

from core.errors import Conflict
from taskrunner import placing
from taskrunner.enums import FIRST_LEASE_SECONDS, HELD, Status, WorkerState
from taskrunner.models import Attempt, Quota, Task, Worker
from taskrunner.placing import Resources

LOOKED_AT = 50
RESOURCES = ("cpu", "memory", "storage", "gpus")


def take(worker: Worker, most: int, now: datetime, *, call: UUID | None, begins: bool) -> list[Task]:
    """Give the worker up to `most` tasks, each with a new fence, its attempt written down. Raises Superseded."""
    tasks = _take_at_once(worker, most, now, call, begins) if connection.vendor == "postgresql" else None
    return _take_by_steps(worker, most, now, call, begins) if tasks is None else tasks


class Superseded(Conflict):
    """Another call of the worker has begun since."""

    def __init__(self) -> None:
        super().__init__("Another call of this worker asks for tasks now.", code="superseded")


def held_resources(worker: Worker) -> Resources:
    """What the tasks on the worker have reserved."""
    sums = (
        Task.objects.for_org(worker.organization_id)
        .filter(worker=worker, status__in=HELD)
        .aggregate(**{name: Sum(name) for name in RESOURCES})
    )
    return Resources(**{name: value or 0 for name, value in sums.items()})


# ---- PostgreSQL ----


@cache
def _fields() -> list[tuple[str, str, Any]]:
    """Column, attribute and how its value is read, of a task."""
    return [
        (str(field.column), field.attname, getattr(field, "from_db_value", None))
        for field in Task._meta.concrete_fields
    ]


@cache
def _claim_sql() -> str:
    columns = ", ".join(f'(c.task)."{column}"' for column, _, _ in _fields())
    return f"SELECT c.verdict, c.mounts, {columns} FROM taskrunner_claim(%s, %s, %s, %s, %s, %s, %s) c"  # noqa: S608


def _take_at_once(worker: Worker, most: int, now: datetime, call: UUID | None, begins: bool) -> list[Task] | None:
    """By the function of migration 0005; None when limits of people are set."""
    lease = now + timedelta(seconds=FIRST_LEASE_SECONDS)
    values = [worker.id, worker.organization_id, call, begins, most, now, lease]
    with connection.cursor() as cursor:
        cursor.execute(_claim_sql(), values)
        rows = cursor.fetchall()
    if rows and rows[0][0] == "superseded":
        raise Superseded
    if rows and rows[0][0] == "limited":
        return None
    tasks = [_load(row[2:]) for row in rows]
    for task, row in zip(tasks, rows, strict=True):
        worker.host_mounts = json.loads(row[1])  # as they are now; the caller's worker may be older
        task.worker = worker
    return sorted(tasks, key=lambda task: (-task.priority, task.queued_at, task.id))


def _load(row: Sequence[Any]) -> Task:
    fields = _fields()
    return Task.from_db(
        connection.alias,
        [attribute for _, attribute, _ in fields],
        [read(value, None, connection) if read else value for (_, _, read), value in zip(fields, row, strict=True)],
    )


# ---- every database, and limits of people ----


def _take_by_steps(worker: Worker, most: int, now: datetime, call: UUID | None, begins: bool) -> list[Task]:
    with transaction.atomic():
        rows = Worker.objects.for_org(worker.organization_id).filter(id=worker.id)
        if begins:
            rows.update(claim_call=call)
        held = rows.select_for_update(no_key=True).first()
        if held is None or held.wanted != WorkerState.OPEN:
            return []
        if call is not None and held.claim_call != call:
            raise Superseded
        tasks = _choose(held, most, now)
        if tasks:
            _give(held, tasks, now)
        return tasks


def _give(worker: Worker, tasks: list[Task], now: datetime) -> None:
    changes: dict[str, Any] = {
        "status": Status.CLAIMED,
        "worker": worker,
        "claimed_at": now,
        "lease_expires_at": now + timedelta(seconds=FIRST_LEASE_SECONDS),
        "started_at": None,
        "reason": f"Starting on {worker.name}",
        "exit_code": None,
        "exit_class": "",
        "progress": None,
        "progress_words": "",
    }
    rows = Task.objects.for_org(worker.organization_id).filter(id__in=[task.id for task in tasks])
    rows.update(fence=F("fence") + 1, attempt=F("attempt") + 1, **changes)
    for task in tasks:
        task.fence, task.attempt = task.fence + 1, task.attempt + 1
        for name, value in changes.items():
            setattr(task, name, value)
    Attempt.objects.bulk_create(
        Attempt(task=task, number=task.fence, worker=worker, worker_label=worker.name, claimed_at=now) for task in tasks
    )
    if worker.idle_since is not None:
        Worker.objects.for_org(worker.organization_id).filter(id=worker.id).update(idle_since=None)


def _choose(worker: Worker, most: int, now: datetime) -> list[Task]:
    free = worker.capacity - held_resources(worker)
    if free.cpu <= 0 or free.memory <= 0:
        return []
    queued = Task.objects.for_org(worker.organization_id).filter(status=Status.QUEUED, not_before__lte=now)
    rows = queued.filter(
        cancel_requested_at=None,
        cpu__lte=free.cpu,
        memory__lte=free.memory,
        storage__lte=max(0, free.storage),
        gpus__lte=max(0, free.gpus),
    ).order_by("-priority", "queued_at", "id")
    limits = _Limits(worker.organization_id)
    chosen: list[Task] = []
    for task in _looked_at(rows):
        if placing.fits(task.wish, free, worker.labels) and limits.allow(task):
            own = _locked(queued, task)
            if own is None:
                continue
            chosen.append(own)
            free = free - own.resources
            limits.count(own)
            if len(chosen) == most:
                break
    return chosen


def _looked_at(rows: QuerySet[Task]) -> Iterable[Task]:
    """The first tasks; after a few, the next many behind those that labels or limits hold back."""
    yield from rows[:LOOKED_AT]
    yield from rows[LOOKED_AT : 11 * LOOKED_AT]


def _locked(queued: QuerySet[Task], task: Task) -> Task | None:
    """The task with its row locked; None when another claim has it. With one writer at a time it is ours anyway."""
    if not connection.features.has_select_for_update_skip_locked:
        return task
    return queued.select_for_update(skip_locked=True, no_key=True).filter(id=task.id).first()


class _Limits:
    """The limits of an organization against what runs now. Their rows are locked: claims under limits come one by one,
    so that two workers cannot both take a person's last place."""

    def __init__(self, org_id: UUID) -> None:
        self.org_id = org_id
        self.quotas = list(Quota.objects.for_org(org_id).select_for_update(no_key=True).order_by("id"))
        self.running: dict[UUID | None, dict[str, int]] = {}

    def allow(self, task: Task) -> bool:
        return all(self._within(quota, task) for quota in self._of(task))

    def count(self, task: Task) -> None:
        """The task has been taken."""
        for user_id in {quota.user_id for quota in self._of(task)}:
            now = self._now(user_id)
            now["n"] += 1
            for name in ("cpu", "memory", "gpus"):
                now[name] += getattr(task, name)

    def _of(self, task: Task) -> list[Quota]:
        return [quota for quota in self.quotas if quota.user_id in (None, task.owner_id)]

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
