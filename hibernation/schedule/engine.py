"""The schedule engine: when something should be awake, as a pure function of grid, calendar, orders and the instant.

**Level, not edge.** `desired_at(t)` never looks at what was done before, so after any outage it says what is right
now, and a sleep and a wake that were both missed amount to nothing.

**Wall clock.** A cell is a piece of the zone's wall clock. When the clock skips an hour, its cell does not happen;
when it repeats one, its cell happens twice; a day that the zone skipped (Samoa, 30 December 2011) has no hours.

**Whose night.** A date's rule (holiday, sprint day, custom hours) covers 00:00 to 24:00 of its date. With
`night_belongs_to_start_day` (the default) the *tail* of an awake evening, its unbroken awake run from midnight on
that ends by noon, goes with the date on which the evening started. Let Thu 20:00 → Fri 02:00 and Fri 20:00 → Sat 02:00
be painted, and Friday be
- a holiday: awake until Fri 02:00 (Thursday's), then asleep, and Saturday 00:00 to 02:00 (Friday's) is asleep too;
- a sprint day: awake Fri 00:00 to 24:00, and Saturday's 00:00 to 02:00 stays as painted, since a sprint adds hours;
- given custom hours 10:00 to 14:00: awake until 02:00 (Thursday's) and 10:00 to 14:00; its painted evening and tail are
  replaced. Custom hours 20:00 to 02:00 bring a tail of their own.
Without the option midnight is the border: the holiday sleeps Fri 00:00 to 24:00 exactly, and Saturday 00:00 to 02:00 is
awake; a tail of custom hours counts on a date without a rule of its own.
A night of *sleep* needs no rule: a sprint day begins at its 00:00 even when the night before was to last until 08:00.

**Orders** (`orders.py`) beat the calendar and the grid; a person's order beats a rule's, then the newest wins.

**Pre-warm** precedes each start of an awake stretch by elapsed seconds. It never cuts into an order to sleep, and never
begins before the order to wake was made. A schedule that is switched off is awake, with cause `OFF`: orders still
hold, and otherwise the executor has nothing to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from hibernation.schedule import spans as ranges
from hibernation.schedule.calendar import Calendar, DayKind, DayRule
from hibernation.schedule.errors import InvalidSchedule
from hibernation.schedule.grid import Grid, Week, compile_week
from hibernation.schedule.orders import Action, Override, Prewarm, Snooze
from hibernation.schedule.spans import Span, Spans
from hibernation.schedule.state import Cause, CauseKind, Power, Segment, State, Transition
from hibernation.schedule.zones import (
    DAY,
    EPOCH_ORDINAL,
    LAST_INSTANT,
    WEEKDAYS,
    clock,
    day_words,
    load_zone,
    moment,
    offset_at,
    seconds,
    stretches,
    when_words,
)

_WHOLE_DAY: tuple[Span, ...] = ((0, DAY),)
_FIRST_SEARCH, _SEARCH = 8 * DAY, 32 * DAY
_NO_CALENDAR, _DEFAULT_PREWARM = Calendar(), Prewarm()
_OFF = Cause(CauseKind.OFF, "the schedule is off")
Stretch = tuple[int, int, Power]


class _Order(NamedTuple):
    """An override or snooze in Unix seconds; a greater `rank` wins."""

    rank: tuple[bool, datetime, int]
    start: int
    end: int
    awake: bool
    made: int
    source: Override | Snooze


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything that decides when one thing is awake. Immutable; JSON round trip by `to_json` and `from_json`.

    Methods take aware datetimes and drop fractions of a second. Instants come back in UTC. Raises InvalidSchedule
    when built from something that cannot mean anything, ValueError for a moment without a zone.
    """

    grid: Grid
    zone: str = "UTC"
    calendar: Calendar = _NO_CALENDAR
    overrides: tuple[Override, ...] = ()
    snoozes: tuple[Snooze, ...] = ()
    prewarm: Prewarm = _DEFAULT_PREWARM
    night_belongs_to_start_day: bool = True
    enabled: bool = True
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)
    _week: Week = field(init=False, repr=False, compare=False)
    _orders: tuple[_Order, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_zone", load_zone(self.zone))
        object.__setattr__(
            self, "_week", compile_week(self.grid, night_belongs_to_start_day=self.night_belongs_to_start_day)
        )
        orders = [_override_order(override, place) for place, override in enumerate(self.overrides)]
        orders += [_snooze_order(snooze, place) for place, snooze in enumerate(self.snoozes)]
        object.__setattr__(self, "_orders", tuple(sorted(orders, key=lambda order: order.rank, reverse=True)))

    # --- JSON -------------------------------------------------------------------------------------------------

    @classmethod
    def from_json(cls, value: object) -> Schedule:
        """From what `to_json` writes; only `grid` and `zone` are required. Raises InvalidSchedule."""
        if not isinstance(value, Mapping) or not isinstance(value.get("zone"), str):
            raise InvalidSchedule("A schedule is an object with a grid and a zone.")
        return cls(
            Grid.from_json(value.get("grid")),
            value["zone"],
            Calendar.from_json(value.get("calendar", {})),
            tuple(Override.from_json(item) for item in _items(value, "overrides")),
            tuple(Snooze.from_json(item) for item in _items(value, "snoozes")),
            Prewarm.from_json(value.get("prewarm", {})),
            bool(value.get("night_belongs_to_start_day", True)),
            bool(value.get("enabled", True)),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "grid": self.grid.to_json(),
            "zone": self.zone,
            "calendar": self.calendar.to_json(),
            "overrides": [override.to_json() for override in self.overrides],
            "snoozes": [snooze.to_json() for snooze in self.snoozes],
            "prewarm": self.prewarm.to_json(),
            "night_belongs_to_start_day": self.night_belongs_to_start_day,
            "enabled": self.enabled,
        }

    # --- Questions --------------------------------------------------------------------------------------------

    def desired_at(self, t: datetime) -> State:
        """What should be at `t`, and why."""
        second = seconds(t)
        order = self._winner(second)
        if order:
            return State(Power.AWAKE if order.awake else Power.ASLEEP, self._order_cause(order, second))
        if not self.enabled:
            return State(Power.AWAKE, _OFF)
        awake, cause = self._painted_at(second)
        if awake:
            return State(Power.AWAKE, cause)
        if self.prewarm.seconds and self.timeline(second, second + 1)[0][2] is Power.WARMING:
            return State(Power.WARMING, self._warming_cause(second))
        return State(Power.ASLEEP, cause)

    def next_transitions(self, t: datetime, n: int = 1) -> list[Transition]:
        """The next `n` changes of power strictly after `t`; fewer when nothing changes any more."""
        start = seconds(t) + 1
        last_rule = max(self._orders_end(), self._calendar_end())
        found: list[Transition] = []
        length = _FIRST_SEARCH
        while len(found) < n and start < LAST_INSTANT:
            edges = self._edges(start, start + length)
            found += [self._transition(*edge) for edge in edges[: n - len(found)]]
            if not edges and length == _SEARCH and start >= last_rule:
                break
            start += length
            length = _SEARCH
        return found

    def transitions_between(self, a: datetime, b: datetime) -> list[Transition]:
        """Every change of power at an instant in `[a, b)`."""
        return [self._transition(*edge) for edge in self._edges(_ceil(a), _ceil(b))]

    def segments_between(self, a: datetime, b: datetime) -> list[Segment]:
        """`[a, b)` cut into stretches of one power, without gaps; empty when `b` is not after `a`."""
        return [
            Segment(moment(start), moment(end), power) for start, end, power in self.timeline(seconds(a), seconds(b))
        ]

    def awake_seconds_between(self, a: datetime, b: datetime, *, include_warming: bool = True) -> int:
        """Exact seconds switched on in `[a, b)`; without `include_warming` only those that are painted or ordered awake."""
        counted = (Power.AWAKE, Power.WARMING) if include_warming else (Power.AWAKE,)
        return sum(end - start for start, end, power in self.timeline(seconds(a), seconds(b)) if power in counted)

    def timeline(self, a: int, b: int) -> list[Stretch]:
        """`segments_between` in Unix seconds."""
        if a >= b:
            return []
        lead = self.prewarm.seconds
        painted = self._painted(a, b + lead)
        awake, forced_asleep, forced_awake = self._apply_orders(painted, a, b + lead)
        warming = self._warming(awake, forced_asleep, forced_awake, painted, lead) if lead else []
        return _paint(awake, warming, a, b)

    # --- The grid and the calendar ----------------------------------------------------------------------------

    def _painted(self, a: int, b: int) -> list[Span]:
        """Awake spans of grid and calendar in `[a, b)`, without orders."""
        if not self.enabled:
            return [(a, b)]
        found: list[Span] = []
        for start, end, offset in stretches(self.zone, a, b):
            first, last = start + offset, end + offset
            midnight = first - first % DAY
            while midnight < last:
                for day_start, day_end in self._day(midnight // DAY + EPOCH_ORDINAL):
                    low, high = max(midnight + day_start, first), min(midnight + day_end, last)
                    if low < high:
                        ranges.append(found, low - offset, high - offset)
                midnight += DAY
        return found

    def _day(self, ordinal: int) -> Spans:
        """Awake spans of a date, in seconds of its wall clock."""
        rules = self.calendar.by_ordinal
        if not rules or (ordinal not in rules and ordinal - 1 not in rules):
            return self._week.painted[(ordinal - 1) % 7]
        own, tail = self._parts(ordinal)
        return ranges.union((*own, *tail)) if tail else own

    def _parts(self, ordinal: int) -> tuple[Spans, Spans]:
        """The date's own spans, and the tail that goes with the date before."""
        weekday = (ordinal - 1) % 7
        rule, before = self.calendar.by_ordinal.get(ordinal), self.calendar.by_ordinal.get(ordinal - 1)
        own: Spans = self._week.own[weekday] if rule is None else _rule_spans(rule)
        if before is None or before.kind is DayKind.SPRINT:
            tail: Spans = self._week.tail[weekday]
        else:
            tail = [(max(start, DAY) - DAY, end - DAY) for start, end in before.spans() if end > DAY]
        if rule is not None and not self.night_belongs_to_start_day:
            tail = ()
        return own, tail

    def _painted_at(self, second: int) -> tuple[bool, Cause]:
        """Whether grid and calendar say awake at an instant, and which of the two decided."""
        wall = second + offset_at(self._zone, second)
        ordinal, of_day = wall // DAY + EPOCH_ORDINAL, wall % DAY
        weekday, rules = (ordinal - 1) % 7, self.calendar.by_ordinal
        rule, before = rules.get(ordinal), rules.get(ordinal - 1)
        own, tail = self._parts(ordinal)
        if ranges.covers(own, of_day):
            return True, _rule_cause(rule, ordinal) if rule else self._grid_cause(True, ordinal, of_day)
        if ranges.covers(tail, of_day):
            if before and before.kind is DayKind.CUSTOM:
                return True, _rule_cause(before, ordinal - 1)
            name = WEEKDAYS[weekday - 1]
            return True, Cause(CauseKind.GRID, f"{name}'s night is painted green", date.fromordinal(ordinal - 1))
        if before and ranges.covers(self._week.tail[weekday], of_day):
            return False, _rule_cause(before, ordinal - 1)
        return False, _rule_cause(rule, ordinal) if rule else self._grid_cause(False, ordinal, of_day)

    def _grid_cause(self, awake: bool, ordinal: int, of_day: int) -> Cause:
        weekday = (ordinal - 1) % 7
        row = self.grid.rows[weekday]
        minutes = self.grid.cell_minutes
        hour = "" if len(set(row)) == 1 else f" {clock(of_day // 60 // minutes * minutes)}"
        colour = "green" if awake else "grey"
        return Cause(CauseKind.GRID, f"{WEEKDAYS[weekday]}{hour} is painted {colour}", date.fromordinal(ordinal))

    def _calendar_end(self) -> int:
        """An instant after the last date's rule has ended."""
        return (max(self.calendar.by_ordinal, default=EPOCH_ORDINAL) - EPOCH_ORDINAL + 4) * DAY

    # --- Orders -----------------------------------------------------------------------------------------------

    def _winner(self, second: int) -> _Order | None:
        """The order in force at an instant; `_orders` are sorted by precedence."""
        return next((order for order in self._orders if order.start <= second < order.end), None)

    def _orders_end(self) -> int:
        return max((order.end for order in self._orders), default=0)

    def _apply_orders(
        self, painted: list[Span], a: int, b: int
    ) -> tuple[list[Span], list[Span], list[tuple[int, int, _Order]]]:
        """Awake spans with orders applied, spans ordered asleep, and spans ordered awake with their order."""
        orders = [order for order in self._orders if order.start < b and order.end > a]
        if not orders:
            return painted, [], []
        edges = sorted({a, b, *(edge for order in orders for edge in (order.start, order.end) if a < edge < b)})
        free: list[Span] = []
        asleep: list[Span] = []
        woken: list[tuple[int, int, _Order]] = []
        for start, end in pairwise(edges):
            order = next((order for order in orders if order.start <= start < order.end), None)
            if order is None:
                free.append((start, end))
            elif order.awake:
                woken.append((start, end, order))
            else:
                asleep.append((start, end))
        awake = ranges.union([*ranges.intersect(painted, free), *((start, end) for start, end, _ in woken)])
        return awake, ranges.union(asleep), woken

    def _warming(
        self,
        awake: list[Span],
        asleep: list[Span],
        woken: list[tuple[int, int, _Order]],
        painted: list[Span],
        lead: int,
    ) -> list[Span]:
        """The pre-warm before each awake span, cut where an order to sleep or the making of the wake forbids it."""
        made = {start: order.made for start, _, order in woken if not ranges.covers(painted, start)}
        found: list[Span] = []
        free_from = -(1 << 62)
        barriers = iter(asleep)
        barrier = next(barriers, None)
        for start, end in awake:
            while barrier and barrier[1] <= start:
                free_from = barrier[1]
                barrier = next(barriers, None)
            begin = max(start - lead, free_from, made.get(start, start - lead))
            if begin < start:
                found.append((begin, start))
            free_from = end
        return found

    # --- Changes and words ------------------------------------------------------------------------------------

    def _edges(self, a: int, b: int) -> list[tuple[int, Power]]:
        """Instants in `[a, b)` at which the power changes, with the power before."""
        line = self.timeline(a - 1, b)
        return [(after[0], before[2]) for before, after in pairwise(line)]

    def _transition(self, second: int, before: Power) -> Transition:
        at = moment(second)
        return Transition(at, before, self.desired_at(at))

    def _order_cause(self, order: _Order, second: int) -> Cause:
        source = order.source
        until = moment(order.end, self._zone)
        shown = when_words(until, moment(second, self._zone))
        who = source.actor or ("somebody" if order.rank[0] else "a rule")
        if isinstance(source, Snooze):
            return Cause(CauseKind.SNOOZE, f"{who} snoozed the sleep until {shown}", None, source.id, moment(order.end))
        verb = "woke it" if order.awake else "put it to sleep"
        reason = f" ({source.reason})" if source.reason else ""
        return Cause(CauseKind.OVERRIDE, f"{who} {verb} until {shown}{reason}", None, source.id, moment(order.end))

    def _warming_cause(self, second: int) -> Cause:
        line = self.timeline(second, second + self.prewarm.seconds + 1)
        ready = moment(line[1][0], self._zone)
        shown = when_words(ready, moment(second, self._zone))
        return Cause(CauseKind.PREWARM, f"it warms up for {shown}", ready.date(), until=moment(line[1][0]))


def _items(value: Mapping[str, object], name: str) -> Sequence[object]:
    items = value.get(name, ())
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise InvalidSchedule(f"{name} is a list.", field=name)
    return items


def _rule_spans(rule: DayRule) -> Spans:
    """Awake spans of a date's rule within the date itself."""
    if rule.kind is DayKind.SPRINT:
        return _WHOLE_DAY
    return [(start, min(end, DAY)) for start, end in rule.spans()]


def _rule_cause(rule: DayRule, ordinal: int) -> Cause:
    day = date.fromordinal(ordinal)
    if rule.kind is DayKind.CUSTOM:
        what = f"has its own hours {rule.hours_words()}"
    else:
        what = "is a holiday" if rule.kind is DayKind.HOLIDAY else "is a sprint day"
    name = f" ({rule.name})" if rule.name else ""
    return Cause(CauseKind(str(rule.kind)), f"{day_words(day)} {what}{name}", day)


def _override_order(override: Override, place: int) -> _Order:
    made = override.ordered_at.astimezone(UTC)
    awake = override.action is Action.WAKE
    return _Order(
        (override.by_person, made, place),
        seconds(override.start),
        _ceil(override.expires),
        awake,
        seconds(made),
        override,
    )


def _snooze_order(snooze: Snooze, place: int) -> _Order:
    made = snooze.ordered_at.astimezone(UTC)
    return _Order((True, made, place), seconds(snooze.sleep_at), _ceil(snooze.until), True, seconds(made), snooze)


def _ceil(t: datetime) -> int:
    return seconds(t) + (1 if t.microsecond else 0)


def _paint(awake: Sequence[Span], warming: Sequence[Span], a: int, b: int) -> list[Stretch]:
    """One line over `[a, b)` of awake and warming spans, asleep between them."""
    line: list[Stretch] = []
    position = a
    marks = [(start, end, Power.AWAKE) for start, end in awake] + [
        (start, end, Power.WARMING) for start, end in warming
    ]
    for start, end, power in sorted(marks):
        low, high = max(start, a), min(end, b)
        if low >= high:
            continue
        if low > position:
            line.append((position, low, Power.ASLEEP))
        line.append((low, high, power))
        position = high
    if position < b:
        line.append((position, b, Power.ASLEEP))
    return line
