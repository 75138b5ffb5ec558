"""Dry runs: the days to come with both clocks, and what the past would have looked like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from hibernation.schedule import spans as ranges
from hibernation.schedule.calendar import DayKind, DayRule
from hibernation.schedule.spans import Span
from hibernation.schedule.state import Power
from hibernation.schedule.zones import first_instant, load_zone, moment, seconds, wall_second

if TYPE_CHECKING:
    from hibernation.schedule.engine import Schedule

LONGEST_PREVIEW_DAYS = 400


@dataclass(frozen=True, slots=True)
class PreviewEdge:
    """A change of power within a row: `at` on the schedule's clock, `viewer_at` on the viewer's."""

    power: Power
    at: datetime
    viewer_at: datetime


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One date of the schedule's calendar, or the rest of it for the first row.

    `day_seconds` is the row's real length: 23 or 25 hours where the clocks change. `begins` is the power at its start.
    The three sums add up to `day_seconds`.
    """

    day: date
    start: datetime
    end: datetime
    rule: DayRule | None
    begins: Power
    edges: tuple[PreviewEdge, ...]
    awake_seconds: int
    warming_seconds: int
    asleep_seconds: int

    @property
    def day_seconds(self) -> int:
        return self.awake_seconds + self.warming_seconds + self.asleep_seconds

    @property
    def asleep_hours(self) -> float:
        return self.asleep_seconds / 3600

    @property
    def holiday(self) -> str:
        """The holiday's name (or "Holiday"), empty on other days."""
        return (self.rule.name or "Holiday") if self.rule and self.rule.kind is DayKind.HOLIDAY else ""


def preview(schedule: Schedule, t: datetime, days: int = 14, viewer_zone: str = "UTC") -> list[PreviewRow]:
    """From `t` on, one row per date of the schedule's zone; a date that the zone skipped has no row.

    Raises ValueError unless `days` is 1 to 400, InvalidSchedule for an unknown viewer zone.
    """
    if not 1 <= days <= LONGEST_PREVIEW_DAYS:
        raise ValueError(f"a preview shows 1 to {LONGEST_PREVIEW_DAYS} days")
    load_zone(viewer_zone)
    today = t.astimezone(load_zone(schedule.zone)).date()
    borders = [seconds(t)]
    borders += [first_instant(schedule.zone, wall_second(today + timedelta(n))) for n in range(1, days + 1)]
    line = schedule.timeline(borders[0], borders[-1])
    rows: list[PreviewRow] = []
    position = 0
    for number in range(days):
        start, end = borders[number], borders[number + 1]
        if start >= end:
            continue
        pieces: list[tuple[int, int, Power]] = []
        while position < len(line) and line[position][0] < end:
            piece = line[position]
            pieces.append((max(piece[0], start), min(piece[1], end), piece[2]))
            if piece[1] > end:
                break
            position += 1
        rows.append(_row(schedule, today + timedelta(number), pieces, viewer_zone))
    return rows


def _row(schedule: Schedule, day: date, pieces: list[tuple[int, int, Power]], viewer_zone: str) -> PreviewRow:
    zone, viewer = load_zone(schedule.zone), load_zone(viewer_zone)
    sums = dict.fromkeys(Power, 0)
    for start, end, power in pieces:
        sums[power] += end - start
    return PreviewRow(
        day=day,
        start=moment(pieces[0][0], zone),
        end=moment(pieces[-1][1], zone),
        rule=schedule.calendar.rule_for(day),
        begins=pieces[0][2],
        edges=tuple(PreviewEdge(power, moment(start, zone), moment(start, viewer)) for start, _, power in pieces[1:]),
        awake_seconds=sums[Power.AWAKE],
        warming_seconds=sums[Power.WARMING],
        asleep_seconds=sums[Power.ASLEEP],
    )


@dataclass(frozen=True, slots=True)
class Backtest:
    """A schedule held against the past. All sums are exact seconds within the window.

    `was_awake_seconds`: what really ran. `would_sleep_seconds`: how much of that the schedule would have slept, which
    is what it would have saved. `busy_seconds`: when somebody was at work; `busy_asleep_seconds` and `collisions`: how
    much of that, and where, it would have met a sleeping machine.
    """

    window_seconds: int
    was_awake_seconds: int
    would_sleep_seconds: int
    busy_seconds: int
    busy_asleep_seconds: int
    collisions: tuple[tuple[datetime, datetime], ...]

    @property
    def would_sleep_hours(self) -> float:
        return self.would_sleep_seconds / 3600


Interval = tuple[datetime, datetime]


def backtest(
    schedule: Schedule,
    a: datetime,
    b: datetime,
    *,
    awake: Iterable[Interval] | None = None,
    busy: Iterable[Interval] = (),
) -> Backtest:
    """What the schedule would have done in `[a, b)`.

    `awake` are the intervals in which the resource really ran (None: all the time), `busy` those of observed
    activity. They may overlap and reach beyond the window. Raises ValueError for a moment without a zone.
    """
    window = ranges.union([(seconds(a), seconds(b))])
    ran = window if awake is None else ranges.intersect(_spans(awake), window)
    worked = ranges.intersect(_spans(busy), window)
    asleep = [(start, end) for start, end, power in schedule.timeline(seconds(a), seconds(b)) if power is Power.ASLEEP]
    met = ranges.intersect(worked, asleep)
    return Backtest(
        window_seconds=ranges.total(window),
        was_awake_seconds=ranges.total(ran),
        would_sleep_seconds=ranges.total(ranges.intersect(ran, asleep)),
        busy_seconds=ranges.total(worked),
        busy_asleep_seconds=ranges.total(met),
        collisions=tuple((moment(start), moment(end)) for start, end in met),
    )


def _spans(intervals: Iterable[Interval]) -> list[Span]:
    return ranges.union((seconds(start), seconds(end)) for start, end in intervals)
