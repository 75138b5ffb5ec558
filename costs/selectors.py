"""Reads of the ledger. Every figure of money is a sum over intervals, clipped to the period asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Q

from core import clock
from core.actor import Actor
from costs import ledger, totals
from costs.enums import Phase
from costs.models import Budget, CatalogPrice, Interval

ZERO = Decimal(0)


@dataclass(slots=True)
class Sums:
    """Money of a period: `spent`, `saved` (awake around the clock minus actual), hours, and what has no price."""

    spent: Decimal = ZERO
    saved: Decimal = ZERO
    awake_hours: Decimal = ZERO
    asleep_hours: Decimal = ZERO
    intervals: int = 0
    unpriced: int = 0
    by_cause: dict[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Meter:
    """The top bar: burn rate now, spent today, DAILY SPEND."""

    burn_rate: Decimal
    spent_today: Decimal
    budget: Decimal | None
    percent: int
    currency: str
    unpriced: int


def day_bounds(timezone: str, moment: datetime | None = None) -> tuple[datetime, datetime]:
    """Start and end of the local day that holds the moment (23 or 25 hours on the days the clock changes)."""
    zone = ZoneInfo(timezone)
    local = (moment or clock.now()).astimezone(zone)
    start = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    end = (start + timedelta(days=1)).replace(fold=0)
    return start.astimezone(ZoneInfo("UTC")), end.astimezone(ZoneInfo("UTC"))


def last_days(timezone: str, count: int) -> list[tuple[datetime, datetime]]:
    """The last `count` local days with today, the oldest first."""
    days = [day_bounds(timezone)]
    while len(days) < count:
        days.insert(0, day_bounds(timezone, days[0][0] - timedelta(seconds=1)))
    return days


def intervals_between(actor: Actor, start: datetime, end: datetime) -> Any:
    """Intervals that overlap the window."""
    return (
        Interval.objects.visible_to(actor).filter(started_at__lt=end).filter(Q(ended_at=None) | Q(ended_at__gt=start))
    )


def sum_intervals(rows: Iterable[Interval], start: datetime, end: datetime) -> Sums:
    """Add up intervals clipped to [start, end); an open interval is counted up to `end`."""
    sums = Sums()
    by_cause: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for row in rows:
        part = ledger.overlap(row.started_at, row.ended_at, start, end)
        if part is None:
            continue
        sums.intervals += 1
        cost = ledger.amount(row.price, *part)
        sums.spent += cost
        if row.phase == Phase.AWAKE:
            sums.awake_hours += ledger.hours(*part)
        else:
            sums.asleep_hours += ledger.hours(*part)
        if row.price is None or row.awake_price is None:
            sums.unpriced += 1
        elif row.phase == Phase.ASLEEP:
            kept = ledger.amount(row.awake_price, *part) - cost
            sums.saved += kept
            by_cause[row.cause or "hand"] += kept
    sums.by_cause = dict(by_cause)
    return sums


def sums_between(actor: Actor, start: datetime, end: datetime) -> Sums:
    """Spend and real savings of a period; the present cuts off what has not happened yet."""
    return sums_of(totals.between(actor, start, end))


def sums_of(found: totals.Totals) -> Sums:
    """The same sums in one row."""
    sums = Sums()
    by_cause: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for share, line in found.shares.items():
        sums.spent += line.spent
        sums.saved += line.saved
        sums.awake_hours += Decimal(line.awake) / totals.MICRO_HOUR
        sums.asleep_hours += Decimal(line.asleep) / totals.MICRO_HOUR
        sums.intervals += line.intervals
        sums.unpriced += line.unpriced
        if share.phase == Phase.ASLEEP and line.intervals > line.unpriced:
            by_cause[share.cause or "hand"] += line.saved
    sums.by_cause = dict(by_cause)
    return sums


def spent_today(actor: Actor, timezone: str) -> Sums:
    """Spent and saved today, without the sums by resource."""
    return sums_of(totals.between(actor, *day_bounds(timezone), things=False))


def burn_rate(actor: Actor) -> tuple[Decimal, int]:
    """USD per hour of everything that costs money now (awake, or asleep at a remaining price), and how many have no price."""
    rows = Interval.objects.visible_to(actor).filter(ended_at=None).values_list("price", flat=True)
    prices = list(rows)
    return sum((p for p in prices if p is not None), ZERO), sum(p is None for p in prices)


def daily_budget(actor: Actor, scope: str = "organization", subject: str = "") -> Decimal | None:
    row = Budget.objects.visible_to(actor).filter(scope=scope, subject=subject, period="day").first()
    return row.amount if row else None


def meter(actor: Actor, timezone: str, currency: str) -> Meter:
    """What the top bar shows, in three queries."""
    rate, unpriced = burn_rate(actor)
    spent = spent_today(actor, timezone).spent
    budget = daily_budget(actor)
    percent = min(999, int(spent / budget * 100)) if budget else 0
    return Meter(rate, spent, budget, percent, currency, unpriced)


def list_price(
    provider: str, region: str, instance_type: str, lifecycle: str = "on_demand", on: datetime | None = None
) -> CatalogPrice | None:
    """Newest list price of a type in a region not later than `on`; None when the price book does not have it."""
    found = CatalogPrice.objects.filter(
        provider=provider, region=region, instance_type=instance_type, lifecycle=lifecycle
    )
    return found.filter(as_of__lte=(on or clock.now()).date()).order_by("-as_of").first()
