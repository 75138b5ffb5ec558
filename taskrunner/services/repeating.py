"""Schedules of tasks: cron in a zone. A time missed while the platform was away is made good once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from django.db import transaction

from accounts import selectors as accounts
from accounts.models import User
from audit import services as audit
from audit.enums import Outcome
from core import clock
from core.actor import Actor, ActorKind
from core.errors import CurfewError, Forbidden, InvalidInput, NotFound
from taskrunner.enums import PERMISSION_MANAGE, PERMISSION_OPERATE
from taskrunner.models import TaskSchedule
from taskrunner.services.submitting import _PLAIN, check, submit


def next_time(cron: str, zone: str, after: datetime) -> datetime:
    """The first time after `after`, in UTC. Raises InvalidInput for a bad expression or zone."""
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(errors={"zone": [f"{zone[:60]!r} is not a time zone."]}) from None
    try:
        found = next(CronSim(cron, after.astimezone(where)))
    except CronSimError as bad:
        raise InvalidInput(errors={"cron": [f"This is not a cron expression: {bad}."]}) from None
    except StopIteration:
        raise InvalidInput(errors={"cron": ["This never happens."]}) from None
    return found.astimezone(UTC)


def save_schedule(
    *,
    actor: Actor,
    schedule_id: UUID | None = None,
    name: str,
    cron: str,
    zone: str,
    fields: Mapping[str, Any],
    enabled: bool = True,
) -> TaskSchedule:
    """Keep a submission that is repeated. It runs with the rights that its owner has at that time."""
    actor.require(PERMISSION_OPERATE, "schedule tasks")
    person = User.objects.filter(pk=actor.id).first() if actor.kind == ActorKind.USER else None
    if actor.org_id is None or person is None:
        raise Forbidden("A schedule belongs to a person.")
    if fields.get("secrets") or fields.get("files"):
        raise InvalidInput(errors={"fields": ["A schedule keeps no secrets and files; bake them into the image."]})
    facts = check({**fields, "name": fields.get("name") or name})
    with transaction.atomic():
        row = TaskSchedule.objects.visible_to(actor).filter(id=schedule_id).first() if schedule_id else None
        if schedule_id and row is None:
            raise NotFound("There is no such schedule.")
        same = TaskSchedule.objects.visible_to(actor).filter(name=name.strip())
        if not 0 < len(name.strip()) <= 120 or (same.exclude(id=row.id) if row else same).exists():
            raise InvalidInput(errors={"name": ["A name of 1 to 120 characters that no other schedule has."]})
        row = row or TaskSchedule(organization_id=actor.org_id, owner=person, created_at=clock.now())
        row.name, row.cron, row.zone, row.enabled = name.strip(), cron.strip(), zone, enabled
        row.fields = {key: facts[key] for key in _PLAIN}
        row.next_at, row.problem = next_time(row.cron, zone, clock.now()), ""
        row.save()
        audit.record(actor=actor, verb="task_schedule.saved", target=row)
    return row


def delete_schedule(*, actor: Actor, schedule_id: UUID) -> None:
    actor.require(PERMISSION_OPERATE, "delete task schedules")
    rows = TaskSchedule.objects.visible_to(actor)
    rows = rows if actor.can(PERMISSION_MANAGE) else rows.filter(owner__id=actor.id)
    with transaction.atomic():
        row = rows.filter(id=schedule_id).first()
        if row is None:
            raise NotFound("There is no such schedule.")
        audit.record(actor=actor, verb="task_schedule.deleted", target=row)
        row.delete()


def run_due_schedules(limit: int = 200) -> int:
    """Submit what is due; each time once, whoever else sweeps. How many were submitted."""
    now, count = clock.now(), 0
    due = TaskSchedule.objects.all_orgs().filter(enabled=True, next_at__lte=now).order_by("next_at")
    for row in list(due.select_related("owner")[:limit]):
        with transaction.atomic():
            following = next_time(row.cron, row.zone, now)
            taken = TaskSchedule.objects.all_orgs().filter(id=row.id, next_at=row.next_at, enabled=True)
            if not taken.update(next_at=following, last_at=now):
                continue
            count += _submit(row)
    return count


def _submit(row: TaskSchedule) -> int:
    caller = accounts.caller_for(row.owner, row.organization_id)
    problem = "" if caller else f"{row.owner.display_name} is no longer a member."
    if caller:
        try:
            with transaction.atomic():
                submit(
                    actor=caller.actor,
                    fields=row.fields,
                    schedule=row,
                    idempotency_key=f"schedule:{row.id}:{row.next_at.isoformat()}" if row.next_at else None,
                )
        except CurfewError as refused:
            problem = refused.message
    TaskSchedule.objects.all_orgs().filter(id=row.id).update(problem=problem[:300])
    if problem:
        system = Actor.system("task_schedules", row.organization_id)
        audit.record(actor=system, verb="task_schedule.failed", target=row, outcome=Outcome.FAILED, detail=problem)
    return 0 if problem else 1
