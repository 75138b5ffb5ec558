"""What people order beside the schedule: awake or asleep for a while, and sleeps put off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from audit import services as audit
from core import clock, sleepable
from core.actor import Actor
from core.errors import Conflict, InvalidInput, InvalidState
from core.live import publish
from core.sleepable import SleepableView, SleepState
from hibernation import schedule as engine
from hibernation.enums import PERMISSION_OPERATE, Order, Outcome, Wanted
from hibernation.models import Assignment, Decision, Override, with_orders
from hibernation.services.schedules import TOPIC, recalculate

_VERBS = {
    Order.WAKE: "hibernation.woken",
    Order.SLEEP: "hibernation.put_to_sleep",
    Order.SNOOZE: "hibernation.snoozed",
}


@dataclass(frozen=True, slots=True)
class Switched:
    """What an order led to: `until` is None when the resource follows no schedule; `operation_id` is None when there
    was nothing to do, or when the schedule does it as soon as what is under way has ended."""

    view: SleepableView
    until: datetime | None
    operation_id: UUID | None


def set_override(
    *, actor: Actor, kind: str, resource_id: UUID, order: Order, until: str = "", reason: str = ""
) -> Switched:
    """Wake or put to sleep now, and keep it so `until` 1h, 4h, until_monday or an ISO time; without it until the
    schedule's next change. For a resource without a schedule nothing changes it back, so `until` is refused.

    Raises NotFound, Forbidden, InvalidInput, and InvalidState for what Curfew may not switch.
    """
    actor.require(PERMISSION_OPERATE, "wake and put to sleep")
    view = sleepable.get(actor, kind, resource_id)
    if view.protections:
        raise InvalidState(f"Curfew may not switch {view.name}: it {view.protections[0]}.", code="protected")
    row = _assignment(view)
    if row is None and until:
        raise InvalidInput(errors={"for": ["It follows no schedule, so nothing would change it back."]})
    expires = _expiry(row, view, order, until) if row else None
    operation_id = _order_now(actor, view, order, reason, on_schedule=row is not None)
    if row is not None and expires is not None:
        _write(actor, view, row, order, clock.now(), expires, reason)
    _remember(actor, view, row, order, operation_id, reason)
    return Switched(view, expires, operation_id)


def _assignment(view: SleepableView) -> Assignment | None:
    found: Assignment | None = (
        Assignment.objects.for_org(view.organization_id)
        .filter(resource_kind=view.kind, resource_id=view.id)
        .select_related("schedule")
        .first()
    )
    return found


def _plan(row: Assignment, view: SleepableView, now: datetime) -> engine.Schedule:
    orders = Override.objects.for_org(row.organization_id).filter(
        resource_kind=view.kind, resource_id=view.id, expires_at__gt=now
    )
    return with_orders(row.schedule.plan(), list(orders), view.wake_seconds)


def _expiry(row: Assignment, view: SleepableView, order: Order, until: str) -> datetime:
    """When an order ends that is given now; by default with the schedule's next change the other way."""
    now = clock.now()
    named = until or ("until_next_sleep" if order == Order.WAKE else "until_next_wake")
    try:
        return engine.expiry_for(_plan(row, view, now), now, named)
    except engine.InvalidSchedule as wrong:
        raise InvalidInput(errors={"for": [wrong.message]}) from None


def snooze(*, actor: Actor, kind: str, resource_id: UUID, until: str = "1h", reason: str = "") -> datetime:
    """Put off the next sleep of a resource by a duration, counted from that sleep; returns when it sleeps then.

    Raises InvalidState when no sleep is ahead.
    """
    actor.require(PERMISSION_OPERATE, "put off sleeps")
    view = sleepable.get(actor, kind, resource_id)
    row = _assignment(view)
    now = clock.now()
    plan = _plan(row, view, now) if row else None
    sleeps = engine.until_next_sleep(plan, now) if plan else None
    if row is None or plan is None or sleeps is None:
        raise InvalidState(f"No schedule is about to put {view.name} to sleep.", code="nothing_ahead")
    try:
        expires = engine.expiry_for(plan, sleeps, until)
    except engine.InvalidSchedule as wrong:
        raise InvalidInput(errors={"for": [wrong.message]}) from None
    _write(actor, view, row, Order.SNOOZE, sleeps, expires, reason)
    return expires


def _write(
    actor: Actor,
    view: SleepableView,
    row: Assignment,
    order: Order,
    starts: datetime,
    expires: datetime,
    reason: str,
) -> None:
    with transaction.atomic():
        Override.objects.create(
            organization_id=row.organization_id,
            resource_kind=view.kind,
            resource_id=view.id,
            order=order,
            starts_at=starts,
            expires_at=expires,
            made_at=clock.now(),
            reason=reason[:300],
            actor_label=actor.label[:200],
        )
        recalculate(Assignment.objects.for_org(row.organization_id).filter(id=row.id), afresh=order != Order.SNOOZE)
        audit.record(
            actor=actor,
            verb=_VERBS[order],
            target_kind=view.kind,
            target_id=str(view.id),
            target_label=view.name,
            detail=reason,
            changes={"until": [None, expires.isoformat()]},
        )
        publish(row.organization_id, TOPIC, [view.id])


def _order_now(actor: Actor, view: SleepableView, order: Order, reason: str, *, on_schedule: bool) -> UUID | None:
    """Give the order at once, in the person's name; what is busy and on a schedule is left to the tick."""
    waking = order == Order.WAKE
    if view.state == (SleepState.AWAKE if waking else SleepState.ASLEEP) and view.operation_id is None:
        return None
    kind = sleepable.kind_named(view.kind)
    request = kind.request_wake if waking else kind.request_sleep
    try:
        return request(actor, view.id, reason=reason, options={"cause": "hand"})
    except Conflict as busy:
        if on_schedule and busy.code == "operation_active":
            return None
        raise


def _remember(
    actor: Actor, view: SleepableView, row: Assignment | None, order: Order, operation_id: UUID | None, reason: str
) -> None:
    Decision.objects.create(
        organization_id=view.organization_id,
        schedule=row.schedule if row else None,
        resource_kind=view.kind,
        resource_id=view.id,
        resource_label=view.name[:300],
        at=clock.now(),
        desired=Wanted.AWAKE if order == Order.WAKE else Wanted.ASLEEP,
        cause="override",
        cause_text=reason[:300],
        actor_label=actor.label[:200],
        operation_id=operation_id,
        outcome=Outcome.ORDERED,
    )
