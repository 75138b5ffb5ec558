"""Sums of the ledger in groups: what each resource, cause, team and person spent and saved in a stretch of time.

Days that are over come from roll-ups (`costs.rollups`), the rest from the intervals themselves. A roll-up is a sum of
intervals and nothing else; one that may be out of date is not used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from django.core.cache import cache
from django.db.models import BigIntegerField, F, Func, Q, Sum

from core import clock
from core.actor import Actor
from core.request_context import kept
from costs.enums import Phase
from costs.models import Interval, LedgerSlot, ResourceTotal, ShareTotal

ZERO = Decimal(0)
Group = TypeVar("Group")
NANO = Decimal(1_000_000_000)
MICRO_HOUR = Decimal(3_600_000_000)
MICROSECOND = timedelta(microseconds=1)
SHORT = timedelta(hours=2)
# A local day, 25 hours long where the clock is set back.
A_DAY = timedelta(hours=25)


class Share(NamedTuple):
    """To whom and to what a part of the money belongs."""

    phase: str
    cause: str
    team: str
    person: str


class Thing(NamedTuple):
    """A resource under the name that it bore."""

    kind: str
    id: UUID
    label: str


class Fact(NamedTuple):
    """What is read of an interval to add it up; moments in microseconds since 1970."""

    kind: str
    id: UUID
    label: str
    phase: str
    cause: str
    team: str
    person: str
    start: int
    end: int | None
    price: Decimal | None
    awake_price: Decimal | None


class _Whole:
    """A whole number that comes from the database as one: Django's way of making sure of it is left out."""

    output_field = BigIntegerField()

    def get_db_converters(self, connection: Any) -> list[Any]:
        return []


class WholeSum(_Whole, Sum):
    """A sum of whole numbers. PostgreSQL's own is a decimal of any length, which takes longer to read than to add."""

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template=f"({self.template})::bigint", **extra)


class Micros(_Whole, Func):
    """A moment as whole microseconds since 1970, made by the database: an object of each would take longer than the sum.
    Exact: PostgreSQL's epoch is a decimal, SQLite's text has six digits after the point or none.
    """

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "(EXTRACT(EPOCH FROM %(expressions)s) * 1000000)::bigint"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        seconds = "CAST(strftime('%%%%s', substr(%(expressions)s, 1, 19)) AS INTEGER)"
        template = f"({seconds} * 1000000 + CAST(substr(%(expressions)s, 21, 6) AS INTEGER))"
        return self.as_sql(compiler, connection, template=template, **extra)


FACTS = (
    "resource_kind",
    "resource_id",
    "resource_label",
    "phase",
    "cause",
    "team",
    "person",
    Micros("started_at"),
    Micros("ended_at"),
    "price",
    "awake_price",
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Line:
    """A sum of intervals: USD, microseconds awake and asleep. Of the `intervals`, `carried` had begun before the stretch
    did (so that neighbouring stretches can be added without counting one twice); `unpriced` and `unpriced_carried` are
    those without a price.
    """

    spent: Decimal = ZERO
    saved: Decimal = ZERO
    awake: int = 0
    asleep: int = 0
    intervals: int = 0
    carried: int = 0
    unpriced: int = 0
    unpriced_carried: int = 0

    def join(self, other: Line) -> None:
        """Add another sum of the same stretch."""
        for name in Line.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def append(self, later: Line) -> None:
        """Add the sum of a later stretch that begins where this one ends."""
        self.spent += later.spent
        self.saved += later.saved
        self.awake += later.awake
        self.asleep += later.asleep
        self.intervals += later.intervals - later.carried
        self.unpriced += later.unpriced - later.unpriced_carried


@dataclass(slots=True)
class Totals:
    """Two views of the same sums: by share and by resource."""

    shares: dict[Share, Line] = field(default_factory=dict)
    things: dict[Thing, Line] = field(default_factory=dict)

    @property
    def spent(self) -> Decimal:
        return sum((line.spent for line in self.shares.values()), ZERO)

    @property
    def saved(self) -> Decimal:
        return sum((line.saved for line in self.shares.values()), ZERO)

    def by(self, name: str) -> dict[str, Decimal]:
        """Spent by team, person, cause or phase."""
        return self.grouped(lambda share: getattr(share, name))

    def grouped(self, of: Callable[[Share], Any]) -> dict[Any, Decimal]:
        found: dict[Any, Decimal] = defaultdict(lambda: ZERO)
        for share, line in self.shares.items():
            found[of(share)] += line.spent
        return dict(found)

    def by_resource(self) -> dict[UUID, Decimal]:
        found: dict[UUID, Decimal] = defaultdict(lambda: ZERO)
        for thing, line in self.things.items():
            found[thing.id] += line.spent
        return dict(found)

    def append(self, later: Totals) -> None:
        """Add a later stretch that begins where this one ends. What a later stretch carried over counts once more only
        where an earlier one does not know it under the same name.
        """
        _append(self.shares, later.shares)
        _append(self.things, later.things)


def _append(mine: dict[Group, Line], later: Mapping[Group, Line]) -> None:
    for key, line in later.items():
        known = mine.get(key)
        if known is None:
            mine[key] = replace(line)
        else:
            known.append(line)


def add_up(rows: Iterable[Fact], start: datetime, end: datetime, *, things: bool = True) -> Totals:
    """Intervals clipped to [start, end); an open one is counted up to `end`. Without `things`, by share alone."""
    found = Totals()
    first, last = micros_of(start), micros_of(end)
    for kind, thing, label, phase, cause, team, person, began, ended, price, awake_price in rows:
        left = max(first, began)
        right = last if ended is None or ended > last else ended
        if right <= left:
            continue
        micros, carried = right - left, began < first
        unknown = price is None or awake_price is None
        asleep = phase == Phase.ASLEEP
        share = phase, cause, team, person
        lines = [found.shares.get(share) or found.shares.setdefault(Share(*share), Line())]  # type: ignore[call-overload]
        if things:
            named = kind, thing, label
            lines.append(found.things.get(named) or found.things.setdefault(Thing(*named), Line()))  # type: ignore[call-overload]
        spent = price * micros / MICRO_HOUR if price else ZERO
        saved = ZERO
        if asleep and price is not None and awake_price is not None:
            saved = (awake_price - price) * micros / MICRO_HOUR
        for line in lines:
            line.spent += spent
            line.saved += saved
            line.intervals += 1
            line.carried += carried
            if unknown:
                line.unpriced += 1
                line.unpriced_carried += carried
            if asleep:
                line.asleep += micros
            else:
                line.awake += micros
    return found


def micros_of(moment: datetime) -> int:
    """Whole microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def facts_of(rows: Any, start: datetime, end: datetime) -> Iterator[Fact]:
    """What is needed of the intervals of a query that overlap [start, end), without making objects of them."""
    found = rows.filter(started_at__lt=end).filter(Q(ended_at=None) | Q(ended_at__gt=start))
    made: Iterator[Fact] = found.values_list(*FACTS).iterator(chunk_size=5000)
    return made


def between(actor: Actor, start: datetime, end: datetime, *, things: bool = True) -> Totals:
    """Everything the actor may see from `start` to `end`; the present cuts off what has not happened yet. Without
    `things` the sums by resource are left out, which is half the work.
    """
    until = min(end, present())
    rows = Interval.objects.visible_to(actor)
    found: Totals | None = None
    for left, right, slots in cover(start, until, _slots(actor, start, until)):
        if slots:
            part = rolled(slots, things=things)
        elif right == until and right - left <= SHORT:
            part = _up_to_now(actor, rows, left, right)
        else:
            part = add_up(facts_of(rows, left, right), left, right, things=things)
        if found is None:
            found = part
        else:
            found.append(part)
    return found or Totals()


def present() -> datetime:
    """Now, which is the same moment for all figures of one page."""
    return kept("present", clock.now)


def _up_to_now(actor: Actor, rows: Any, left: datetime, right: datetime) -> Totals:
    """A short stretch that several figures of one page end with: read and added up once."""
    return kept(("sums", actor.org_id, left, right), lambda: add_up(facts_of(rows, left, right), left, right))


def spent_on(actor: Actor, days: Sequence[tuple[datetime, datetime]]) -> list[Decimal]:
    """What each of these stretches cost: those with a roll-up in two queries for all, the others one by one."""
    if not days:
        return []
    slots = _slots(actor, min(left for left, _ in days), max(right for _, right in days))
    ids = {(left, right): slot_id for slot_id, left, right in slots}
    wanted = [ids[day] for day in days if day in ids]
    sums = ShareTotal.objects.filter(slot_id__in=wanted).order_by().values_list("slot_id").annotate(Sum("spent"))
    known = {slot_id: Decimal(int(spent)) / NANO for slot_id, spent in sums}
    return [known.get(ids[day], ZERO) if day in ids else between(actor, *day, things=False).spent for day in days]


def _slots(actor: Actor, start: datetime, until: datetime) -> list[tuple[int, datetime, datetime]]:
    """Roll-ups inside the stretch that are sums of the intervals as they are now."""
    if actor.org_id is None or (until - start <= A_DAY and not cache.get(today_key(actor.org_id))):
        return []
    rows = LedgerSlot.objects.visible_to(actor).filter(built_version=F("version"), start__gte=start, end__lte=until)
    return list(rows.values_list("id", "start", "end"))


def today_key(organization_id: UUID) -> str:
    """Set in the cache while today so far has a roll-up: a hint that saves the question, never a truth."""
    return f"costs.today.{organization_id}"


Stretch = tuple[datetime, datetime, list[int]]


def cover(start: datetime, until: datetime, slots: Sequence[tuple[int, datetime, datetime]]) -> list[Stretch]:
    """Cut [start, until) into stretches that slots cover (their ids) and stretches that none covers (no ids). Pure."""
    found: list[Stretch] = []
    at = start
    for slot_id, left, right in sorted(slots, key=lambda s: (s[1], -s[2].timestamp())):
        if left < at or right > until:
            continue
        if left > at:
            found.append((at, left, []))
        if found and found[-1][2] and found[-1][1] == left:
            found[-1] = (found[-1][0], right, [*found[-1][2], slot_id])
        else:
            found.append((left, right, [slot_id]))
        at = right
    if at < until:
        found.append((at, until, []))
    return found


_SUMS = ("spent", "saved", "awake", "asleep", "intervals", "carried", "unpriced", "unpriced_carried")


def rolled(slots: list[int], *, things: bool = True) -> Totals:
    """The roll-ups of neighbouring slots, added up by the database: whole numbers, so that no digit is lost.

    The first slot's carried intervals count; of the others only what began in them.
    """
    found = Totals()
    sums = {f"sum_{name}": WholeSum(name) for name in _SUMS}
    shares = ShareTotal.objects.filter(slot_id__in=slots).values_list("phase", "cause", "team", "person")
    for row in shares.annotate(**sums):
        found.shares[Share(*row[:4])] = _line(row[4:])
    first = ShareTotal.objects.filter(slot_id=slots[0], carried__gt=0)
    for row in first.values_list("phase", "cause", "team", "person", "carried", "unpriced_carried"):
        _carry(found.shares[Share(*row[:4])], row[4], row[5])
    return _rolled_things(found, slots, sums) if things else found


def _rolled_things(found: Totals, slots: list[int], sums: dict[str, WholeSum]) -> Totals:
    rows = ResourceTotal.objects.filter(slot_id__in=slots).values_list("kind", "resource_id", "label")
    for row in rows.annotate(**sums):
        found.things[Thing(*row[:3])] = _line(row[3:])
    first = ResourceTotal.objects.filter(slot_id=slots[0], carried__gt=0)
    for row in first.values_list("kind", "resource_id", "label", "carried", "unpriced_carried"):
        _carry(found.things[Thing(*row[:3])], row[3], row[4])
    return found


def _line(sums: Sequence[int]) -> Line:
    spent, saved, awake, asleep, intervals, carried, unpriced, unpriced_carried = sums
    return Line(
        spent=Decimal(spent) / NANO,
        saved=Decimal(saved) / NANO,
        awake=awake,
        asleep=asleep,
        intervals=intervals - carried,
        unpriced=unpriced - unpriced_carried,
    )


def _carry(line: Line, carried: int, unpriced: int) -> None:
    line.intervals += carried
    line.carried = carried
    line.unpriced += unpriced
    line.unpriced_carried = unpriced
