"""A cluster's month: what it has spent by the ledger against its budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from accounts import selectors as accounts
from clusters.models import Cluster
from core import clock
from core.actor import Actor
from costs import selectors as costs

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Day:
    """One local day of the month. `left` is None for days to come, `forecast` for days gone by; today has both."""

    day: date
    ideal: Decimal
    left: Decimal | None
    forecast: Decimal | None


@dataclass(frozen=True, slots=True)
class Burndown:
    """The month in dollars. `spent` is real (from the ledger), `expected` a forecast at the present price, None without
    one. `unpriced` counts the intervals of this month whose price nobody knows."""

    budget: Decimal
    spent: Decimal
    saved: Decimal
    expected: Decimal | None
    days: tuple[Day, ...]
    unpriced: int

    @property
    def over(self) -> Decimal | None:
        """How far the month is expected to go over its budget; None when it is not."""
        return self.expected - self.budget if self.expected is not None and self.expected > self.budget else None


def month_of(zone: ZoneInfo, now: datetime) -> tuple[list[datetime], list[date]]:
    """The midnights that bound the local month's days, one more than there are days, and the days."""
    first = now.astimezone(zone).date().replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    days = [first + timedelta(days=n) for n in range((following - first).days)]
    return [datetime(d.year, d.month, d.day, tzinfo=zone) for d in [*days, following]], days


def burndown(*, actor: Actor, cluster: Cluster) -> Burndown | None:
    """The present month in the organization's zone, in two queries; None for a cluster without a budget."""
    if cluster.monthly_budget is None:
        return None
    zone, now = ZoneInfo(accounts.get_organization(actor=actor).timezone), clock.now()
    edges, days = month_of(zone, now)
    rows = list(costs.intervals_between(actor, edges[0], now).filter(resource_id=cluster.id))
    whole = costs.sum_intervals(rows, edges[0], now)
    return Burndown(
        budget=cluster.monthly_budget,
        spent=whole.spent,
        saved=whole.saved,
        expected=_expected(cluster, whole.spent, now, edges[-1]),
        days=tuple(_days(cluster, rows, edges, days, now)),
        unpriced=whole.unpriced,
    )


def _expected(cluster: Cluster, spent: Decimal, now: datetime, end: datetime) -> Decimal | None:
    if cluster.hourly_cost is None:
        return None
    return spent + cluster.hourly_cost * _hours(now, end)


def _hours(start: datetime, end: datetime) -> Decimal:
    return Decimal(str(max(0.0, (end - start).total_seconds()))) / 3600


def _days(
    cluster: Cluster, rows: Sequence[object], edges: Sequence[datetime], days: Sequence[date], now: datetime
) -> list[Day]:
    budget = cluster.monthly_budget or ZERO
    found, spent = [], ZERO
    for number, day in enumerate(days):
        start, end = edges[number], edges[number + 1]
        if start < now:
            spent += costs.sum_intervals(rows, start, min(end, now)).spent  # type: ignore[arg-type]
        left = budget - spent if start < now else None
        forecast = None
        if end > now and cluster.hourly_cost is not None:
            forecast = budget - spent - cluster.hourly_cost * _hours(now, end) if left is None else left
        found.append(Day(day, budget * (len(days) - number - 1) / len(days), left, forecast))
    return found
