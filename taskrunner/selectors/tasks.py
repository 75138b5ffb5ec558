"""Tasks that an actor may see: its own, shared ones, and all of the organization with tasks.manage."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, Q, QuerySet
from django.db.models.expressions import OrderBy

from accounts import selectors as accounts
from core.actor import Actor, ActorKind
from core.errors import NotFound
from costs.selectors import day_bounds
from taskrunner.enums import FINAL, HELD, PENDING, PERMISSION_MANAGE, PERMISSION_OPERATE, PERMISSION_VIEW, Status
from taskrunner.models import Task, TaskHook, TaskSchedule, TaskTemplate

GROUPS: dict[str, tuple[str, ...]] = {
    "pending": tuple(str(s) for s in PENDING),
    "running": tuple(str(s) for s in HELD),
    "completed": (Status.SUCCEEDED,),
    "succeeded": (Status.SUCCEEDED,),
    "failed": (Status.FAILED,),
    "cancelled": (Status.CANCELLED,),
    "active": tuple(str(s) for s in (*PENDING, *HELD)),
    "waiting": (Status.WAITING,),
    "queued": (Status.QUEUED,),
    "claimed": (Status.CLAIMED,),
}
PILLS = (
    ("", "All"),
    ("pending", "Pending"),
    ("running", "Running"),
    ("completed", "Succeeded"),
    ("failed", "Failed"),
    ("cancelled", "Cancelled"),
)
SORTS: dict[str, Any] = {
    "created": F("created_at"),
    "name": F("name"),
    "status": F("status"),
    "owner": F("owner_label"),
    "priority": F("priority"),
    "started": F("started_at"),
    "duration": F("finished_at") - F("started_at"),
}
# What lists need; secrets and settings stay in the database.
_LIST_FIELDS = (
    "id", "organization_id", "owner_id", "owner_label", "name", "image", "status", "reason", "exit_code", "exit_class",
    "attempt", "retries", "priority", "shared", "progress", "progress_words", "created_at", "queued_at", "started_at",
    "finished_at", "cancel_requested_at", "worker_id", "worker__id", "worker__name", "worker__organization_id", "fence",
    "cpu", "memory", "storage", "gpus", "description", "command", "not_before", "labels",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is asked for; `whose` is mine, shared or "" for all that the actor may see."""

    search: str = ""
    status: str = ""
    whose: str = ""
    worker: UUID | None = None
    owner: UUID | None = None
    sort: str = "-created"


@dataclass(frozen=True, slots=True)
class Pill:
    key: str
    label: str
    count: int
    current: bool


@dataclass(frozen=True, slots=True)
class TaskGrid:
    page: Page[Any]
    pills: list[Pill]
    active: bool


def visible(actor: Actor) -> QuerySet[Task]:
    """The tasks that the actor may see. Nobody sees another's tasks unless they are shared, but for admins."""
    actor.require(PERMISSION_VIEW, "see tasks")
    rows: QuerySet[Task] = Task.objects.visible_to(actor)
    if actor.can(PERMISSION_MANAGE):
        return rows
    mine = Q(shared=True)
    if actor.kind == ActorKind.USER:
        mine |= Q(owner_id=actor.id)
    else:
        mine |= Q(owner=None, owner_label=actor.label)
    return rows.filter(mine)


def is_own(actor: Actor, task: Task) -> bool:
    """Whether the actor submitted it."""
    if actor.kind == ActorKind.USER:
        return str(task.owner_id) == actor.id
    return "*" in actor.permissions or (task.owner_id is None and task.owner_label == actor.label)


def may_change(actor: Actor, task: Task) -> bool:
    """Whether the actor may cancel, retry, share or delete it."""
    return actor.can(PERMISSION_OPERATE) and (is_own(actor, task) or actor.can(PERMISSION_MANAGE))


def get_task(*, actor: Actor, task_id: UUID | str) -> Task:
    """One task; NotFound for one of another organization, or of another person that is not shared."""
    found = visible(actor).select_related("worker", "retry_of", "schedule").filter(id=task_id).first()
    if found is None:
        raise NotFound("There is no such task.")
    return found


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The tasks that a task waited for, and those that wait for it; only what the actor may see."""

    needs: list[Task]
    needed_by: list[Task]


def neighbours(*, actor: Actor, task: Task) -> Neighbours:
    """What comes before a task and what comes after it, in the order of submission."""
    rows = visible(actor).only(*_LIST_FIELDS).order_by("created_at", "id")
    return Neighbours(list(rows.filter(needed_by=task)), list(rows.filter(needs=task)))


def query(*, actor: Actor, filters: Filters) -> QuerySet[Task]:
    """The matching tasks as an ordered queryset, for paging."""
    rows = _unsorted(actor, filters)
    if filters.status in GROUPS:
        rows = rows.filter(status__in=GROUPS[filters.status])
    name = filters.sort.removeprefix("-")
    key = SORTS.get(name, SORTS["created"])
    down = filters.sort.startswith("-") or name not in SORTS
    first = OrderBy(key, descending=down, nulls_last=True)
    return rows.select_related("worker").only(*_LIST_FIELDS).order_by(first, "-created_at", "id")


def _unsorted(actor: Actor, filters: Filters) -> QuerySet[Task]:
    rows = visible(actor)
    if filters.whose == "mine":
        rows = rows.filter(owner__id=actor.id) if actor.kind == ActorKind.USER else rows.filter(owner_label=actor.label)
    elif filters.whose == "shared":
        rows = rows.filter(shared=True)
    if filters.worker:
        rows = rows.filter(worker_id=filters.worker)
    if filters.owner:
        rows = rows.filter(owner_id=filters.owner)
    if filters.search:
        words = filters.search
        wanted = Q(name__icontains=words) | Q(image__icontains=words) | Q(owner_label__icontains=words)
        with contextlib.suppress(ValueError):
            wanted |= Q(id=UUID(words))
        rows = rows.filter(wanted)
    return rows


def task_grid(*, actor: Actor, filters: Filters, number: int | str = 1, size: int = 50) -> TaskGrid:
    """One page of tasks with the counts of its pills."""
    counted = _unsorted(actor, filters).order_by().values("status").annotate(n=Count("id"))
    counts = {row["status"]: row["n"] for row in counted}
    pills = [
        Pill(
            key,
            label,
            sum(counts.get(str(s), 0) for s in GROUPS[key]) if key else sum(counts.values()),
            key == filters.status,
        )
        for key, label in PILLS
    ]
    page: Page[Any] = Paginator(query(actor=actor, filters=filters), size).get_page(number)
    page.object_list = list(page.object_list)
    return TaskGrid(page, pills, any(not task.is_final for task in page.object_list))


def wall(*, actor: Actor, ids: list[UUID], most: int = 12) -> list[Task]:
    """The tasks of a wall: those named, else what runs now, else the newest."""
    rows = visible(actor).select_related("worker").only(*_LIST_FIELDS)
    if ids:
        found = {task.id: task for task in rows.filter(id__in=ids[:most])}
        return [found[i] for i in ids if i in found]
    running = list(rows.filter(status__in=HELD).order_by("-started_at", "-created_at")[:most])
    return running or list(rows.order_by("-created_at")[:4])


def list_templates(*, actor: Actor) -> list[TaskTemplate]:
    actor.require(PERMISSION_VIEW, "see task templates")
    return list(TaskTemplate.objects.visible_to(actor).order_by("name"))


def get_template(*, actor: Actor, template_id: UUID | str) -> TaskTemplate:
    actor.require(PERMISSION_VIEW, "see task templates")
    found: TaskTemplate | None = TaskTemplate.objects.visible_to(actor).filter(id=template_id).first()
    if found is None:
        raise NotFound("There is no such template.")
    return found


def pending_of(*, actor: Actor, most: int = 20) -> list[Task]:
    """The person's own tasks that have not ended, newest first: what another task may run after."""
    rows = Task.objects.visible_to(actor).filter(owner__id=actor.id, status__in=(*PENDING, *HELD))
    return list(rows.order_by("-created_at")[:most])


def list_schedules(*, actor: Actor) -> list[TaskSchedule]:
    actor.require(PERMISSION_VIEW, "see task schedules")
    rows = TaskSchedule.objects.visible_to(actor).select_related("owner").order_by("name")
    return list(rows if actor.can(PERMISSION_MANAGE) else rows.filter(owner__id=actor.id))


def list_hooks(*, actor: Actor) -> list[TaskHook]:
    """The actor's own; with tasks.manage everybody's."""
    actor.require(PERMISSION_VIEW, "see task webhooks")
    rows = TaskHook.objects.visible_to(actor).select_related("owner", "template").order_by("name")
    return list(rows if actor.can(PERMISSION_MANAGE) else rows.filter(owner__id=actor.id))


def stats(*, actor: Actor) -> dict[str, Any]:
    """Counts of the organization's tasks by status, and of today's by outcome. Needs tasks.manage."""
    actor.require(PERMISSION_MANAGE, "see the statistics of tasks")
    rows = Task.objects.visible_to(actor)
    counts = {row["status"]: row["n"] for row in rows.order_by().values("status").annotate(n=Count("id"))}
    day, _ = day_bounds(accounts.get_organization(actor=actor).timezone)
    ended = rows.filter(status__in=FINAL, finished_at__gte=day).order_by().values("status").annotate(n=Count("id"))
    oldest = rows.filter(status=Status.QUEUED).order_by("queued_at").values_list("queued_at", flat=True).first()
    return {
        "by_status": {str(s): counts.get(str(s), 0) for s in Status},
        "ended_today": {row["status"]: row["n"] for row in ended},
        "oldest_queued_at": oldest,
    }
