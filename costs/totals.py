"""Sums of the ledger in groups: what each resource, cause, team and person spent and saved in a stretch of time.

Whole hours and days that are over come from roll-ups (`costs.rollups`), the rest from the intervals themselves. A roll-up
is a sum of intervals and nothing else; one that may be out of date is not used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from core import clock
from core.actor import Actor
from costs import ledger
from costs.enums import Phase
from costs.models import Interval

ZERO = Decimal(0)
NANO = Decimal(1_000_000_000)
MICRO_HOUR = Decimal(3_600_000_000)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Key:
    """What belongs together in a sum."""

    kind: str
    id: UUID
    label: str
    phase: str
    cause: str
    team: str
    person: str


@dataclass(slots=True)
class Line:
    """A sum of intervals that share a key: money in USD, time in microseconds, `unpriced` of the `intervals`."""

    spent: Decimal = ZERO
    saved: Decimal = ZERO
    micros: int = 0
    intervals: int = 0
    unpriced: int = 0

    def add(self, other: Line) -> None:
        self.spent += other.spent
        self.saved += other.saved
        self.micros += other.micros
        self.intervals += other.intervals
        self.unpriced += other.unpriced


@dataclass(slots=True)
class Totals:
    """Lines by key, and what of them is of interest most."""

    lines: dict[Key, Line] = field(default_factory=dict)

    @property
    def spent(self) -> Decimal:
        return sum((line.spent for line in self.lines.values()), ZERO)

    @property
    def saved(self) -> Decimal:
        return sum((line.saved for line in self.lines.values()), ZERO)

    @property
    def unpriced(self) -> int:
        return sum(line.unpriced for line in self.lines.values())

    def by(self, name: str, spent: bool = True) -> dict[Any, Decimal]:
        """Spent (or saved) by one part of the key: `team`, `person`, `id`, `cause`."""
        return self.grouped(lambda key: getattr(key, name), spent=spent)

    def grouped(self, of: Callable[[Key], Any], *, spent: bool = True) -> dict[Any, Decimal]:
        found: dict[Any, Decimal] = defaultdict(lambda: ZERO)
        for key, line in self.lines.items():
            found[of(key)] += line.spent if spent else line.saved
        return dict(found)


def of_intervals(rows: Iterable[Interval], start: datetime, end: datetime) -> dict[Key, Line]:
    """Intervals clipped to [start, end), grouped; an open one is counted up to `end`."""
    found: dict[Key, Line] = {}
    for row in rows:
        part = ledger.overlap(row.started_at, row.ended_at, start, end)
        if part is None:
            continue
        key = Key(
            row.resource_kind,
            row.resource_id,
            row.resource_label,
            row.phase,
            row.cause,
            row.team,
            row.person,
        )
        line = found.setdefault(key, Line())
        micros = (part[1] - part[0]) // MICROSECOND
        line.micros += micros
        line.intervals += 1
        if row.price is not None:
            line.spent += row.price * micros / MICRO_HOUR
        if row.price is None or row.awake_price is None:
            line.unpriced += 1
        elif row.phase == Phase.ASLEEP:
            line.saved += (row.awake_price - row.price) * micros / MICRO_HOUR
    return found


def between(actor: Actor, start: datetime, end: datetime) -> Totals:
    """Everything the actor may see from `start` to `end`; the present cuts off what has not happened yet."""
    until = min(end, clock.now())
    if until <= start:
        return Totals()
    from costs import selectors

    rows = selectors.intervals_between(actor, start, until).iterator(chunk_size=2000)
    return Totals(of_intervals(rows, start, until))
