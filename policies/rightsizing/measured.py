"""CPU requests by a rule chosen for each container: the one that would have done best on days it did not know. Pure.

Candidates are a share of the samples of the last 3, 7 or 14 days times a margin. Each is fitted on the days before a
day and judged on the week after it, for every day there is. The cheapest wins, where being short costs as well: one per
cent of the time above the request counts as much as `shortage_of` the headroom, in hundredths of a core. So a container of
a few millicores gets all that it ever used, a large one exactly what pays. No candidate may be short for more than a
seventh of the time.

Two guards. Nothing above what was ever used: most of what other rules ask for in vain is a margin above a ceiling that was
never crossed. And a floor, because a week of idleness proves little: from 15 % headroom on, what VPA's rule says (p90,
older samples counting less, and 15 %), or p99 of all days where that is less; at 10 % half of p95; between them both. Never
below a quarter of p95.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from clusters.analysis.usage_days import Day, edge

SHARES = (0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)
MARGINS = (0, 2, 3, 5, 7, 9, 13, 20, 35)  # buckets of 2 %: 0, 4, 6, 10, 15, 20, 29, 49, 100 %
WINDOWS = (3, 7, 14)
MOST_DAYS = 14
LEAST_DAYS = 3
HORIZON = 7
FIRST_JUDGED = 4
MOST_SHORT = 0.15
SHORTAGE, USUAL = 2.0, 20  # hundredths of a core, at this headroom
DARING, CAREFUL = 10, 15  # the headroom at which the floor is half of p95, and from which it is that of VPA's rule
KEEP, QUIET = 0.5, 0.25
LATELY, MARGIN = 0.9, 1.15
CEILING = 0.99


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen and how it did on days it did not know: `short` is the share of their samples above it. `floored`:
    the rule asked for less than the floor."""

    cores: float
    share: float
    margin: float
    days: int
    short: float
    floored: bool = False

    @property
    def words(self) -> str:
        """For people."""
        margin = f" + {self.margin:.0%}" if self.margin >= 0.005 else ""
        rule = f"p{self.share * 100:g} of {self.days} days{margin}"
        if self.floored:
            return f"more than {rule}, because of what it used lately"
        return f"{rule}; on days it did not know it was short {self.short:.1%} of the time"


def shortage_of(headroom: int) -> float:
    """The policy's dial: a sixth at 10 % headroom (about as often short as a plain p95), 2 at 20 %, 49 at 50 %."""
    return float(SHORTAGE * (headroom / USUAL) ** 3.5)


class Pool:
    """The samples of some days as sorted buckets with their weights."""

    def __init__(self, days: Sequence[Day]) -> None:
        points = sorted(point for day in days for point in day.points() if point[1] > 0)
        self.buckets = [bucket for bucket, _ in points]
        self.sums = list(accumulate(weight for _, weight in points))

    def quantile(self, share: float) -> int:
        """The bucket that this share of the samples does not exceed."""
        return self.quantiles((share,))[0]

    def quantiles(self, shares: Sequence[float]) -> list[int]:
        """The same for ascending shares."""
        found, spot, last = [], 0, len(self.buckets) - 1
        for share in shares:
            threshold = share * self.sums[-1] - 1e-6
            while spot < last and self.sums[spot] < threshold:
                spot += 1
            found.append(self.buckets[spot])
        return found

    def above(self, bucket: int) -> float:
        """The share of the samples above a bucket."""
        spot = bisect_right(self.buckets, bucket)
        return 1.0 - (self.sums[spot - 1] / self.sums[-1] if spot else 0.0)


def pool(days: Sequence[Day]) -> Pool | None:
    """The CPU of the last fourteen days; None without a sample."""
    known = _known(days)
    return Pool(known) if known else None


def _known(days: Sequence[Day]) -> tuple[Day, ...]:
    return tuple([day for day in days if day.samples][-MOST_DAYS:])


def choose(days: Sequence[Day], lately: float, *, headroom: int = USUAL) -> Chosen | None:
    """The request in cores; None with fewer than three days of samples. `lately`: p90 of the decaying histogram."""
    known = _known(days)
    if len(known) < LEAST_DAYS:
        return None
    shorts, shortage = _judge(known), shortage_of(headroom)
    whole = Pool(known)
    most, least = edge(whole.buckets[-1]), _floor(whole, lately, headroom)
    best: tuple[tuple[bool, float], float, float, int, int, float] | None = None
    place = 0
    for window in WINDOWS:
        for share, bucket in zip(SHARES, Pool(known[-window:]).quantiles(SHARES), strict=True):
            for margin in MARGINS:
                short, cores = shorts[place], min(edge(bucket + margin), most)
                place += 1
                over = short > MOST_SHORT
                rank = (over, short if over else cores + shortage * short)
                if best is None or rank < best[0]:
                    best = (rank, cores, share, margin, window, short)
    assert best is not None
    _, cores, share, margin, window, short = best
    rise = edge(margin) / edge(0) - 1
    return Chosen(max(cores, least), share, rise, min(window, len(known)), short, floored=least > cores)


def _floor(whole: Pool, lately: float, headroom: int) -> float:
    trust = min(1.0, max(0.0, (headroom - DARING) / (CAREFUL - DARING)))
    daring, careful = (edge(bucket) for bucket in whole.quantiles((0.95, CEILING)))
    blend = (1 - trust) * KEEP * daring + trust * min(MARGIN * lately, careful)
    return max(QUIET * daring, blend)


@lru_cache(maxsize=2048)
def _judge(days: tuple[Day, ...]) -> Sequence[float]:
    """How much of the following time each candidate would have been short, the mean over all days it could be judged; in
    the order of windows, shares, margins. Remembered, because a page asks again with every change of a slider."""
    found = array("d", bytes(8 * len(WINDOWS) * len(SHARES) * len(MARGINS)))
    starts = range(max(1, min(FIRST_JUDGED, len(days) - 1)), len(days))
    for start in starts:
        later = Pool(days[start : start + HORIZON])
        place = 0
        for window in WINDOWS:
            for bucket in Pool(days[max(0, start - window) : start]).quantiles(SHARES):
                for margin in MARGINS:
                    found[place] += later.above(bucket + margin) / len(starts)
                    place += 1
    return found
