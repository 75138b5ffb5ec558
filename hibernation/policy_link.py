"""What hibernation gives to optimization policies: schedules to choose from, and letting clusters follow one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from clusters.enums import RESOURCE
from core.actor import Actor
from hibernation import services
from hibernation.enums import PERMISSION_MANAGE
from hibernation.models import Assignment, Schedule
from policies.extensions import ScheduleChoice

MOST = 100


class Schedules:
    """`policies.extensions.Schedules`."""

    permission = PERMISSION_MANAGE

    def choices(self, actor: Actor) -> Sequence[ScheduleChoice]:
        rows = Schedule.objects.visible_to(actor).order_by("name")[:MOST]
        return [ScheduleChoice(str(row.id), row.name, row.get_absolute_url(), _words(row)) for row in rows]

    def followed(self, actor: Actor, cluster_ids: Collection[UUID]) -> Mapping[UUID, str]:
        rows = Assignment.objects.visible_to(actor).filter(resource_kind=RESOURCE, resource_id__in=list(cluster_ids))
        return dict(rows.values_list("resource_id", "schedule__name"))

    def follow(self, actor: Actor, cluster_ids: Collection[UUID], schedule_id: str) -> None:
        resources = [(RESOURCE, one) for one in cluster_ids]
        services.assign(actor=actor, schedule_id=UUID(schedule_id), resources=resources)


def _words(row: Schedule) -> str:
    """How much of a week it sleeps, in words."""
    cells = "".join(row.grid)
    asleep = round(100 * cells.count("0") / len(cells)) if cells else 0
    off = "" if row.enabled else ", switched off"
    return f"asleep {asleep} % of the week, {row.zone}{off}"
