"""Workers with what is free on them, their figures over time, and why a task still waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Sum

from accounts.models import AgentToken, Membership
from core import clock
from core.actor import Actor
from core.errors import NotFound
from taskrunner import placing
from taskrunner.enums import HELD, LOST_AFTER_SECONDS, WORKERS_MANAGE, WORKERS_VIEW, Status, WorkerState
from taskrunner.models import Quota, Sample, Task, Worker
from taskrunner.placing import Resources

RESOURCES = ("cpu", "memory", "storage", "gpus")
FIGURES = ("cpu", "memory", "storage", "gpu", "gpu_memory", "network_in", "network_out", "disk_read", "disk_write")


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    used: float
    total: float
    unit: str

    @property
    def percent(self) -> int:
        return round(100 * self.used / self.total) if self.total else 0


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker: health is active, idle, overloaded, cordoned, draining or lost."""

    worker: Worker
    health: str
    running: int
    held: Resources
    bars: list[Bar] = field(default_factory=list)

    @property
    def offers(self) -> str:
        """What tasks may have of it, in words."""
        has = self.worker
        gpus = f", {has.gpus} GPUs" if has.gpus else ""
        return f"{has.cpu / 1000:g} cores, {has.memory / 1024:.1f} GiB memory, {has.storage / 1024:.1f} GiB disk{gpus}"

    @property
    def free(self) -> Resources:
        return self.worker.capacity - self.held


MOST_SHAPES = 500


def who_may_take(org_id: UUID, worker_ids: Iterable[UUID]) -> tuple[list[UUID], int]:
    """Which of these workers have room for one of the first due tasks, in the order given, and how many are due.

    A cheap look before claims: it locks nothing, and what it says may be over a moment later.
    """
    due = Task.objects.for_org(org_id).filter(
        status=Status.QUEUED, not_before__lte=clock.now(), cancel_requested_at=None
    )
    rows = list(due.order_by("-priority", "queued_at", "id").only("labels", *RESOURCES)[:MOST_SHAPES])
    wishes = {(task.resources, tuple(sorted(task.labels.items()))): task.wish for task in rows}.values()
    if not wishes:
        return [], 0
    wanted = list(worker_ids)
    found = Worker.objects.for_org(org_id).filter(id__in=wanted, wanted=WorkerState.OPEN)
    workers = {worker.id: worker for worker in found.only("labels", *RESOURCES)}
    held = _held(org_id, workers)
    return [
        worker_id
        for worker_id in wanted
        if (worker := workers.get(worker_id)) is not None
        and any(
            placing.fits(wish, worker.capacity - held.get(worker_id, Resources()), worker.labels) for wish in wishes
        )
    ], len(rows)


def _held(org_id: UUID, worker_ids: Iterable[UUID]) -> dict[UUID, Resources]:
    """What the tasks on each of these workers have reserved."""
    rows = Task.objects.for_org(org_id).filter(worker_id__in=list(worker_ids), status__in=HELD).order_by()
    sums = rows.values_list("worker_id").annotate(*(Sum(name) for name in RESOURCES))
    return {worker_id: Resources(*(value or 0 for value in values)) for worker_id, *values in sums if worker_id}


def worker_of_token(token: AgentToken) -> Worker:
    """The worker that a token speaks for. Raises NotFound when it was removed."""
    found = None
    if token.kind == "worker" and token.resource_id is not None:
        found = Worker.objects.for_org(token.organization_id).filter(id=token.resource_id).first()
    if found is None:
        raise NotFound("The worker of this token was removed.")
    return found


def get_worker(*, actor: Actor, worker_id: UUID | str) -> Worker:
    """One worker; NotFound also for another organization's."""
    actor.require(WORKERS_VIEW, "see workers")
    found: Worker | None = Worker.objects.visible_to(actor).filter(id=worker_id).first()
    if found is None:
        raise NotFound("There is no such worker.")
    return found


def list_workers(*, actor: Actor, ids: Iterable[UUID] | None = None) -> list[WorkerLine]:
    """Every worker with what runs on it, in two queries."""
    actor.require(WORKERS_VIEW, "see workers")
    rows = Worker.objects.visible_to(actor).order_by("name")
    workers = list(rows.filter(id__in=list(ids)) if ids is not None else rows)
    sums = (
        Task.objects.visible_to(actor)
        .filter(status__in=HELD, worker__isnull=False)
        .order_by()
        .values("worker_id")
        .annotate(n=Count("id"), c=Sum("cpu"), m=Sum("memory"), s=Sum("storage"), g=Sum("gpus"))
    )
    held = {row["worker_id"]: row for row in sums}
    return [_line(worker, held.get(worker.id)) for worker in workers]


def _line(worker: Worker, row: Mapping[str, Any] | None) -> WorkerLine:
    held = Resources(row["c"], row["m"], row["s"], row["g"]) if row else Resources()
    running = row["n"] if row else 0
    usage = worker.usage
    cores, memory = _whole(worker)
    disk = usage.get("storage", 0)  # what it offers is what is free beside that
    bars = [
        Bar("CPU", usage.get("cpu", 0) / 100, cores, "cores"),
        Bar("Memory", usage.get("memory", 0) / 1024, memory / 1024, "GiB"),
        Bar("Disk", disk / 1024, (worker.storage + disk) / 1024 if worker.storage else 0, "GiB"),
    ]
    if worker.gpus:
        bars.append(Bar("GPU", held.gpus, worker.gpus, "GPUs"))
    return WorkerLine(worker, health_of(worker, running), running, held, [bar for bar in bars if bar.total])


def _whole(worker: Worker) -> tuple[float, float]:
    """Cores and MiB of memory that its use is a part of: the machine's, or what it offers where it does not tell."""
    cores = worker.usage.get("cpu_whole", 0) / 100 or worker.cpu / 1000
    return cores, worker.usage.get("memory_whole", 0) or worker.memory


def health_of(worker: Worker, running: int) -> str:
    """What a badge says of it."""
    if worker.seen_at is None or worker.seen_at < clock.now() - timedelta(seconds=LOST_AFTER_SECONDS):
        return "lost"
    if worker.wanted != WorkerState.OPEN:
        return str(worker.wanted)
    cores, memory = _whole(worker)
    busy = worker.usage.get("cpu", 0) > 95 * cores or worker.usage.get("memory", 0) > 0.95 * memory
    if busy and worker.cpu and worker.usage:
        return "overloaded"
    return "active" if running else "idle"


def history(*, actor: Actor, worker_id: UUID, hours: int = 6, points: int = 120) -> list[dict[str, Any]]:
    """Means of a worker's figures over time; a span without a report is missing rather than zero."""
    worker = get_worker(actor=actor, worker_id=worker_id)
    since = clock.now() - timedelta(hours=hours)
    rows = Sample.objects.filter(worker=worker, task=None, at__gte=since).order_by("at")
    return _means(list(rows.values("at", *FIGURES)), points)


def task_history(*, task: Task, points: int = 240) -> list[dict[str, Any]]:
    """Means of a task's figures from its start on."""
    return _means(list(Sample.objects.filter(task=task).order_by("at").values("at", *FIGURES)), points)


def _means(rows: list[dict[str, Any]], points: int) -> list[dict[str, Any]]:
    if len(rows) <= points:
        return rows
    first, last = rows[0]["at"], rows[-1]["at"]
    span = (last - first).total_seconds() / points or 1.0
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(min(points - 1, int((row["at"] - first).total_seconds() / span)), []).append(row)
    return [_mean(group) for _, group in sorted(groups.items())]


def _mean(group: list[dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {"at": group[len(group) // 2]["at"]}
    for name in FIGURES:
        known = [row[name] for row in group if row[name] is not None]
        made[name] = sum(known) / len(known) if known else None
    return made


def why_waiting(*, actor: Actor, task: Task) -> list[str]:
    """What keeps a queued task from running, in words."""
    if task.status == Status.WAITING:
        return [task.reason]
    if task.status != Status.QUEUED:
        return []
    now: datetime = clock.now()
    if task.not_before > now:
        return [f"{task.reason} It is tried again in {round((task.not_before - now).total_seconds())} s."]
    lines = [_line(worker, None) for worker in Worker.objects.for_org(task.organization_id).order_by("name")]
    if not lines:
        return ["No worker has joined yet."]
    able = [line for line in lines if not placing.misfit(task.wish, line.worker.capacity, line.worker.labels)]
    if not able:
        return [
            f"{line.worker.name} {placing.misfit(task.wish, line.worker.capacity, line.worker.labels)}"
            for line in lines[:5]
        ]
    open_ones = [line for line in able if line.health not in ("lost", "cordoned", "draining")]
    if not open_ones:
        return [f"{line.worker.name} is {line.health}" for line in able[:5]]
    return [f"Waits for room on {', '.join(line.worker.name for line in open_ones[:5])}"]


def list_quotas(*, actor: Actor) -> list[dict[str, Any]]:
    """Limits of everybody and of each member, with what each holds now."""
    actor.require(WORKERS_MANAGE, "see task limits")
    quotas = {row.user_id: row for row in Quota.objects.visible_to(actor)}
    rows = Task.objects.visible_to(actor).filter(status__in=(*HELD, Status.QUEUED, Status.WAITING)).order_by()
    counts: dict[UUID | None, dict[str, int]] = {}
    for row in rows.values("owner_id", "status").annotate(n=Count("id")):
        mine = counts.setdefault(row["owner_id"], {"running": 0, "pending": 0})
        mine["running" if row["status"] in HELD else "pending"] += row["n"]
    people = Membership.objects.visible_to(actor).select_related("user").order_by("user__email")
    return [
        {
            "user_id": person.user_id,
            "name": person.user.display_name,
            "email": person.user.email,
            "quota": quotas.get(person.user_id),
            **counts.get(person.user_id, {"running": 0, "pending": 0}),
        }
        for person in people
    ]
