"""The link of a warning: a page that says what is about to sleep, and a button that puts it off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from audit import services as audit
from core import clock, sleepable
from core.actor import Actor, ActorKind
from core.errors import InvalidInput, InvalidState, NotFound
from core.live import publish
from core.sleepable import SleepableView
from hibernation import schedule as engine
from hibernation.enums import PERMISSION_OPERATE, Order
from hibernation.models import Assignment, Override, Schedule
from hibernation.services.schedules import TOPIC, recalculate
from hibernation.services.warning import read_link

LINK_LABEL = "Snooze link"


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a link is about. `open` is False once the sleep has begun or was put off; `views` are those that sleep then."""

    schedule: Schedule
    sleeps_at: datetime
    open: bool
    views: Sequence[SleepableView]


def _link_actor(schedule: Schedule) -> Actor:
    """Whoever holds the link: may put off these sleeps and nothing else."""
    allowed = frozenset({PERMISSION_OPERATE, "nodes.view", "clusters.view"})
    return Actor(ActorKind.SYSTEM, "snooze_link", LINK_LABEL, schedule.organization_id, allowed)


def look_ahead(token: str) -> Ahead:
    """What the link is about; changes nothing. Raises NotFound for a link that is not ours or whose schedule is gone."""
    link = read_link(token)
    schedule = Schedule.objects.all_orgs().filter(id=link.schedule_id).first()
    if schedule is None:
        raise NotFound("The schedule of this link no longer exists.")
    rows = _rows(schedule, link.sleeps_at)
    by_kind: dict[str, list[UUID]] = {}
    for row in rows:
        by_kind.setdefault(row.resource_kind, []).append(row.resource_id)
    system = Actor.system("schedule", schedule.organization_id)
    views = [v for kind, ids in by_kind.items() for v in sleepable.kind_named(kind).list(system, ids)]
    is_open = bool(views) and clock.now() < link.sleeps_at
    return Ahead(schedule, link.sleeps_at, is_open, sorted(views, key=lambda v: v.name))


def _rows(schedule: Schedule, sleeps_at: datetime) -> list[Assignment]:
    return list(schedule.assignments.filter(changes_at=sleeps_at, warned_for=sleeps_at))


def snooze_by_link(*, token: str, until: str, actor: Actor | None = None) -> tuple[int, datetime]:
    """Put off the sleeps that the link is about, counted from when they were due; how many, and until when.

    `actor` is who is signed in, when it is somebody of the organization who may; otherwise the link itself acts.
    Raises NotFound, InvalidState once it is too late, InvalidInput for a duration that is none.
    """
    ahead = look_ahead(token)
    if not ahead.open:
        raise InvalidState("It is too late: this sleep has begun or was put off already.", code="too_late")
    if actor is None or actor.org_id != ahead.schedule.organization_id or not actor.can(PERMISSION_OPERATE):
        actor = _link_actor(ahead.schedule)
    try:
        expires = engine.expiry_for(ahead.schedule.plan(), ahead.sleeps_at, until)
    except engine.InvalidSchedule as wrong:
        raise InvalidInput(errors={"for": [wrong.message]}) from None
    now = clock.now()
    with transaction.atomic():
        rows = _rows(ahead.schedule, ahead.sleeps_at)
        Override.objects.all_orgs().bulk_create(
            Override(
                organization_id=row.organization_id,
                resource_kind=row.resource_kind,
                resource_id=row.resource_id,
                order=Order.SNOOZE,
                starts_at=ahead.sleeps_at,
                expires_at=expires,
                made_at=now,
                reason="from the warning",
                actor_label=actor.label[:200],
            )
            for row in rows
        )
        # `changes_at` moves now, so that a second press of the button finds nothing to put off
        mine = Assignment.objects.for_org(ahead.schedule.organization_id).filter(id__in=[r.id for r in rows])
        mine.update(changes_at=expires)
        recalculate(mine)
        audit.record(
            actor=actor,
            verb="hibernation.snoozed",
            target=ahead.schedule,
            detail=f"{len(rows)} sleeping at {ahead.sleeps_at:%Y-%m-%d %H:%M} UTC",
            changes={"until": [ahead.sleeps_at.isoformat(), expires.isoformat()]},
        )
        publish(ahead.schedule.organization_id, TOPIC, [row.resource_id for row in rows])
    return len(rows), expires
