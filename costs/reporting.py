"""What pages and the HTTP interface show of the ledger. All money comes from `selectors.sum_intervals`: one arithmetic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any, overload
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Q
from django.urls import reverse

from accounts.models import Organization
from core import clock
from core.actor import Actor
from costs import ledger, selectors, totals
from costs.enums import Phase
from costs.models import Interval

PERIODS: dict[str, str] = {
    "today": "Today",
    "yesterday": "Yesterday",
    "7d": "Last 7 days",
    "month": "This month",
    "last-month": "Last month",
    "custom": "Days of your choice",
}
CAUSES: dict[str, str] = {
    "schedule": "By schedules",
    "idle": "By idle sleep",
    "hand": "By hand",
    "budget": "By budgets",
    "outside": "Outside Curfew",
}
ZERO = Decimal(0)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of whole local days; `end` may lie in the future."""

    key: str
    label: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Filters:
    """What the ledger is asked for."""

    period: Period
    resource_kind: str = ""
    resource_id: UUID | None = None
    phase: str = ""
    cause: str = ""
    search: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One interval, clipped to the period: `spent` and `saved` are its shares of the totals, None without a price."""

    interval: Interval
    start: datetime
    end: datetime
    is_open: bool
    spent: Decimal | None
    saved: Decimal | None

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()

    @property
    def key(self) -> str:
        """The resource as the ledger's filter names it."""
        return f"{self.interval.resource_kind}:{self.interval.resource_id}"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource's part of the period."""

    kind: str
    id: UUID
    label: str
    sums: selectors.Sums

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True, slots=True)
class Cause:
    """What one cause of sleep saved."""

    key: str
    label: str
    saved: Decimal


class Rows(Sequence[Row]):
    """The rows of a report, the newest first, read only as far as they are looked at."""

    def __init__(self, rows: Any, count: int, start: datetime, until: datetime) -> None:
        self._rows, self._count, self._start, self._until = rows, count, start, until

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        return (row for i in self._rows.iterator(chunk_size=2000) if (row := _row(i, self._start, self._until)))

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        found = (
            [row for i in self._rows[at] if (row := _row(i, self._start, self._until))] if isinstance(at, slice) else []
        )
        return found if isinstance(at, slice) else self[at : at + 1][0]


@dataclass(frozen=True, slots=True)
class Report:
    """The ledger of a period. `potential` is a forecast, never part of a sum: what is open now, kept as it is until
    the period ends; None when the period is over."""

    period: Period
    until: datetime
    rows: Rows
    sums: selectors.Sums
    resources: Resources
    causes: list[Cause]
    potential: Decimal | None


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of a day: spent and kept so far; `planned` is what the rest will cost if nothing changes (Potential)."""

    start: datetime
    spent: Decimal
    kept: Decimal
    planned: Decimal


def _local(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def period_named(key: str, timezone: str, start: date | None = None, end: date | None = None) -> Period:
    """The period of that name in the organization's zone; an unknown name, or custom days the wrong way round, is today."""
    zone = ZoneInfo(timezone)
    today = clock.now().astimezone(zone).date()
    first = today.replace(day=1)
    days = {
        "today": (today, today),
        "yesterday": (today - timedelta(days=1), today - timedelta(days=1)),
        "7d": (today - timedelta(days=6), today),
        "month": (first, (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)),
        "last-month": ((first - timedelta(days=1)).replace(day=1), first - timedelta(days=1)),
    }
    if start and end and start <= end:
        days["custom"] = (start, end)
    key = key if key in days else "today"
    left, right = days[key]
    return Period(key, PERIODS[key], _local(left, zone), _local(right + timedelta(days=1), zone))


def _matching(actor: Actor, filters: Filters, until: datetime) -> Any:
    """Intervals of the period that match, the newest first."""
    rows = selectors.intervals_between(actor, filters.period.start, until)
    if filters.resource_id:
        rows = rows.filter(resource_kind=filters.resource_kind, resource_id=filters.resource_id)
    if filters.phase:
        rows = rows.filter(phase=filters.phase)
    if filters.cause:
        rows = rows.filter(phase=Phase.ASLEEP)
        rows = (
            rows.filter(Q(cause="hand") | Q(cause="")) if filters.cause == "hand" else rows.filter(cause=filters.cause)
        )
    if filters.search:
        rows = rows.filter(resource_label__icontains=filters.search)
    return rows.order_by("-started_at", "resource_label", "id")


def rows_of(actor: Actor, filters: Filters) -> Iterator[Row]:
    """The rows of a report, read bit by bit."""
    until = min(filters.period.end, clock.now())
    for interval in _matching(actor, filters, until).iterator(chunk_size=2000):
        row = _row(interval, filters.period.start, until)
        if row is not None:
            yield row


def report(*, actor: Actor, filters: Filters) -> Report:
    """The sums of the period and the rows behind them. Forbidden without costs.view.

    A whole period, or one phase of it, comes from roll-ups as far as there are some; any other filter from its intervals.
    """
    actor.require("costs.view", "see what things cost")
    now = totals.present()
    start, until = filters.period.start, min(filters.period.end, now)
    rows = _matching(actor, filters, until)
    if filters.resource_id or filters.cause or filters.search or filters.phase:
        found = totals.add_up(totals.facts_of(rows.order_by(), start, until), start, until)
    else:
        found = totals.between(actor, start, until)
    sums = selectors.sums_of(found)
    return Report(
        period=filters.period,
        until=until,
        rows=Rows(rows, sums.intervals, start, until),
        sums=sums,
        resources=Resources(found),
        causes=causes_of(sums),
        potential=_potential(rows, now, filters.period.end),
    )


class Resources(Sequence[Resource]):
    """Each resource under its newest name, the dearest first; made as far as it is looked at."""

    def __init__(self, found: totals.Totals) -> None:
        merged: dict[tuple[str, UUID], tuple[str, totals.Line]] = {}
        for (kind, resource_id, label), line in found.things.items():
            key = kind, resource_id
            merged[key] = label, _joined(merged[key][1], line) if key in merged else line
        self._all = sorted(merged.items(), key=lambda one: (-one[1][1].spent, -one[1][1].saved, one[1][0]))

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, at: int) -> Resource: ...
    @overload
    def __getitem__(self, at: slice) -> list[Resource]: ...
    def __getitem__(self, at: int | slice) -> Resource | list[Resource]:
        return [self._made(one) for one in self._all[at]] if isinstance(at, slice) else self._made(self._all[at])

    @staticmethod
    def _made(one: tuple[tuple[str, UUID], tuple[str, totals.Line]]) -> Resource:
        (kind, resource_id), (label, line) = one
        sums = selectors.Sums(
            spent=line.spent,
            saved=line.saved,
            awake_hours=Decimal(line.awake) / totals.MICRO_HOUR,
            asleep_hours=Decimal(line.asleep) / totals.MICRO_HOUR,
            intervals=line.intervals,
            unpriced=line.unpriced,
        )
        return Resource(kind, resource_id, label, sums)


def _joined(one: totals.Line, other: totals.Line) -> totals.Line:
    """Of a resource that was named otherwise before."""
    both = replace(one)
    both.join(other)
    return both


def _potential(rows: Any, now: datetime, end: datetime) -> Decimal | None:
    if end <= now:
        return None
    prices = rows.filter(ended_at=None).order_by().values_list("price", flat=True)
    rate = sum((p for p in prices if p is not None), ZERO)
    return ledger.amount(rate, now, end)


def _row(interval: Interval, start: datetime, until: datetime) -> Row | None:
    part = ledger.overlap(interval.started_at, interval.ended_at, start, until)
    if part is None:
        return None
    one = selectors.sum_intervals([interval], start, until)
    return Row(
        interval=interval,
        start=part[0],
        end=part[1],
        is_open=interval.ended_at is None or interval.ended_at > until,
        spent=None if interval.price is None else one.spent,
        saved=None if one.unpriced else one.saved,
    )


def causes_of(sums: selectors.Sums) -> list[Cause]:
    """What each cause of sleep saved, the largest first; those that saved nothing are left out."""
    rows = [Cause(key, CAUSES.get(key, key.capitalize()), saved) for key, saved in sums.by_cause.items() if saved]
    return sorted(rows, key=lambda c: -c.saved)


def hours_of_day(intervals: Sequence[Interval], start: datetime, end: datetime, now: datetime) -> list[Hour]:
    """The day in its 23, 24 or 25 hours (23.5 where the clocks change by half an hour)."""
    until = min(end, max(start, now))
    count = -(-(end - start) // HOUR)
    spent, kept = _ByHour(start, count), _ByHour(start, count)
    rate = ZERO
    for interval in intervals:
        price, awake = interval.price, interval.awake_price
        part = ledger.overlap(interval.started_at, interval.ended_at, start, until)
        if price is None:
            continue
        if interval.ended_at is None:
            rate += price
        if part is None:
            continue
        spent.add(price, *part)
        if interval.phase == Phase.ASLEEP and awake is not None:
            kept.add(awake - price, *part)
    hours = []
    for number, (one, other) in enumerate(zip(spent.sums(), kept.sums(), strict=True)):
        left = start + number * HOUR
        right = min(left + HOUR, end)
        planned = ledger.amount(rate, max(left, now), right) if right > now else ZERO
        hours.append(Hour(left, one, other, planned))
    return hours


class _ByHour:
    """Money per hour of a day, added up in one step an interval however many hours it lasts."""

    def __init__(self, start: datetime, count: int) -> None:
        self.start = start
        self.parts = [ZERO] * count  # of hours that an interval does not fill
        self.changes = [ZERO] * (count + 1)  # of the price of those that it does

    def add(self, price: Decimal, left: datetime, right: datetime) -> None:
        first = (left - self.start) // HOUR
        last = (right - self.start - timedelta.resolution) // HOUR
        if first == last:
            self.parts[first] += ledger.amount(price, left, right)
            return
        self.parts[first] += ledger.amount(price, left, self.start + (first + 1) * HOUR)
        self.parts[last] += ledger.amount(price, self.start + last * HOUR, right)
        self.changes[first + 1] += price
        self.changes[last] -= price

    def sums(self) -> list[Decimal]:
        whole = accumulate(self.changes[:-1])
        return [part + price for part, price in zip(self.parts, whole, strict=True)]


def awake_hours(
    intervals: Iterable[Interval], start: datetime, end: datetime, now: datetime
) -> dict[tuple[str, UUID], list[bool]]:
    """For each resource, in which hours of the day so far it was awake, be it for a minute."""
    count = -(-int((end - start).total_seconds()) // 3600)
    lit: dict[tuple[str, UUID], list[bool]] = defaultdict(lambda: [False] * count)
    for interval in intervals:
        part = ledger.overlap(interval.started_at, interval.ended_at, start, min(end, now))
        if interval.phase != Phase.AWAKE or part is None:
            continue
        first = int((part[0] - start).total_seconds() // 3600)
        last = int(((part[1] - start).total_seconds() - 1e-6) // 3600)
        for hour in range(first, last + 1):
            lit[interval.resource_kind, interval.resource_id][hour] = True
    return dict(lit)


def meter_facts(*, actor: Actor, organization: Organization) -> dict[str, Any]:
    """What `components/money_meter.html` shows, with the address of the intervals behind it; {} without costs.view."""
    if not actor.can("costs.view"):
        return {}
    meter = selectors.meter(actor, organization.timezone, organization.currency)
    return {**asdict(meter), "currency": "USD", "href": f"{reverse('costs:ledger')}?period=today"}
