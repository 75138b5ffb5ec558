"""Everything that can follow a schedule, for putting many on one at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator

from core import sleepable
from core.actor import Actor
from core.sleepable import SleepableView
from hibernation.enums import PERMISSION_VIEW
from hibernation.models import Assignment, Schedule

PAGE_SIZES = (50, 100, 200)


@dataclass(frozen=True, slots=True)
class BulkFilters:
    """`tag` is `key` or `key=value`; `follows` a schedule's id, `none`, or "" for all."""

    search: str = ""
    kind: str = ""
    tag: str = ""
    follows: str = ""


@dataclass(frozen=True, slots=True)
class BulkRow:
    view: SleepableView
    schedule: Schedule | None

    @property
    def key(self) -> str:
        return f"{self.view.kind}:{self.view.id}"

    @property
    def tags(self) -> list[str]:
        """The tags that people use to tell things apart: not Curfew's own, and not the name once more."""
        return _own(self.view)


@dataclass(frozen=True, slots=True)
class Bulk:
    """A page of what matches; `matching` are all of them that may be switched, as `kind:id` can name them."""

    page: Page[Any]
    matching: list[tuple[str, UUID]]
    barred: int
    schedules: list[Schedule]
    kinds: list[tuple[str, str]]
    tags: list[str]


def bulk(*, actor: Actor, filters: BulkFilters, number: str | int = 1, size: int = 50) -> Bulk:
    """What matches, by kind and name, with the schedule that each follows."""
    actor.require(PERMISSION_VIEW, "see schedules")
    views = sleepable.list_all(actor)
    schedules = {s.id: s for s in Schedule.objects.visible_to(actor).order_by("name")}
    taken = {
        (kind, resource_id): schedule_id
        for kind, resource_id, schedule_id in Assignment.objects.visible_to(actor).values_list(
            "resource_kind", "resource_id", "schedule_id"
        )
    }
    rows = [BulkRow(v, schedules.get(taken.get((v.kind, v.id)))) for v in views]  # type: ignore[arg-type]
    found = sorted(
        (row for row in rows if _matches(row, filters)),
        key=lambda r: (r.view.kind, r.view.name.lower(), str(r.view.id)),
    )
    free = [row for row in found if not row.view.protections]
    return Bulk(
        page=Paginator(found, size if size in PAGE_SIZES else 50).get_page(number),
        matching=[(row.view.kind, row.view.id) for row in free],
        barred=len(found) - len(free),
        schedules=list(schedules.values()),
        kinds=[(kind.kind, kind.label_plural) for kind in sleepable.kinds()],
        tags=sorted({tag for v in views for tag in _own(v)})[:200],
    )


def _own(view: SleepableView) -> list[str]:
    kept = ((k, v) for k, v in view.tags.items() if not k.startswith("curfew:") and k.lower() != "name")
    return [f"{key}={value}" if value else key for key, value in kept]


def _matches(row: BulkRow, filters: BulkFilters) -> bool:
    view = row.view
    if filters.kind and view.kind != filters.kind:
        return False
    if filters.search and filters.search.lower() not in f"{view.name} {view.detail} {view.owner}".lower():
        return False
    if filters.follows == "none" and row.schedule is not None:
        return False
    if filters.follows not in ("", "none") and (row.schedule is None or str(row.schedule.id) != filters.follows):
        return False
    if filters.tag:
        key, has_value, value = filters.tag.partition("=")
        return key in view.tags and (not has_value or view.tags[key] == value)
    return True
