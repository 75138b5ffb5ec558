"""Saving and deleting schedules, their calendars, and who follows them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from audit import services as audit
from core import clock, sleepable
from core.actor import Actor
from core.errors import Conflict, CurfewError, Forbidden, InvalidInput, NotFound
from core.live import publish
from core.sleepable import SleepableView, SleepState
from hibernation import schedule as engine
from hibernation.enums import PERMISSION_MANAGE, Wanted
from hibernation.models import Assignment, Schedule

_FACTS = (
    "name",
    "zone",
    "grid",
    "calendar",
    "prewarm",
    "night_belongs_to_start_day",
    "enabled",
    "warn_minutes",
    "warn_required",
)
LONGEST_WARNING = 24 * 60
Resource = tuple[str, UUID]
TOPIC = "nodes"


def find_schedule(*, actor: Actor, schedule_id: UUID) -> Schedule:
    """One schedule that the actor may see; NotFound also for another organization's."""
    found: Schedule | None = Schedule.objects.visible_to(actor).filter(id=schedule_id).first()
    if found is None:
        raise NotFound("There is no such schedule.")
    return found


def save_schedule(
    *,
    actor: Actor,
    schedule_id: UUID | None = None,
    name: str,
    zone: str,
    grid: Iterable[str],
    calendar: Mapping[str, Any] | None = None,
    prewarm: bool = True,
    night_belongs_to_start_day: bool = True,
    enabled: bool = True,
    warn_minutes: int | None = None,
    warn_required: bool | None = None,
    leave_asleep: bool = False,
) -> Schedule:
    """Create a schedule, or change one; `calendar` and the warning stay as they are where None. Effective at the next
    tick.

    Switching it off wakes what sleeps because of it, unless `leave_asleep`. Raises InvalidInput with `errors` by field, NotFound, Forbidden,
    and Conflict when something cannot be woken.
    """
    actor.require(PERMISSION_MANAGE, "change schedules")
    org_id = actor.org_id
    if org_id is None:
        raise Forbidden("A schedule belongs to an organization.")
    old = find_schedule(actor=actor, schedule_id=schedule_id) if schedule_id else None
    kept = calendar if calendar is not None else (old.calendar if old else {})
    facts = _checked(name, zone, list(grid), kept)
    facts |= {"prewarm": prewarm, "night_belongs_to_start_day": night_belongs_to_start_day, "enabled": enabled}
    facts |= _warning(old, warn_minutes, warn_required)
    if old is not None and old.enabled and not enabled and not leave_asleep:
        wake_sleepers(actor, list(old.assignments.all()), f"{old.name} was switched off")
    with transaction.atomic():
        same = Schedule.objects.for_org(org_id).filter(name__iexact=facts["name"])
        if (same.exclude(id=old.id) if old else same).exists():
            raise InvalidInput(errors={"name": ["Another schedule has this name."]})
        now = clock.now()
        row = old or Schedule(organization_id=org_id, created_at=now)
        before = {f: getattr(row, f) for f in _FACTS} if old else {}
        for field, value in facts.items():
            setattr(row, field, value)
        row.saved_by, row.updated_at = actor.label, now
        row.save()
        changes = {f: [before.get(f), facts[f]] for f in _FACTS if before.get(f) != facts[f]}
        audit.record(actor=actor, verb="schedule.changed" if old else "schedule.created", target=row, changes=changes)
        recalculate(row.assignments.all())
        publish(row.organization_id, TOPIC, [])
    return row


def _warning(old: Schedule | None, minutes: int | None, required: bool | None) -> dict[str, Any]:
    """How it warns, as it is stored."""
    minutes = (old.warn_minutes if old else 30) if minutes is None else minutes
    required = (old.warn_required if old else False) if required is None else required
    if not 0 <= minutes <= LONGEST_WARNING:
        raise InvalidInput(errors={"warn_minutes": ["0 (no warning) to 1440 minutes."]})
    if required and not minutes:
        raise InvalidInput(
            errors={"warn_required": ["Without a warning nothing would ever sleep: choose how early to warn."]}
        )
    return {"warn_minutes": minutes, "warn_required": required}


def _checked(name: str, zone: str, grid: list[str], calendar: Mapping[str, Any]) -> dict[str, Any]:
    """Name, zone, grid and calendar as they are stored; InvalidInput names every field that is wrong."""
    errors: dict[str, list[str]] = {}
    name = name.strip()
    if not name:
        errors["name"] = ["Give the schedule a name."]
    elif len(name) > 120:
        errors["name"] = ["At most 120 characters."]
    facts: dict[str, Any] = {"name": name, "zone": zone.strip()}
    parts: dict[str, Callable[[], object]] = {
        "zone": lambda: engine.load_zone(zone.strip()),
        "grid": lambda: facts.update(grid=engine.Grid.from_json(grid).to_json()),
        "calendar": lambda: facts.update(calendar=engine.Calendar.from_json(calendar).to_json()),
    }
    for field, read in parts.items():
        try:
            read()
        except engine.InvalidSchedule as wrong:
            errors[field] = [wrong.message]
    if errors:
        raise InvalidInput(errors=errors)
    return facts


def recalculate(rows: Any, *, afresh: bool = False) -> None:
    """The next tick works out anew when these assignments change. With `afresh` it also orders again what somebody
    changed; without it such a change stays respected as long as the schedule wants the same as before."""
    reset: dict[str, Any] = {"settled": False, "yielded": False, "period_at": None} if afresh else {}
    rows.update(revision=F("revision") + 1, **reset)


def set_calendar(*, actor: Actor, schedule_id: UUID, calendar: Mapping[str, Any]) -> Schedule:
    """Replace the year calendar, `{"2025-12-25": {"kind": "holiday", "name": …}}`."""
    row = find_schedule(actor=actor, schedule_id=schedule_id)
    return save_schedule(actor=actor, schedule_id=row.id, **{**_facts(row), "calendar": calendar})


def set_days(
    *,
    actor: Actor,
    schedule_id: UUID,
    first: date,
    last: date | None = None,
    kind: str = "",
    name: str = "",
    hours: Sequence[tuple[int, int]] = (),
) -> Schedule:
    """Give the dates from `first` to `last` a rule: holiday, sprint, custom (with `hours` in minutes), normal; "" takes
    the rule away, and keeps an imported holiday from coming back. The week stays as it is.

    Raises InvalidInput for dates the wrong way round, for more than 366 of them, and for a rule that is none.
    """
    row = find_schedule(actor=actor, schedule_id=schedule_id)
    last = last or first
    if not first <= last <= first + timedelta(days=365):
        raise InvalidInput(errors={"last": ["The last date comes after the first, within a year."]})
    plan = engine.Calendar.from_json(row.calendar)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    try:
        for day in days:
            old = plan.rule_for(day)
            if kind:
                plan = plan.with_day(
                    day, engine.DayRule.from_json({"kind": kind, "name": name.strip()[:80], "hours": hours})
                )
            elif old is not None and (old.imported or old.kind is engine.DayKind.NORMAL):
                plan = plan.with_day(day, engine.DayRule(engine.DayKind.NORMAL, old.name, imported=False))
            else:
                plan = plan.without_day(day)
    except engine.InvalidSchedule as wrong:
        raise InvalidInput(errors={"kind": [wrong.message]}) from None
    return set_calendar(actor=actor, schedule_id=row.id, calendar=plan.to_json())


def import_holidays(
    *, actor: Actor, schedule_id: UUID, country: str, subdivision: str = "", years: Collection[int] = ()
) -> tuple[Schedule, int]:
    """Put a country's public holidays into the calendar; what people set stays. Returns how many dates were added.

    `years` defaults to this year and the next. Raises InvalidInput for a country that is not known.
    """
    actor.require(PERMISSION_MANAGE, "change schedules")
    row = find_schedule(actor=actor, schedule_id=schedule_id)
    this_year = clock.now().year
    found = engine.holidays_for(country, subdivision or None, years or (this_year, this_year + 1))
    old = engine.Calendar.from_json(row.calendar)
    new = old.with_holidays(found)
    saved = save_schedule(actor=actor, schedule_id=row.id, **{**_facts(row), "calendar": new.to_json()})
    return saved, len(new.days) - len(old.days)


def _facts(row: Schedule) -> dict[str, Any]:
    return {field: getattr(row, field) for field in _FACTS}


def delete_schedule(*, actor: Actor, schedule_id: UUID, leave_asleep: bool = False) -> None:
    """Wake what sleeps because of the schedule (unless `leave_asleep`), then delete it. Raises Conflict, and deletes
    nothing, when something cannot be woken."""
    actor.require(PERMISSION_MANAGE, "delete schedules")
    row = find_schedule(actor=actor, schedule_id=schedule_id)
    if not leave_asleep:
        wake_sleepers(actor, list(row.assignments.all()), f"{row.name} was deleted")
    with transaction.atomic():
        left = "what slept was left asleep" if leave_asleep else ""
        audit.record(actor=actor, verb="schedule.deleted", target=row, detail=left)
        publish(row.organization_id, TOPIC, [])
        row.delete()


def assign(*, actor: Actor, schedule_id: UUID, resources: Collection[Resource]) -> int:
    """Let resources follow the schedule; one that followed another moves. Returns how many are new to it.

    Raises NotFound when one is not the actor's, before anything is changed, and InvalidInput for one that Curfew may
    not switch.
    """
    actor.require(PERMISSION_MANAGE, "put resources on schedules")
    row = find_schedule(actor=actor, schedule_id=schedule_id)
    views = resolve(actor, resources)
    barred = [v.name for v in views if v.protections]
    if barred:
        raise InvalidInput(errors={"resources": [f"Curfew may not switch {', '.join(barred)}."]})
    now, added = clock.now(), 0
    with transaction.atomic():
        for view in views:
            found = Assignment.objects.for_org(row.organization_id).filter(resource_kind=view.kind, resource_id=view.id)
            if found.filter(schedule=row).exists():
                continue
            found.delete()
            Assignment.objects.create(
                organization_id=row.organization_id,
                schedule=row,
                resource_kind=view.kind,
                resource_id=view.id,
                created_at=now,
            )
            added += 1
            _record(actor, "schedule.assigned", view, row.name)
        publish(row.organization_id, TOPIC, [v.id for v in views])
    return added


def unassign(*, actor: Actor, schedule_id: UUID, resources: Collection[Resource]) -> int:
    """Take resources off the schedule, and wake those that sleep because of it. Returns how many were taken off.

    Raises Conflict, and takes none off, when one cannot be woken."""
    actor.require(PERMISSION_MANAGE, "take resources off schedules")
    row = find_schedule(actor=actor, schedule_id=schedule_id)
    wanted = set(resources)
    rows = [a for a in row.assignments.all() if (a.resource_kind, a.resource_id) in wanted]
    names = wake_sleepers(actor, rows, f"taken off {row.name}")
    with transaction.atomic():
        for assignment in rows:
            audit.record(
                actor=actor,
                verb="schedule.unassigned",
                target_kind=assignment.resource_kind,
                target_id=str(assignment.resource_id),
                target_label=names.get(assignment.resource_id, str(assignment.resource_id)),
                detail=row.name,
            )
        Assignment.objects.for_org(row.organization_id).filter(id__in=[a.id for a in rows]).delete()
        publish(row.organization_id, TOPIC, [a.resource_id for a in rows])
    return len(rows)


def unassign_all(*, actor: Actor, resources: Collection[Resource]) -> int:
    """Take resources off whatever schedule each follows, as `unassign` does; returns how many."""
    actor.require(PERMISSION_MANAGE, "take resources off schedules")
    wanted = set(resources)
    by_schedule: dict[UUID, list[Resource]] = {}
    rows = Assignment.objects.visible_to(actor).filter(resource_id__in={key for _, key in wanted})
    for schedule_id, kind, key in rows.values_list("schedule_id", "resource_kind", "resource_id"):
        if (kind, key) in wanted:
            by_schedule.setdefault(schedule_id, []).append((kind, key))
    return sum(unassign(actor=actor, schedule_id=key, resources=members) for key, members in by_schedule.items())


def resolve(actor: Actor, resources: Collection[Resource]) -> list[SleepableView]:
    """The sleepables behind pairs of kind and id, in two questions per kind. NotFound when one is not the actor's."""
    by_kind: dict[str, set[UUID]] = {}
    for kind, resource_id in resources:
        by_kind.setdefault(kind, set()).add(resource_id)
    found = [v for kind, ids in by_kind.items() for v in sleepable.kind_named(kind).list(actor, list(ids))]
    if len(found) != sum(len(ids) for ids in by_kind.values()):
        raise NotFound("One of these resources does not exist.")
    return found


def wake_sleepers(actor: Actor, rows: Collection[Assignment], why: str) -> dict[UUID, str]:
    """Order awake what these assignments put to sleep; returns the names of all of them that still exist.

    Raises Conflict with the names of those that cannot be woken now.
    """
    names: dict[UUID, str] = {}
    stuck: list[str] = []
    by_kind: dict[str, list[Assignment]] = {}
    for row in rows:
        by_kind.setdefault(row.resource_kind, []).append(row)
    for name, members in by_kind.items():
        kind = sleepable.kind_named(name)
        views = {v.id: v for v in kind.list(actor, [m.resource_id for m in members])}
        for member in members:
            view = views.get(member.resource_id)
            if view is None:
                continue
            names[view.id] = view.name
            if member.wanted != Wanted.ASLEEP or view.state in (SleepState.AWAKE, SleepState.WAKING):
                continue
            try:
                kind.request_wake(actor, view.id, reason=why, options={"cause": "hand"})
            except CurfewError as refused:
                stuck.append(f"{view.name}: {refused.message}")
    if stuck:
        raise Conflict(f"Not everything could be woken first. {' '.join(stuck[:5])}", code="cannot_wake")
    return names


def _record(actor: Actor, verb: str, view: SleepableView, detail: str) -> None:
    audit.record(
        actor=actor, verb=verb, target_kind=view.kind, target_id=str(view.id), target_label=view.name, detail=detail
    )
