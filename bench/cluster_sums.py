"""Does the money of a fleet of clusters add up, and how long does that take?

    python -m bench.cluster_sums                       # 200 clusters x 31 days with a clock change
    python -m bench.cluster_sums --clusters 20 --nodes 200

For each generated cluster: nodes come and go, prices change, pods start, stop, use more than they asked for and overfill
their nodes. The bill is divided by the month, by days of the zone (one of 23 or 25 hours) and by hours. Printed: the
largest difference between workload + idle + overhead and node price x time in dollars, between days, hours and the month,
the smallest idle part, and the time and memory it took.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from bench.support import report
from clusters.analysis.allocation import UNITS_PER_DOLLAR, Allocation, NodeSpan, PodSpan, Share, allocate, split_at_days
from clusters.analysis.facts import GIB, Resources

MONTHS = (
    ("Europe/Berlin", 2026, 3),
    ("Europe/Berlin", 2026, 10),
    ("America/New_York", 2026, 11),
    ("Australia/Sydney", 2026, 4),
)


def make_bill(rng: random.Random, start: datetime, end: datetime, nodes: int) -> tuple[list[NodeSpan], list[PodSpan]]:
    """A month of one cluster."""
    spans, pods = [], []
    seconds = int((end - start).total_seconds())
    for n in range(nodes):
        name, cores = f"node-{n}", rng.choice((2, 4, 8, 16))
        capacity = Resources(cores * 1000, cores * rng.choice((2, 4, 8)) * GIB)
        allocatable = Resources(capacity.cpu_milli - 70, capacity.memory_bytes - GIB // 2)
        born = start if rng.random() < 0.6 else start + timedelta(seconds=rng.randrange(seconds))
        died = end if rng.random() < 0.7 else born + timedelta(seconds=rng.randrange(seconds))
        at, price = born, Decimal(rng.randrange(10_000, 3_000_000)) / 10**6
        while at < min(died, end):
            stop = min(died, end, at + timedelta(seconds=rng.randrange(3600, seconds)))
            spans.append(NodeSpan(name, at, stop, price, capacity, allocatable))
            at, price = stop, price + Decimal(rng.randrange(-900, 900)) / 10**6
        for p in range(rng.randrange(2, 14)):
            begin = start + timedelta(seconds=rng.randrange(-3600, seconds))
            length = timedelta(seconds=rng.randrange(60, seconds))
            held = Resources(rng.randrange(0, cores * 300), rng.randrange(0, cores * GIB))
            pods.append(
                PodSpan(
                    name, f"team-{p % 7}", f"team-{p % 7}/Deployment/app-{n}-{p}", begin, begin + length, held, p == 0
                )
            )
    return spans, pods


def split_at_hours(spans: Sequence[NodeSpan]) -> dict[datetime, list[NodeSpan]]:
    """Node spans cut at full hours of UTC."""
    hours: dict[datetime, list[NodeSpan]] = {}
    for span in spans:
        at, end = span.start.astimezone(UTC), span.end.astimezone(UTC)
        while at < end:
            hour = at.replace(minute=0, second=0, microsecond=0)
            stop = min(end, hour + timedelta(hours=1))
            hours.setdefault(hour, []).append(
                NodeSpan(span.node, at, stop, span.hourly_price, span.capacity, span.allocatable)
            )
            at = stop
    return hours


def difference(bill: Allocation, exact: Fraction) -> Fraction:
    """Dollars by which the three shares together miss the exact amount."""
    return abs(sum((Fraction(bill.units_of(share), UNITS_PER_DOLLAR) for share in Share), Fraction(0)) - exact)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--hours", type=int, default=4, help="clusters that are also divided hour by hour")
    options = parser.parse_args()
    rng = random.Random(11)
    worst = by_day = by_hour = Fraction(0)
    lines = node_hours = 0
    least_idle: int | None = None
    busy = 0.0
    for index in range(options.clusters):
        zone_name, year, month = MONTHS[index % len(MONTHS)]
        zone = ZoneInfo(zone_name)
        start = datetime(year, month, 1, tzinfo=zone).astimezone(UTC)
        end = datetime(year, month + 1, 1, tzinfo=zone).astimezone(UTC)
        spans, pods = make_bill(rng, start, end, options.nodes)
        seconds = [int((span.end - span.start).total_seconds()) for span in spans]
        exact = sum((Fraction(s.hourly_price) * t / 3600 for s, t in zip(spans, seconds, strict=True)), Fraction(0))
        began = time.process_time()
        bill = allocate(spans, pods)
        days = [allocate(parts, pods) for parts in split_at_days(spans, zone).values()]
        busy += time.process_time() - began
        worst = max(worst, difference(bill, exact))
        by_day = max(by_day, abs(Fraction(sum(day.units for day in days) - bill.units, UNITS_PER_DOLLAR)))
        if index < options.hours:
            hours = [allocate(parts, pods) for parts in split_at_hours(spans).values()]
            by_hour = max(by_hour, abs(Fraction(sum(hour.units for hour in hours) - bill.units, UNITS_PER_DOLLAR)))
        for part in (bill, *days):
            idle = min((line.units for line in part.lines if line.share is Share.IDLE), default=0)
            least_idle = idle if least_idle is None else min(least_idle, idle)
        lines += len(bill.lines)
        node_hours += sum(seconds) // 3600
    report(
        "cluster_sums",
        clusters=options.clusters,
        node_hours=node_hours,
        lines=lines,
        largest_difference_usd=float(worst),
        days_minus_month_usd=float(by_day),
        hours_minus_month_usd=float(by_hour),
        smallest_idle_units=least_idle,
        cpu_seconds=round(busy, 2),
        rss_mb_peak=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    )
    assert worst == by_day == by_hour == 0
    assert least_idle is not None
    assert least_idle >= 0


if __name__ == "__main__":
    main()
