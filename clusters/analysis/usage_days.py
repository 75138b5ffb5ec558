"""What a container used on each of its last days, in twenty numbers a day: what forgets gradually cannot be tested.

The decaying histogram (`usage_histogram`) answers "what now?". Choosing a rule by what it would have meant on days that
it did not know needs the days apart. Of a day that is over, the CPU that twenty shares of its samples did not exceed is
kept, as buckets 2 % wide, always the upper edge; and the highest memory. Days differ, so the low shares count too: what is
little on a busy day may be much on a quiet one. Samples of a day that is over already are left out. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LEVELS = (
    *(0.05, 0.15, 0.25, 0.35, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7),
    *(0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 1.0),
)
OLD_LEVELS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)  # as days were stored at first
KEPT_DAYS = 15
GROWTH = 1.02
FIRST = 1e-4  # cores
_LOG = math.log(GROWTH)


def bucket_of(cores: float) -> int:
    """The bucket whose upper edge is the first that is not below the value."""
    return max(0, math.ceil(math.log(cores / FIRST) / _LOG - 1e-9)) if cores > FIRST else 0


def edge(bucket: int) -> float:
    """The upper edge of a bucket, in cores."""
    return FIRST * float(GROWTH**bucket)


@dataclass(frozen=True, slots=True)
class Day:
    """One day: how many CPU samples, the bucket that each share of `LEVELS` did not exceed, the highest memory."""

    day: int
    samples: int
    buckets: tuple[int, ...]
    memory: float = 0.0

    def points(self) -> list[tuple[int, float]]:
        """The day as weighted buckets; the weights add up to its samples. What lies between two shares is counted half at
        the upper one and half in the middle, so that days put together do not say too much."""
        before, lower, found = 0.0, self.buckets[0], []
        for level, bucket in zip(LEVELS, self.buckets, strict=True):
            half = (level - before) * self.samples / 2
            found += [((lower + bucket + 1) // 2, half), (bucket, half)]
            before, lower = level, bucket
        return found


def sketch(day: int, counts: dict[int, int], memory: float) -> Day:
    """A day of its counted buckets."""
    total, below, spot = sum(counts.values()), 0, 0
    ordered, buckets = sorted(counts.items()), []
    for level in LEVELS:
        while spot < len(ordered) - 1 and below + ordered[spot][1] < level * total - 1e-9:
            below += ordered[spot][1]
            spot += 1
        buckets.append(ordered[spot][0] if ordered else 0)
    return Day(day, total, tuple(buckets), memory)


@dataclass(slots=True)
class UsageDays:
    """The days of one container. `day` is the one that is going on, in days since 1970 UTC."""

    done: list[Day] = field(default_factory=list)
    day: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    memory: float = 0.0

    def add(self, day: int, cores: float | None, memory: float | None) -> None:
        """Count one look; a later day ends the one before."""
        if day < self.day:
            return
        if day > self.day:
            self.done = self.days()[-KEPT_DAYS:]
            self.day, self.counts, self.memory = day, {}, 0.0
        if cores is not None:
            bucket = bucket_of(cores)
            self.counts[bucket] = self.counts.get(bucket, 0) + 1
        if memory is not None:
            self.memory = max(self.memory, memory)

    def days(self) -> list[Day]:
        """All days with a sample, oldest first, today as far as it has come."""
        today = [sketch(self.day, self.counts, self.memory)] if self.counts or self.memory else []
        return [*self.done, *today]

    def dump(self) -> list[Any]:
        done = [[one.day, one.samples, one.memory, *one.buckets] for one in self.done]
        return [done, self.day, sorted(self.counts.items()), self.memory]

    @classmethod
    def load(cls, kept: Sequence[Any]) -> UsageDays:
        """Raises ValueError for what `dump` did not write."""
        try:
            done = [Day(int(d[0]), int(d[1]), _levels([int(b) for b in d[3:]]), float(d[2])) for d in kept[0]]
            found = cls(done, int(kept[1]), {int(b): int(n) for b, n in kept[2]}, float(kept[3]))
        except (IndexError, TypeError, KeyError) as bad:
            raise ValueError("these are not a container's days") from bad
        if any(len(one.buckets) != len(LEVELS) for one in done):
            raise ValueError("a day has another number of shares")
        return found


def _levels(buckets: Sequence[int]) -> tuple[int, ...]:
    """The buckets of a stored day by today's shares; of one that was stored by the old ones, never less than was used."""
    if len(buckets) != len(OLD_LEVELS):
        return tuple(buckets)
    old = list(zip(OLD_LEVELS, buckets, strict=True))
    return tuple(next(bucket for level, bucket in old if level >= wanted) for wanted in LEVELS)
