"""Capacity, requests and usage over time: the resource gap, and what the gap costs.

The red line is what pods may request of the nodes, the green one what they request, the third what they use. What no pod
requests is waste in *both* resources only as far as the fuller one allows: a node full of memory cannot take more pods,
however idle its CPU. So at each moment the wasted part of the cost is 1 - max(CPU, memory) of requested / capacity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import median

from clusters.analysis.facts import GIB, HOURS_PER_MONTH, Resources

GAP_FACTOR = 3  # samples further apart than three ordinary steps are a gap, not a line


@dataclass(frozen=True, slots=True)
class CapacitySample:
    """The cluster at one moment. `used` and `hourly_cost` are None when not known."""

    at: datetime
    capacity: Resources
    requested: Resources
    used: Resources | None = None
    hourly_cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class AreaPoint:
    """One point of the chart, in cores or GiB. A point whose values are all None breaks the lines."""

    at: datetime
    capacity: float | None
    requested: float | None
    used: float | None


@dataclass(frozen=True, slots=True)
class Waste:
    """`wasted_share` is of cost where costs are known, else of time; None without samples that cover any time.

    `monthly_savings` is potential: the mean hourly cost of the gap x 730, None when no cost is known.
    """

    cpu: tuple[AreaPoint, ...]
    memory: tuple[AreaPoint, ...]
    wasted_share: float | None
    unrequested_cpu: float | None
    unrequested_memory: float | None
    unused_cpu: float | None
    unused_memory: float | None
    monthly_savings: Decimal | None
    covered: timedelta


def waste(samples: Sequence[CapacitySample]) -> Waste:
    """Chart and sums of samples in any order. A sample stands for the time until the next one, unless a gap follows."""
    ordered = sorted(samples, key=lambda sample: sample.at)
    steps = [later.at - earlier.at for earlier, later in pairwise(ordered)]
    longest = _longest_step(steps)
    weighted = [(sample, step.total_seconds()) for sample, step in zip(ordered, steps, strict=False) if step <= longest]
    covered = sum(seconds for _, seconds in weighted)
    share, savings = _wasted(weighted)
    return Waste(
        cpu=_line(ordered, longest, lambda r: r.cpu_milli / 1000),
        memory=_line(ordered, longest, lambda r: r.memory_bytes / GIB),
        wasted_share=share,
        unrequested_cpu=_gap(weighted, lambda s: (s.capacity.cpu_milli, s.requested.cpu_milli)),
        unrequested_memory=_gap(weighted, lambda s: (s.capacity.memory_bytes, s.requested.memory_bytes)),
        unused_cpu=_gap(weighted, lambda s: (s.capacity.cpu_milli, s.used.cpu_milli) if s.used else None),
        unused_memory=_gap(weighted, lambda s: (s.capacity.memory_bytes, s.used.memory_bytes) if s.used else None),
        monthly_savings=savings,
        covered=timedelta(seconds=covered),
    )


def wasted_now(capacity: Resources, requested: Resources) -> float:
    """The part of the cost that no pod asks for, 0 to 1."""
    fullest = max(
        _ratio(requested.cpu_milli, capacity.cpu_milli), _ratio(requested.memory_bytes, capacity.memory_bytes)
    )
    return max(0.0, 1.0 - fullest)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _longest_step(steps: Sequence[timedelta]) -> timedelta:
    positive = [step.total_seconds() for step in steps if step > timedelta(0)]
    return timedelta(seconds=GAP_FACTOR * median(positive)) if positive else timedelta(0)


def _wasted(weighted: Sequence[tuple[CapacitySample, float]]) -> tuple[float | None, Decimal | None]:
    alive = [(s, seconds) for s, seconds in weighted if s.capacity.cpu_milli or s.capacity.memory_bytes]
    priced = [(s, seconds, s.hourly_cost) for s, seconds in weighted if s.hourly_cost is not None]
    seconds = sum(seconds for _, seconds, _ in priced)
    if seconds:
        spent = sum(float(cost) * length for _, length, cost in priced)
        lost = sum(
            float(cost) * length * wasted_now(s.capacity, s.requested)
            for s, length, cost in priced
            if s.capacity.cpu_milli or s.capacity.memory_bytes
        )
        monthly = Decimal(str(round(lost / seconds * HOURS_PER_MONTH, 6)))
        return (lost / spent if spent else 0.0), monthly
    time = sum(length for _, length in alive)
    if not time:
        return None, None
    return sum(wasted_now(s.capacity, s.requested) * length for s, length in alive) / time, None


def _gap(
    weighted: Sequence[tuple[CapacitySample, float]], amounts: Callable[[CapacitySample], tuple[int, int] | None]
) -> float | None:
    """The part of the capacity, over time, that is not covered; None when nothing is known."""
    known = [(pair, seconds) for s, seconds in weighted if (pair := amounts(s)) is not None]
    whole = sum(capacity * seconds for (capacity, _), seconds in known)
    if not whole:
        return None
    return sum(max(0, capacity - part) * seconds for (capacity, part), seconds in known) / whole


def _line(
    ordered: Sequence[CapacitySample], longest: timedelta, amount: Callable[[Resources], float]
) -> tuple[AreaPoint, ...]:
    points: list[AreaPoint] = []
    before: datetime | None = None
    for sample in ordered:
        if before is not None and sample.at - before > longest:
            points.append(AreaPoint(before + longest, None, None, None))
        used = amount(sample.used) if sample.used else None
        points.append(AreaPoint(sample.at, amount(sample.capacity), amount(sample.requested), used))
        before = sample.at
    return tuple(points)
