"""Reads of operations for pages and the HTTP interface: scoped, filtered, evaluated."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, Q
from django.db.models.functions import Coalesce

from core import sleepable
from core.actor import Actor
from core.errors import NotFound
from operations import registry
from operations.enums import ACTIVE, Status
from operations.models import Operation

STATUS_GROUPS: dict[str, tuple[str, ...]] = {
    "active": tuple(str(s) for s in ACTIVE),
    "queued": (Status.QUEUED,),
    "running": (Status.RUNNING,),
    "succeeded": (Status.SUCCEEDED,),
    "failed": (Status.FAILED,),
    "cancelled": (Status.CANCELLED,),
}
SORTS: dict[str, Any] = {
    "created": F("created_at"),
    "resource": F("resource_label"),
    "kind": F("kind"),
    "status": F("status"),
    "by": F("actor_label"),
    "ended": Coalesce("finished_at", "created_at"),
}
PILLS = (
    ("", "All"),
    ("active", "Under way"),
    ("failed", "Failed"),
    ("succeeded", "Succeeded"),
    ("cancelled", "Cancelled"),
)


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is asked for; `status` is a key of STATUS_GROUPS, `sort` a key of SORTS with an optional minus."""

    search: str = ""
    status: str = ""
    kind: str = ""
    sort: str = "-created"
    resource_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Pill:
    key: str
    label: str
    count: int
    current: bool


@dataclass(frozen=True, slots=True)
class Line:
    """An operation and the words that its row needs."""

    operation: Operation
    label: str
    seconds_left: int | None
    expected: int | None
    elapsed_seconds: int
    url: str

    @property
    def title(self) -> str:
        return f"{self.label}: {self.operation.resource_label}"


@dataclass(frozen=True, slots=True)
class Grid:
    """One page of operations with the counts of its pills and the kinds to choose from."""

    page: Page[Any]
    pills: list[Pill]
    kinds: list[tuple[str, str]] = field(default_factory=list)
    active: bool = False


def label_of(kind: str) -> str:
    """What a kind of operation is called; the kind itself when its app is not installed any more."""
    return next((e.label for e in registry.all_executors() if e.kind == kind), kind)


def line(operation: Operation) -> Line:
    """One row, without further reads."""
    return Line(
        operation=operation,
        label=label_of(operation.kind),
        seconds_left=operation.seconds_left,
        expected=None if operation.expected_seconds is None else max(1, round(operation.expected_seconds)),
        elapsed_seconds=max(0, int(operation.elapsed.total_seconds())),
        url=operation.get_absolute_url(),
    )


def query(*, actor: Actor, filters: Filters) -> Any:
    """The matching rows as an ordered queryset, for paging."""
    rows = _unsorted(actor, filters)
    if filters.status in STATUS_GROUPS:
        rows = rows.filter(status__in=STATUS_GROUPS[filters.status])
    name = filters.sort.removeprefix("-")
    key = SORTS.get(name, SORTS["created"])
    return rows.order_by(
        key.desc() if filters.sort.startswith("-") or name not in SORTS else key.asc(), "-created_at", "id"
    )


def _unsorted(actor: Actor, filters: Filters) -> Any:
    actor.require("operations.view", "see operations")
    rows = Operation.objects.visible_to(actor)
    if filters.kind:
        rows = rows.filter(kind=filters.kind)
    if filters.resource_id:
        rows = rows.filter(resource_id=filters.resource_id)
    if filters.search:
        words = filters.search
        rows = rows.filter(
            Q(resource_label__icontains=words)
            | Q(actor_label__icontains=words)
            | Q(error__icontains=words)
            | Q(reason__icontains=words)
            | Q(kind__icontains=words)
        )
    return rows


def grid(*, actor: Actor, filters: Filters, number: int | str = 1, size: int = 50) -> Grid:
    """A page of the list in three queries."""
    rows = _unsorted(actor, filters).order_by().values("status").annotate(n=Count("id"))
    counts: dict[str, int] = {row["status"]: row["n"] for row in rows}
    pills = []
    for key, label in PILLS:
        count = sum(counts.get(str(s), 0) for s in STATUS_GROUPS[key]) if key else sum(counts.values())
        pills.append(Pill(key, label, count, key == filters.status))
    page: Page[Any] = Paginator(query(actor=actor, filters=filters), size).get_page(number)
    page.object_list = [line(o) for o in page.object_list]
    kinds = sorted(((e.kind, e.label) for e in registry.all_executors()), key=lambda pair: pair[1])
    return Grid(page, pills, kinds, active=any(not row.operation.is_final for row in page.object_list))


def get_operation(*, actor: Actor, operation_id: UUID | str) -> Operation:
    """One operation; NotFound also when it is another organization's."""
    actor.require("operations.view", "see operations")
    found = Operation.objects.visible_to(actor).select_related("retry_of").filter(id=operation_id).first()
    if found is None:
        raise NotFound("There is no such operation.")
    return found


def active_lines(*, actor: Actor, limit: int = 12) -> list[Line]:
    """What is under way now, oldest first."""
    rows = Operation.objects.visible_to(actor).filter(status__in=ACTIVE).order_by("created_at")[:limit]
    return [line(o) for o in rows]


def failed_lines(*, actor: Actor, since: datetime, limit: int = 12, among: int = 500) -> list[Line]:
    """Failures that nobody has dealt with: of each resource, its newest operation since then if that one failed."""
    seen: set[tuple[str, UUID]] = set()
    failed = []
    for operation in Operation.objects.visible_to(actor).filter(created_at__gte=since).order_by("-created_at")[:among]:
        key = (operation.resource_kind, operation.resource_id)
        if key not in seen and operation.status == Status.FAILED:
            failed.append(line(operation))
        seen.add(key)
    return failed[:limit]


def may_control(actor: Actor, operation: Operation) -> bool:
    """Whether the actor may cancel or retry it."""
    executor = next((e for e in registry.all_executors() if e.kind == operation.kind), None)
    return executor is not None and actor.can(executor.permission)


def resource_url(*, actor: Actor, operation: Operation) -> str:
    """Where the thing that it works on is shown; "" when it is gone or has no page."""
    if operation.resource_kind not in {kind.kind for kind in sleepable.kinds()}:
        return ""
    try:
        return sleepable.get(actor, operation.resource_kind, operation.resource_id).url
    except NotFound:
        return ""


def successors(*, actor: Actor, operation: Operation) -> list[Line]:
    """The retries of it, oldest first."""
    return [
        line(o) for o in Operation.objects.visible_to(actor).filter(retry_of_id=operation.id).order_by("created_at")
    ]
