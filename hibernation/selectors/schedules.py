"""What the pages and the API show of schedules. Every list is a fixed number of questions, whatever its length."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from core import clock, sleepable
from core.actor import Actor
from core.errors import NotFound
from core.sleepable import SleepableView, SleepState
from costs import reporting
from costs import selectors as costs
from hibernation import schedule as engine
from hibernation.enums import PERMISSION_VIEW, Outcome, Wanted
from hibernation.models import Assignment, Decision, Override, Schedule, with_orders
from hibernation.selectors.history import HistoryRow, with_operations
from hibernation.selectors.past import WouldHave, would_have_saved

PREVIEW_DAYS = 14
STILL_ON = 50
_ON = (SleepState.AWAKE, SleepState.WAKING, SleepState.FALLING, SleepState.CONTESTED, SleepState.TROUBLE)
HISTORY = 20
DAY = 86400
SVG_HEIGHT = 64


@dataclass(frozen=True, slots=True)
class Next:
    """The next time the schedule switches something: `on` True for a wake. `seconds` from now."""

    at: datetime
    on: bool
    seconds: int


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A line of the list. `saved` is real, from the ledger: None without the right to see costs."""

    schedule: Schedule
    resources: int
    on: bool
    now_words: str
    next: Next | None
    saved: Decimal | None


@dataclass(frozen=True, slots=True)
class Follower:
    """A resource on the schedule; `why` answers "why is it still on?"."""

    view: SleepableView
    assignment: Assignment
    why: str
    next: Next | None


@dataclass(frozen=True, slots=True)
class StillOn:
    """Something that costs money now, and why in one sentence; `by` is the schedule that it follows."""

    view: SleepableView
    by: Schedule | None
    why: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of a day for the drawing, in its units from the top; `warm` for pre-warm."""

    y: float
    height: float
    warm: bool


@dataclass(frozen=True, slots=True)
class Day:
    """A day ahead: both clocks in words, the hours, and what sleeping saves; `saved` None without a price."""

    day: datetime
    here: str
    yours: str
    awake_hours: float
    asleep_hours: float
    saved: Decimal | None
    note: str
    note_awake: bool
    bars: tuple[Bar, ...]
    is_today: bool


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a schedule would do if it were saved and switched on: the days ahead, priced by what follows it, and the last
    thirty. Potential money; None when no price is known."""

    zone: str
    days: list[Day]
    would_have: WouldHave | None
    rate: Decimal | None
    enabled: bool = True
    unsaved: bool = False

    @property
    def potential(self) -> Decimal | None:
        return None if self.rate is None else sum((d.saved or Decimal(0) for d in self.days), Decimal(0))


@dataclass(slots=True)
class Detail:
    """One schedule with what follows it. Rates are USD an hour; None when no price is known."""

    schedule: Schedule
    plan: engine.Schedule
    on: bool
    now_words: str
    next: Next | None
    followers: list[Follower]
    others: list[SleepableView]
    rate: Decimal | None
    unpriced: int
    saved: Decimal | None
    run: DryRun
    history: list[HistoryRow]
    awake_hours: float
    wake_seconds: float | None = None
    by_hand: int = 0
    protected: list[SleepableView] = field(default_factory=list)
    asleep_now: int = 0
    gone: int = 0
    states: dict[str, int] = field(default_factory=dict)

    @property
    def differ(self) -> list[Follower]:
        """Those that are not as the schedule wants, although it tried."""
        return [f for f in self.followers if f.assignment.trouble]


def get_schedule(*, actor: Actor, schedule_id: UUID) -> Schedule:
    """One schedule that the actor may see; NotFound also for another organization's."""
    actor.require(PERMISSION_VIEW, "see schedules")
    found: Schedule | None = Schedule.objects.visible_to(actor).filter(id=schedule_id).first()
    if found is None:
        raise NotFound("There is no such schedule.")
    return found


def list_schedules(*, actor: Actor, timezone: str) -> list[ScheduleRow]:
    """Every schedule by name, with its next change and what it really saved this month."""
    actor.require(PERMISSION_VIEW, "see schedules")
    schedules = list(Schedule.objects.visible_to(actor).order_by("name"))
    members: dict[UUID, set[UUID]] = defaultdict(set)
    for schedule_id, resource_id in Assignment.objects.visible_to(actor).values_list("schedule_id", "resource_id"):
        members[schedule_id].add(resource_id)
    saved = saved_this_month(actor, members, timezone)
    now = clock.now()
    rows = []
    for row in schedules:
        plan = row.plan()
        told = (plan.desired_at(now).on, engine.explain(plan, now), next_change(plan, now))
        rows.append(ScheduleRow(row, len(members[row.id]), *told, saved.get(row.id)))
    return rows


def still_on(*, actor: Actor) -> list[StillOn]:
    """Everything that is on or fought over, the dearest first, with the reason. A fixed number of questions."""
    actor.require(PERMISSION_VIEW, "see schedules")
    views = [v for v in sleepable.list_all(actor) if v.state in _ON]
    ids = [v.id for v in views]
    rows = Assignment.objects.visible_to(actor).filter(resource_id__in=ids).select_related("schedule")
    taken = {(a.resource_kind, a.resource_id): a for a in rows}
    now = clock.now()
    orders = _live_orders(actor, ids, now)
    plans: dict[UUID, engine.Schedule] = {}
    found = []
    for view in sorted(views, key=lambda v: (-(v.hourly_cost or Decimal(0)), v.name, str(v.id)))[:STILL_ON]:
        row = taken.get((view.kind, view.id))
        if row is None:
            words = f"It {view.protections[0]}." if view.protections else "It follows no schedule."
        else:
            base = plans.setdefault(row.schedule_id, row.schedule.plan())
            words = _why(view, row, with_orders(base, orders[view.kind, view.id], view.wake_seconds), now)
        found.append(StillOn(view, row.schedule if row else None, words))
    return found


def saved_this_month(actor: Actor, members: dict[UUID, set[UUID]], timezone: str) -> dict[UUID, Decimal]:
    """Real savings of each group of resources since the first of the month, from the ledger; {} without the right."""
    if not actor.can("costs.view"):
        return {}
    period = reporting.period_named("month", timezone)
    end = min(period.end, clock.now())
    everyone = set().union(*members.values()) if members else set()
    intervals = defaultdict(list)
    if everyone:
        for interval in costs.intervals_between(actor, period.start, end).filter(resource_id__in=everyone):
            intervals[interval.resource_id].append(interval)
    return {
        key: costs.sum_intervals((i for m in ids for i in intervals.get(m, ())), period.start, end).saved
        for key, ids in members.items()
    }


def next_change(plan: engine.Schedule, now: datetime) -> Next | None:
    """The next time it is switched on or off; None when nothing in sight changes."""
    on = plan.desired_at(now).on
    found = next((c for c in plan.next_transitions(now, 16) if c.state.on != on), None)
    return Next(found.at, found.state.on, round((found.at - now).total_seconds())) if found else None


def get_detail(*, actor: Actor, schedule_id: UUID, timezone: str) -> Detail:
    """Everything that the page of one schedule shows."""
    row = get_schedule(actor=actor, schedule_id=schedule_id)
    now, plan = clock.now(), row.plan()
    assignments = list(Assignment.objects.visible_to(actor).select_related("schedule"))
    taken = {(a.resource_kind, a.resource_id): a for a in assignments}
    views = sorted(sleepable.list_all(actor), key=lambda v: (v.kind, v.name, str(v.id)))
    mine = [v for v in views if (a := taken.get((v.kind, v.id))) and a.schedule_id == row.id]
    orders = _live_orders(actor, [v.id for v in mine], now)
    followers = [_follower(v, taken[v.kind, v.id], plan, orders[v.kind, v.id], now) for v in mine]
    rate, unpriced = hourly_saving(mine)
    members = {row.id: {a.resource_id for a in assignments if a.schedule_id == row.id}}
    learned = [v.wake_seconds for v in mine if v.wake_seconds is not None]
    return Detail(
        schedule=row,
        plan=plan,
        on=plan.desired_at(now).on,
        now_words=engine.explain(plan, now),
        next=next_change(plan, now),
        followers=followers,
        others=[v for v in views if (v.kind, v.id) not in taken and not v.protections],
        rate=rate,
        unpriced=unpriced,
        saved=saved_this_month(actor, members, timezone).get(row.id),
        run=_dry_run(actor, plan, mine, rate, timezone),
        history=with_operations(
            actor, list(Decision.objects.visible_to(actor).filter(schedule=row).order_by("-at")[:HISTORY])
        ),
        awake_hours=plan.grid.awake_hours(),
        wake_seconds=statistics.median(learned) if learned else None,
        by_hand=_by_hand(actor, row, timezone),
        protected=[v for v in views if v.protections],
        asleep_now=sum(v.state == SleepState.ASLEEP for v in mine),
        gone=len(members[row.id]) - len(mine),
    )


def _dry_run(
    actor: Actor, plan: engine.Schedule, views: Collection[SleepableView], rate: Decimal | None, timezone: str
) -> DryRun:
    on = replace(plan, enabled=True)
    return DryRun(
        zone=plan.zone,
        days=days_ahead(on, clock.now(), timezone, rate),
        would_have=would_have_saved(actor=actor, plan=on, views=views),
        rate=rate,
        enabled=plan.enabled,
    )


def dry_run(
    *, actor: Actor, schedule_id: UUID, timezone: str, grid: list[str], zone: str, prewarm: bool, enabled: bool
) -> DryRun:
    """What one schedule would do with another week, which is not saved. Raises InvalidSchedule."""
    row = get_schedule(actor=actor, schedule_id=schedule_id)
    row.grid, row.zone, row.prewarm, row.enabled = grid, zone, prewarm, enabled
    views = _followers_of(actor, row)
    return replace(_dry_run(actor, row.plan(), views, hourly_saving(views)[0], timezone), unsaved=True)


def _followers_of(actor: Actor, row: Schedule) -> list[SleepableView]:
    by_kind: dict[str, list[UUID]] = defaultdict(list)
    for kind, resource_id in row.assignments.values_list("resource_kind", "resource_id"):
        by_kind[kind].append(resource_id)
    return [v for kind, ids in by_kind.items() for v in sleepable.kind_named(kind).list(actor, ids)]


def _by_hand(actor: Actor, row: Schedule, timezone: str) -> int:
    """How often people woke something on the schedule this month."""
    start = reporting.period_named("month", timezone).start
    woken = Decision.objects.visible_to(actor).filter(
        schedule=row, at__gte=start, cause="override", desired=Wanted.AWAKE, outcome=Outcome.ORDERED
    )
    return woken.count()


def next_curfew(actor: Actor) -> tuple[datetime, str] | None:
    """What falls asleep next by itself: when, and by which schedule. One question, for the frame of every page."""
    if not actor.can(PERMISSION_VIEW):
        return None
    rows = Assignment.objects.visible_to(actor).filter(wanted=Wanted.AWAKE, changes_at__gt=clock.now())
    found = rows.order_by("changes_at").values_list("changes_at", "schedule__name").first()
    return (found[0], found[1]) if found and found[0] else None


def restore_file(*, actor: Actor, schedule_id: UUID) -> dict[str, Any]:
    """What is needed to wake by hand what sleeps because of the schedule, and to make the schedule again."""
    row = get_schedule(actor=actor, schedule_id=schedule_id)
    assignments = {(a.resource_kind, a.resource_id): a for a in row.assignments.all()}
    by_kind: dict[str, list[UUID]] = defaultdict(list)
    for kind, resource_id in assignments:
        by_kind[kind].append(resource_id)
    views = [v for kind, ids in by_kind.items() for v in sleepable.kind_named(kind).list(actor, ids)]
    return {
        "written_at": clock.now().isoformat(),
        "schedule": {
            "name": row.name,
            "zone": row.zone,
            "grid": row.grid,
            "calendar": row.calendar,
            "prewarm": row.prewarm,
            "night_belongs_to_start_day": row.night_belongs_to_start_day,
            "enabled": row.enabled,
            "warn_minutes": row.warn_minutes,
            "warn_required": row.warn_required,
        },
        "resources": [
            {
                "kind": v.kind,
                "id": str(v.id),
                "name": v.name,
                "detail": v.detail,
                "state": v.state.value,
                "slept_by_schedule": assignments[v.kind, v.id].wanted == Wanted.ASLEEP and v.state == SleepState.ASLEEP,
                "wake": f"POST /api/hibernation/{v.kind}/{v.id}/wake",
            }
            for v in sorted(views, key=lambda v: (v.kind, v.name, str(v.id)))
        ],
    }


def _live_orders(actor: Actor, ids: Collection[UUID], now: datetime) -> dict[tuple[str, UUID], list[Override]]:
    found: dict[tuple[str, UUID], list[Override]] = defaultdict(list)
    rows = Override.objects.visible_to(actor).filter(resource_id__in=ids, expires_at__gt=now).order_by("made_at")
    for row in rows:
        found[row.resource_kind, row.resource_id].append(row)
    return found


def _follower(
    view: SleepableView, row: Assignment, base: engine.Schedule, orders: list[Override], now: datetime
) -> Follower:
    plan = with_orders(base, orders, view.wake_seconds)
    return Follower(view, row, _why(view, row, plan, now), next_change(plan, now))


def _why(view: SleepableView, row: Assignment, plan: engine.Schedule, now: datetime) -> str:
    """What the schedule says, and why the resource differs from it."""
    told = engine.explain(plan, now)
    if row.trouble:
        return f"{told} It is not so yet: {row.trouble}"
    if row.yielded:
        until = f" until {engine.local_words(plan, row.changes_at)}" if row.changes_at else ""
        return f"{told} Somebody changed it since, which is respected{until}."
    if view.state == SleepState.UNMANAGED:
        return f"Curfew does not manage it, so nothing switches it. {_wished(told)}"
    if view.state == SleepState.LOST:
        return f"It cannot be seen at the moment. {_wished(told)}"
    return told


def _wished(told: str) -> str:
    """What the schedule says, as a wish: the thing itself may be otherwise."""
    return f"By the schedule: {told[:1].lower()}{told[1:]}"


def hourly_saving(views: Iterable[SleepableView]) -> tuple[Decimal | None, int]:
    """USD an hour that sleeping saves, over those with a price, and how many have none. None when none has one."""
    shown = list(views)
    priced = [v.hourly_cost - v.asleep_hourly_cost for v in shown if v.hourly_cost is not None]
    return (sum(priced, Decimal(0)) if priced else None), len(shown) - len(priced)


def preview_of(*, actor: Actor, schedule_id: UUID, viewer_zone: str, days: int) -> list[Day]:
    """The days ahead of one schedule, priced by what follows it. Raises InvalidInput for an unknown viewer's zone."""
    row = get_schedule(actor=actor, schedule_id=schedule_id)
    views = _followers_of(actor, row)
    return days_ahead(row.plan(), clock.now(), viewer_zone, hourly_saving(views)[0], days)


def days_ahead(
    plan: engine.Schedule, now: datetime, viewer_zone: str, rate: Decimal | None, days: int = PREVIEW_DAYS
) -> list[Day]:
    """The days to come, in the schedule's time and the viewer's, with what they would save at `rate`."""
    rows = engine.preview(plan, now, days, viewer_zone)
    return [_day(row, rate, first=place == 0, enabled=plan.enabled) for place, row in enumerate(rows)]


def _day(row: engine.PreviewRow, rate: Decimal | None, *, first: bool, enabled: bool) -> Day:
    kind = row.rule.kind if row.rule else None
    known = {engine.DayKind.HOLIDAY: "Holiday", engine.DayKind.SPRINT: "Sprint day", engine.DayKind.CUSTOM: "Own hours"}
    saved = None if rate is None else (rate * row.asleep_seconds / 3600).quantize(Decimal("0.01"))
    return Day(
        day=row.start,
        here=_stretches(row, yours=False) if enabled else "off",
        yours=_stretches(row, yours=True) if enabled else "",
        awake_hours=(row.awake_seconds + row.warming_seconds) / 3600,
        asleep_hours=row.asleep_hours,
        saved=saved,
        note=(row.rule.name if row.rule else "") or (known.get(kind, "") if kind else ""),
        note_awake=kind is engine.DayKind.SPRINT,
        bars=_bars(row),
        is_today=first,
    )


def _pieces(row: engine.PreviewRow) -> list[tuple[engine.Power, datetime, datetime, datetime | None]]:
    """Stretches of one power: from, to, and the beginning on the viewer's clock (None: before the row)."""
    starts: list[tuple[engine.Power, datetime, datetime | None]] = [(row.begins, row.start, None)]
    starts += [(e.power, e.at, e.viewer_at) for e in row.edges]
    ends = [at for _, at, _ in starts[1:]] + [row.end]
    return [(power, at, end, viewer) for (power, at, viewer), end in zip(starts, ends, strict=True)]


def _stretches(row: engine.PreviewRow, *, yours: bool) -> str:
    """Awake hours in words, such as "09:00-18:00" with a dash; the viewer's are empty when the whole day is one thing."""
    awake = [p for p in _pieces(row) if p[0] is engine.Power.AWAKE]
    if not row.edges or not awake:
        whole = "awake all day" if awake else "asleep all day"
        return "" if yours else whole
    zone = row.edges[0].viewer_at.tzinfo if yours else row.start.tzinfo
    return ", ".join(f"{at.astimezone(zone):%H:%M}–{end.astimezone(zone):%H:%M}" for _, at, end, _ in awake)


def _bars(row: engine.PreviewRow) -> tuple[Bar, ...]:
    """Awake and warming stretches from midnight down, by the wall clock."""
    found = []
    for power, at, end, _ in _pieces(row):
        if power is engine.Power.ASLEEP:
            continue
        top = at.hour * 3600 + at.minute * 60 + at.second
        bottom = DAY if end.date() != at.date() else end.hour * 3600 + end.minute * 60 + end.second
        height = max(bottom - top, 0) * SVG_HEIGHT / DAY
        found.append(Bar(round(top * SVG_HEIGHT / DAY, 2), round(height, 2), power is engine.Power.WARMING))
    return tuple(found)
