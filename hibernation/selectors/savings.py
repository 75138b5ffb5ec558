"""Real savings of a month: awake around the clock at the dated price, minus what was spent; sums of intervals alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar
from zoneinfo import ZoneInfo

from core import clock
from core.actor import Actor
from costs import reporting, totals

ZERO = Decimal(0)
Key = TypeVar("Key")
MONTHS = 6


@dataclass(slots=True)
class SavedBy:
    """One resource's, team's or person's part. `spent` and `saved` add up to what awake around the clock costs."""

    name: str
    key: str = ""
    spent: Decimal = ZERO
    saved: Decimal = ZERO
    asleep_hours: Decimal = ZERO
    unpriced: int = 0

    @property
    def always(self) -> Decimal:
        return self.spent + self.saved

    @property
    def percent(self) -> int | None:
        return round(self.saved * 100 / self.always) if self.always else None


@dataclass(frozen=True, slots=True)
class MonthLink:
    key: str
    name: str
    current: bool


@dataclass(frozen=True, slots=True)
class Savings:
    """A month of real money. `causes` tell whose doing each sleep was; `first` and `last` are its local dates."""

    name: str
    first: date
    last: date
    until: datetime
    total: SavedBy
    resources: list[SavedBy]
    teams: list[SavedBy]
    people: list[SavedBy]
    causes: list[reporting.Cause]
    months: list[MonthLink] = field(default_factory=list)


def savings(*, actor: Actor, timezone: str, month: str = "") -> Savings:
    """The month `2031-06` in the organization's zone; this month when it is not named. Raises Forbidden without
    costs.view."""
    actor.require("costs.view", "see what things cost")
    zone = ZoneInfo(timezone)
    today = clock.now().astimezone(zone).date()
    first = _first(month) or today.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    start, end = _midnight(first, zone), _midnight(following, zone)
    found = totals.between(actor, start, end)
    return Savings(
        name=f"{first:%B %Y}",
        first=first,
        last=min(following - timedelta(days=1), today) if first <= today else first,
        until=min(end, clock.now()),
        total=_all(found),
        resources=_by(found.things, lambda thing: (f"{thing.kind}:{thing.id}", thing.label)),
        teams=_by(found.shares, lambda share: (share.team, share.team or "No team")),
        people=_by(found.shares, lambda share: (share.person, share.person or "Nobody named")),
        causes=_causes(found),
        months=_months(today, first),
    )


def _first(month: str) -> date | None:
    try:
        return date.fromisoformat(f"{month}-01") if month else None
    except ValueError:
        return None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(ZoneInfo("UTC"))


def _add(part: SavedBy, line: totals.Line) -> None:
    part.spent += line.spent
    part.saved += line.saved
    part.unpriced += line.unpriced
    part.asleep_hours += Decimal(line.asleep) / totals.MICRO_HOUR


def _all(found: totals.Totals) -> SavedBy:
    whole = SavedBy("Everything")
    for line in found.shares.values():
        _add(whole, line)
    return whole


def _by(lines: Mapping[Key, totals.Line], named: Callable[[Key], tuple[str, str]]) -> list[SavedBy]:
    parts: dict[str, SavedBy] = {}
    for key, line in lines.items():
        identity, name = named(key)
        _add(parts.setdefault(identity, SavedBy(name, identity)), line)
    return sorted(parts.values(), key=lambda p: (-p.saved, -p.spent, p.name))


def _causes(found: totals.Totals) -> list[reporting.Cause]:
    sums: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for share, line in found.shares.items():
        if share.phase == "asleep":
            sums[share.cause or "hand"] += line.saved
    rows = [reporting.Cause(k, reporting.CAUSES.get(k, k.capitalize()), v) for k, v in sums.items() if v]
    return sorted(rows, key=lambda c: -c.saved)


def _months(today: date, current: date) -> list[MonthLink]:
    links, month = [], today.replace(day=1)
    for _ in range(MONTHS):
        links.append(MonthLink(f"{month:%Y-%m}", f"{month:%b %Y}", month == current))
        month = (month - timedelta(days=1)).replace(day=1)
    return links
