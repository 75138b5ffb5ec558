"""Every sleep and wake that was decided, with the operation that it became: its steps and how long it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator

from clusters.sleeping.selectors import durations_of
from core.actor import Actor
from hibernation.enums import PERMISSION_VIEW
from hibernation.models import Decision
from operations.models import Operation

PAGE_SIZES = (25, 50, 100)


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A decision; `operation` is None when none was given or it is no longer kept. `seconds` it took, None while it
    goes on; `steps` are those that it named, with the seconds of each."""

    decision: Decision
    operation: Operation | None
    seconds: float | None
    steps: list[tuple[str, float]] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The operation's status, or what became of the decision."""
        return self.operation.get_status_display() if self.operation else self.decision.get_outcome_display()


@dataclass(frozen=True, slots=True)
class HistoryFilters:
    """What the history is asked for; empty fields ask for everything."""

    schedule_id: UUID | None = None
    resource_id: UUID | None = None
    desired: str = ""
    outcome: str = ""
    search: str = ""


def history(
    *, actor: Actor, filters: HistoryFilters, number: str | int = 1, size: int = 50
) -> tuple[Page[Any], list[HistoryRow]]:
    """A page of decisions, newest first, in three questions."""
    actor.require(PERMISSION_VIEW, "see schedules")
    rows = Decision.objects.visible_to(actor).order_by("-at", "id")
    if filters.schedule_id:
        rows = rows.filter(schedule_id=filters.schedule_id)
    if filters.resource_id:
        rows = rows.filter(resource_id=filters.resource_id)
    if filters.desired:
        rows = rows.filter(desired=filters.desired)
    if filters.outcome:
        rows = rows.filter(outcome=filters.outcome)
    if filters.search:
        rows = rows.filter(resource_label__icontains=filters.search)
    page = Paginator(rows, size if size in PAGE_SIZES else 50).get_page(number)
    return page, with_operations(actor, list(page.object_list))


def with_operations(actor: Actor, decisions: list[Decision]) -> list[HistoryRow]:
    """Decisions beside their operations, in one question."""
    ids = [d.operation_id for d in decisions if d.operation_id]
    operations = {o.id: o for o in Operation.objects.visible_to(actor).filter(id__in=ids)} if ids else {}
    return [_row(d, operations.get(d.operation_id) if d.operation_id else None) for d in decisions]


def _row(decision: Decision, operation: Operation | None) -> HistoryRow:
    took = None
    if operation and operation.finished_at and operation.started_at:
        took = (operation.finished_at - operation.started_at).total_seconds()
    return HistoryRow(decision, operation, took, durations_of(operation) if operation else [])
