"""From events to intervals. Pure Python: same events in any order, with any duplicates, give the same intervals.

An event says "from `at` on, the resource is in `phase`". Prices are dated: an interval that spans a price change is
split there, so that amount = price x hours holds exactly for each row. Money is Decimal, USD unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

HOUR = Decimal(3600)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Labels:
    """What an event tells beside the phase: the resource's name then, why, for which team and person."""

    resource: str = ""
    cause: str = ""
    team: str = ""
    person: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """`order` breaks ties at the same moment: the later observation wins."""

    at: datetime
    order: int
    phase: str
    key: str = ""
    labels: Labels = field(default=Labels(), compare=False)


@dataclass(frozen=True, slots=True)
class Price:
    """Hourly prices valid from a moment: awake, and what remains while asleep (disks, addresses). None is unknown."""

    valid_from: datetime
    awake: Decimal | None
    asleep: Decimal | None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """One interval: `price` is what it cost an hour, `awake_price` what it would have cost awake; `end` None is open."""

    start: datetime
    end: datetime | None
    phase: str
    price: Decimal | None
    awake_price: Decimal | None
    source: str = ""
    labels: Labels = field(default=Labels(), compare=False)


def hours(start: datetime, end: datetime) -> Decimal:
    """Exact hours between two moments."""
    return Decimal((end - start) // MICROSECOND) / Decimal(1_000_000) / HOUR


def amount(price: Decimal | None, start: datetime, end: datetime) -> Decimal:
    """Price per hour x time; an unknown price contributes nothing and is reported apart."""
    return Decimal(0) if price is None or end <= start else price * hours(start, end)


def spans(events: Iterable[Event], prices: Sequence[Price]) -> list[Span]:
    """Derive the intervals of one resource. Events with a repeated key count once; equal neighbours merge."""
    seen: dict[str, Event] = {}
    anonymous: list[Event] = []
    for event in events:
        if not event.key:
            anonymous.append(event)
        elif event.key not in seen or event < seen[event.key]:
            seen[event.key] = event
    ordered = sorted([*anonymous, *seen.values()])
    merged: list[Event] = []
    for event in ordered:
        if merged and merged[-1].at == event.at:
            merged.pop()
        if not merged or merged[-1].phase != event.phase:
            merged.append(event)
    dated = sorted(prices, key=lambda p: p.valid_from)
    result: list[Span] = []
    for index, event in enumerate(merged):
        if event.phase == "gone":
            continue
        end = merged[index + 1].at if index + 1 < len(merged) else None
        result.extend(priced(event.at, end, event.phase, dated, event.labels))
    return result


def priced(start: datetime, end: datetime | None, phase: str, dated: Sequence[Price], labels: Labels) -> list[Span]:
    """Cut one stretch at the price changes inside it; `dated` is sorted by `valid_from`."""
    cuts = [p.valid_from for p in dated if p.valid_from > start and (end is None or p.valid_from < end)]
    edges = [start, *cuts]
    rows = []
    for index, left in enumerate(edges):
        right = edges[index + 1] if index + 1 < len(edges) else end
        price = price_at(dated, left)
        awake = price.awake if price else None
        own = (price.awake if phase == "awake" else price.asleep) if price else None
        rows.append(Span(left, right, phase, own, awake, price.source if price else "", labels))
    return rows


def price_at(dated: Sequence[Price], moment: datetime) -> Price | None:
    """The newest price not later than the moment; None before the first: an unknown price is not a guess."""
    valid = [p for p in dated if p.valid_from <= moment]
    return valid[-1] if valid else None


def overlap(
    start: datetime, end: datetime | None, window_start: datetime, window_end: datetime
) -> tuple[datetime, datetime] | None:
    """The part of an interval inside a window; an open interval reaches the window's end."""
    left = max(start, window_start)
    right = min(end or window_end, window_end)
    return (left, right) if right > left else None
