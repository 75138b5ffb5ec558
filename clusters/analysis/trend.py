"""Small charts and arrows: what a series did this week, compared with the week before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

FLAT_WITHIN = 0.02
MINIMUM_COVERAGE = 0.5
_WEEK = timedelta(days=7)


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    FLAT = "flat"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Trend:
    """`change` is relative to last week's mean; None when it is not known, or last week's mean is 0."""

    direction: Direction
    change: float | None
    this_week: float | None
    last_week: float | None


Series = Sequence[tuple[datetime, float | None]]


def week_over_week(series: Series, now: datetime) -> Trend:
    """Compare the means of the seven days before `now` and the seven days before those.

    Less than 2 % is flat. A week counts as known when at least half of its hours of the day-and-week have a value; a
    mean over two days is not a week's.
    """
    this_week = _mean(series, now - _WEEK, now)
    last_week = _mean(series, now - 2 * _WEEK, now - _WEEK)
    if this_week is None or last_week is None:
        return Trend(Direction.UNKNOWN, None, this_week, last_week)
    if last_week == 0:
        return Trend(Direction.FLAT if this_week == 0 else Direction.UP, None, this_week, last_week)
    change = (this_week - last_week) / abs(last_week)
    direction = Direction.FLAT if abs(change) < FLAT_WITHIN else Direction.UP if change > 0 else Direction.DOWN
    return Trend(direction, change, this_week, last_week)


def _mean(series: Series, start: datetime, end: datetime) -> float | None:
    """The mean of hourly means, so that a burst of samples does not outweigh quiet hours."""
    hours: dict[int, list[float]] = {}
    for at, value in series:
        if value is not None and start <= at < end:
            hours.setdefault(int((at - start).total_seconds() // 3600), []).append(value)
    if len(hours) < MINIMUM_COVERAGE * 168:
        return None
    means = [sum(values) / len(values) for values in hours.values()]
    return sum(means) / len(means)


def sparkline(series: Series, start: datetime, end: datetime, points: int) -> tuple[float | None, ...]:
    """That many equal steps from `start` to `end`; each is the mean of its values, None where there are none.

    Raises ValueError for less than one point or an empty time.
    """
    if points < 1 or end <= start:
        raise ValueError("a sparkline needs a point and some time")
    sums, counts = [0.0] * points, [0] * points
    for at, value in series:
        if value is not None and start <= at < end:
            index = (at - start) * points // (end - start)
            sums[index] += value
            counts[index] += 1
    return tuple(total / count if count else None for total, count in zip(sums, counts, strict=True))


def extremes(values: Sequence[float | None]) -> tuple[float, float] | None:
    """The least and the greatest known value, for a chart's axis; None when nothing is known."""
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None
