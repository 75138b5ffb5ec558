"""Decaying usage histograms, bucket for bucket those of the Kubernetes Vertical Pod Autoscaler.

Exact figures (VPA 1.7): the first bucket is 0.01 core or 10 MB wide, each next one 5 % wider, up to 1,000 cores or 1 TB;
176 buckets each. A sample's weight doubles with every half-life (24 hours) of its time after the reference time, so that
old samples count half as much each day. A percentile is the *upper* edge of the bucket in which it falls, and the lower
edge of the last bucket, which has no upper one. A bucket lighter than 0.0001 counts as empty at either end. When a sample
is more than 100 half-lives past the reference, the reference moves (by whole half-lives) and all weights shrink.

A CPU sample weighs what the container requests in cores, at least 0.1; memory gets one sample of weight 1 for the peak of
each day. A checkpoint stores each bucket's weight as a whole number, the heaviest as 10,000, with the total weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

HALF_LIFE = timedelta(hours=24)
MINIMUM_CPU_WEIGHT = 0.1
MAXIMUM_CHECKPOINT_WEIGHT = 10_000
_MOST_HALF_LIVES = 100


@cache
def _count(maximum: float, first: float, growth: float) -> int:
    return math.ceil(math.log(maximum * (growth - 1) / first + 1, growth)) + 1


@dataclass(frozen=True, slots=True)
class Buckets:
    """Where the buckets lie: bucket n starts at `first * (growth^n - 1) / (growth - 1)`."""

    maximum: float
    first: float
    growth: float = 1.05
    epsilon: float = 0.0001

    @property
    def count(self) -> int:
        """How many there are; the last one has no upper edge."""
        return _count(self.maximum, self.first, self.growth)

    def find(self, value: float) -> int:
        """The bucket of a value."""
        if value < self.first:
            return 0
        bucket = int(math.log(value * (self.growth - 1) / self.first + 1, self.growth))
        return min(bucket, self.count - 1)

    def start(self, bucket: int) -> float:
        """Where a bucket begins. Raises IndexError for one that does not exist."""
        if not 0 <= bucket < self.count:
            raise IndexError(f"there is no bucket {bucket}")
        return 0.0 if bucket == 0 else self.first * (self.growth**bucket - 1) / (self.growth - 1)


CPU_BUCKETS = Buckets(1000.0, 0.01)  # cores
MEMORY_BUCKETS = Buckets(1e12, 1e7)  # bytes
KINDS: Mapping[str, Buckets] = {"cpu": CPU_BUCKETS, "memory": MEMORY_BUCKETS}


class UsageHistogram:
    """A distribution of usage that forgets. Mutable; not safe to share between threads."""

    __slots__ = ("_reference", "_total", "_weights", "buckets", "half_life")

    def __init__(self, buckets: Buckets, half_life: timedelta = HALF_LIFE) -> None:
        self.buckets = buckets
        self.half_life = half_life
        self._weights: dict[int, float] = {}
        self._total = 0.0
        self._reference: float | None = None  # Unix seconds, a multiple of the half-life

    @property
    def total_weight(self) -> float:
        return self._total

    @property
    def empty(self) -> bool:
        return self._range() is None

    def add(self, value: float, weight: float, at: datetime) -> None:
        """Count a sample. Raises ValueError for a negative value or weight, or one that is not a number."""
        if not (value >= 0 and weight >= 0 and math.isfinite(value) and math.isfinite(weight)):
            raise ValueError("a sample's value and weight are finite and not negative")
        bucket = self.buckets.find(value)
        scaled = weight * self._factor(at.timestamp())
        self._weights[bucket] = self._weights.get(bucket, 0.0) + scaled
        self._total += scaled

    def subtract(self, value: float, weight: float, at: datetime) -> None:
        """Take a sample back, as memory does when a day's peak rises. A bucket never falls below 0."""
        bucket = self.buckets.find(value)
        have = self._weights.get(bucket, 0.0)
        taken = weight * self._factor(at.timestamp())
        if taken > have - self.buckets.epsilon:
            taken = have
        self._weights[bucket] = have - taken
        self._total -= taken

    def percentile(self, share: float) -> float:
        """The value that `share` (0 to 1) of the weight does not exceed; 0.0 when empty."""
        edges = self._range()
        if edges is None:
            return 0.0
        bucket, last = edges
        threshold, below = share * self._total, 0.0
        while bucket < last:
            below += self._weights.get(bucket, 0.0)
            if below >= threshold:
                break
            bucket += 1
        return self.buckets.start(bucket + 1 if bucket < self.buckets.count - 1 else bucket)

    def merge(self, other: UsageHistogram) -> None:
        """Add another histogram's samples; the other is left as it was. Raises ValueError when the two differ in kind."""
        if (self.buckets, self.half_life) != (other.buckets, other.half_life):
            raise ValueError("only histograms with the same buckets and half-life can be merged")
        if other._reference is None:
            return
        if self._reference is None:
            self._reference = other._reference
        if self._reference < other._reference:
            self._shift(other._reference)
        scale = math.ldexp(1.0, round((other._reference - self._reference) / self.half_life.total_seconds()))
        for bucket, weight in other._weights.items():
            self._weights[bucket] = self._weights.get(bucket, 0.0) + weight * scale
        self._total += other._total * scale

    def to_json(self) -> dict[str, object]:
        """A checkpoint: `{"reference": ISO time or None, "weights": {"12": 10000}, "total": 3.5}`."""
        edges = self._range()
        weights: dict[str, int] = {}
        if edges is not None:
            inside = {k: w for k, w in sorted(self._weights.items()) if edges[0] <= k <= edges[1]}
            ratio = MAXIMUM_CHECKPOINT_WEIGHT / max(inside.values())
            rounded = {k: math.floor(w * ratio + 0.5) for k, w in inside.items()}
            weights = {str(k): w for k, w in rounded.items() if w > 0}
        reference = None if self._reference is None else datetime.fromtimestamp(self._reference, UTC).isoformat()
        return {"reference": reference, "weights": weights, "total": self._total}

    @classmethod
    def from_json(cls, value: object, buckets: Buckets, half_life: timedelta = HALF_LIFE) -> UsageHistogram:
        """From a checkpoint. Raises ValueError for one that cannot be."""
        histogram = cls(buckets, half_life)
        try:
            assert isinstance(value, Mapping)
            weights = {int(k): int(w) for k, w in value["weights"].items()}
            total, reference = float(value["total"]), value["reference"]
            at = None if reference is None else datetime.fromisoformat(reference).timestamp()
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError):
            raise ValueError("this is not a histogram's checkpoint") from None
        most = buckets.count
        if total < 0 or not math.isfinite(total) or any(not 0 <= k < most or w < 0 for k, w in weights.items()):
            raise ValueError("the checkpoint has a bucket or a weight that cannot be")
        whole = sum(weights.values())
        if whole:
            histogram._weights = {k: w * total / whole for k, w in weights.items()}
            histogram._total = total
        histogram._reference = at
        return histogram

    def _range(self) -> tuple[int, int] | None:
        """The first and the last bucket that are not empty."""
        filled = [bucket for bucket, weight in self._weights.items() if weight >= self.buckets.epsilon]
        return (min(filled), max(filled)) if filled else None

    def _factor(self, at: float) -> float:
        life = self.half_life.total_seconds()
        if self._reference is None:
            self._reference = math.floor(at / life + 0.5) * life
        if at > self._reference + _MOST_HALF_LIVES * life:
            self._shift(at)
        return math.exp2((at - self._reference) / life)

    def _shift(self, to: float) -> None:
        """Move the reference to the nearest multiple of the half-life and scale all weights accordingly."""
        life = self.half_life.total_seconds()
        new = math.floor(to / life + 0.5) * life
        scale = math.ldexp(1.0, round(((self._reference or 0.0) - new) / life))
        self._weights = {bucket: weight * scale for bucket, weight in self._weights.items() if weight * scale > 0}
        self._total *= scale
        self._reference = new


def cpu_weight(requested_cores: float) -> float:
    """What a CPU sample of a container with that request weighs."""
    return max(requested_cores, MINIMUM_CPU_WEIGHT)
