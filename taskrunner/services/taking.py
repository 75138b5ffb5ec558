"""How queued tasks become a worker's, in the fewest statements: one way for PostgreSQL, one for every database.

Both run in the caller's transaction, which holds the worker's row: claims of one worker come one after the other and
each sees what the one before reserved. Claims of different workers pass each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection, models
from django.db.models import Count, Exists, F, QuerySet, Sum

from taskrunner import placing
from taskrunner.enums import FIRST_LEASE_SECONDS, HELD, Status
from taskrunner.models import Attempt, Quota, Task, Worker
from taskrunner.placing import Resources

LOOKED_AT = 50
RESOURCES = ("cpu", "memory", "storage", "gpus")


def hold_worker(worker: Worker, call: UUID | None, *, begins: bool) -> tuple[Worker | None, bool]:
    """The worker as it is now, its row locked, and whether limits are set; a call that begins is written down."""
    if connection.vendor == "postgresql":
        named = [worker.id, worker.organization_id]
        sql, values = (_BEGIN_SQL(), [call, *named]) if begins else (_HOLD_SQL(), named)
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            row = cursor.fetchone()
        return (_load(Worker, row[:-1]), row[-1]) if row else (None, False)
    rows = Worker.objects.for_org(worker.organization_id).filter(id=worker.id)
    if begins:
        rows.update(claim_call=call)
    limited = Exists(Quota.objects.for_org(worker.organization_id))
    held: Worker | None = rows.annotate(limited=limited).select_for_update(no_key=True).first()
    return held, held is not None and held.limited  # type: ignore[attr-defined]


def take(worker: Worker, most: int, now: datetime, *, limited: bool) -> list[Task]:
    """Give the worker up to `most` tasks, each with a new fence, its attempt written down."""
    if connection.vendor == "postgresql" and not limited:
        return _take_at_once(worker, most, now)
    return _take_by_steps(worker, most, now, limited=limited)


def held_resources(worker: Worker) -> Resources:
    """What the tasks on the worker have reserved."""
    sums = (
        Task.objects.for_org(worker.organization_id)
        .filter(worker=worker, status__in=HELD)
        .aggregate(**{name: Sum(name) for name in RESOURCES})
    )
    return Resources(**{name: value or 0 for name, value in sums.items()})


# ---- PostgreSQL ----


_OF_A_WORKER = (
    "id", "organization", "name", "labels", *RESOURCES, "wanted", "idle_since", "claim_call", "host_mounts",
)  # fmt: skip


@cache
def _fields(model: type[models.Model]) -> list[tuple[str, str, Any]]:
    """Column, attribute and how its value is read, of what a claim needs of the row."""
    needed = _OF_A_WORKER if model is Worker else None
    return [
        (str(field.column), field.attname, getattr(field, "from_db_value", None))
        for field in model._meta.concrete_fields
        if needed is None or field.name in needed
    ]


def _columns(model: type[models.Model], alias: str) -> str:
    return ", ".join(f'{alias}."{column}"' for column, _, _ in _fields(model))


def _load(model: Any, row: Sequence[Any]) -> Any:
    """The instance of a row that was read in the order of `_columns`; its other fields are read when asked for."""
    fields = _fields(model)
    return model.from_db(
        connection.alias,
        [attribute for _, attribute, _ in fields],
        [read(value, None, connection) if read else value for (_, _, read), value in zip(fields, row, strict=True)],
    )


_LIMITED = "EXISTS (SELECT 1 FROM taskrunner_quota q WHERE q.organization_id = w.organization_id)"


@cache
def _HOLD_SQL() -> str:  # noqa: N802  a constant that needs the models
    return (
        f"SELECT {_columns(Worker, 'w')}, {_LIMITED} FROM taskrunner_worker w"  # noqa: S608  no values in it
        " WHERE w.id = %s AND w.organization_id = %s FOR NO KEY UPDATE OF w"
    )


@cache
def _BEGIN_SQL() -> str:  # noqa: N802
    return (
        "UPDATE taskrunner_worker w SET claim_call = %s WHERE w.id = %s AND w.organization_id = %s"  # noqa: S608
        f" RETURNING {_columns(Worker, 'w')}, {_LIMITED}"
    )


# The first tasks by priority and age that each fit and that fit together. What another claim has locked is passed over.
# `free` is read after the worker's row was locked, so nothing is reserved on it beside us.
_TAKE = """
WITH free AS MATERIALIZED (
    SELECT %(cpu)s - coalesce(sum(cpu), 0) AS cpu, %(memory)s - coalesce(sum(memory), 0) AS memory,
        greatest(0, %(storage)s - coalesce(sum(storage), 0)) AS storage,
        greatest(0, %(gpus)s - coalesce(sum(gpus), 0)) AS gpus
    FROM taskrunner_task WHERE worker_id = %(worker)s AND status IN ('claimed', 'running')
), candidate AS MATERIALIZED (
    SELECT id, cpu, memory, storage, gpus, priority, queued_at FROM taskrunner_task
    WHERE organization_id = %(organization)s AND status = 'queued'
        AND not_before <= %(now)s AND cancel_requested_at IS NULL
        AND cpu <= (SELECT cpu FROM free) AND memory <= (SELECT memory FROM free)
        AND storage <= (SELECT storage FROM free) AND gpus <= (SELECT gpus FROM free)
        AND (SELECT cpu > 0 AND memory > 0 FROM free)
        AND %(labels)s::jsonb @> labels
    ORDER BY priority DESC, queued_at, id LIMIT %(most)s
    FOR NO KEY UPDATE SKIP LOCKED
), chosen AS MATERIALIZED (
    SELECT id FROM (
        SELECT id, sum(cpu) OVER w AS cpu, sum(memory) OVER w AS memory,
            sum(storage) OVER w AS storage, sum(gpus) OVER w AS gpus
        FROM candidate WINDOW w AS (ORDER BY priority DESC, queued_at, id)
    ) together, free
    WHERE together.cpu <= free.cpu AND together.memory <= free.memory
        AND together.storage <= free.storage AND together.gpus <= free.gpus
), taken AS (
    UPDATE taskrunner_task t SET fence = t.fence + 1, attempt = t.attempt + 1, status = 'claimed',
        worker_id = %(worker)s, claimed_at = %(now)s, lease_expires_at = %(lease)s, started_at = NULL,
        reason = %(reason)s, exit_code = NULL, exit_class = '', progress = NULL, progress_words = ''
    WHERE t.id = ANY (ARRAY(SELECT id FROM chosen)) RETURNING {columns}
), noted AS (
    INSERT INTO taskrunner_attempt (task_id, number, worker_id, worker_label, claimed_at, exit_class, reason)
    SELECT id, fence, %(worker)s, %(label)s, %(now)s, '', '' FROM taken
), busy AS (
    UPDATE taskrunner_worker SET idle_since = NULL
    WHERE id = %(worker)s AND idle_since IS NOT NULL AND EXISTS (SELECT 1 FROM taken)
)
SELECT * FROM taken ORDER BY priority DESC, queued_at, id
"""


@cache
def _take_sql() -> str:
    return _TAKE.format(columns=_columns(Task, "t"))


def _take_at_once(worker: Worker, most: int, now: datetime) -> list[Task]:
    labels = Worker._meta.get_field("labels").get_db_prep_value(worker.labels, connection)
    values = {
        **{name: getattr(worker, name) for name in RESOURCES},
        "worker": worker.id,
        "organization": worker.organization_id,
        "labels": labels,
        "most": most,
        "now": now,
        "lease": now + timedelta(seconds=FIRST_LEASE_SECONDS),
        "reason": _reason(worker),
        "label": worker.name,
    }
    with connection.cursor() as cursor:
        cursor.execute(_take_sql(), values)
        tasks = [_load(Task, row) for row in cursor.fetchall()]
    for task in tasks:
        task.worker = worker
    return tasks


def _reason(worker: Worker) -> str:
    return f"Starting on {worker.name}"


# ---- every database, and limits of people ----


def _take_by_steps(worker: Worker, most: int, now: datetime, *, limited: bool) -> list[Task]:
    tasks = _choose(worker, most, now, limited=limited)
    if not tasks:
        return []
    changes: dict[str, Any] = {
        "status": Status.CLAIMED,
        "worker": worker,
        "claimed_at": now,
        "lease_expires_at": now + timedelta(seconds=FIRST_LEASE_SECONDS),
        "started_at": None,
        "reason": _reason(worker),
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
    return tasks


def _choose(worker: Worker, most: int, now: datetime, *, limited: bool) -> list[Task]:
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
    limits = _Limits(worker.organization_id) if limited else None
    chosen: list[Task] = []
    for task in _looked_at(rows):
        if placing.fits(task.wish, free, worker.labels) and (limits is None or limits.allow(task)):
            own = _locked(queued, task)
            if own is None:
                continue
            chosen.append(own)
            free = free - own.resources
            if limits is not None:
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
