"""What the fleet's pages show: cards, one machine, savings. Sums come from the ledger, in USD."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q

from core import clock
from core.actor import Actor
from core.errors import NotFound
from costs import ledger
from costs import selectors as costs
from costs.enums import Phase
from costs.models import Interval
from gpu_fleet.enums import (
    HIBERNATE,
    LOSER,
    MANAGE,
    OPERATE,
    RESOURCE,
    UNMEASURED_SECONDS,
    VIEW,
    WAKE,
    SnapshotState,
    provider_words,
)
from gpu_fleet.models import Beat, Machine, Rental, Snapshot
from gpu_fleet.selectors.days import DAYS, days_of, zone_of
from gpu_fleet.selectors.machines import active_operations, last_race, learned_seconds, list_machines
from gpu_fleet.selectors.standby import StandbyView, list_standbys
from operations.models import Operation
from operations.selectors import Line, line

ZERO = Decimal(0)
SHOWN = 20
MOST_BEATS = 240


@dataclass(frozen=True, slots=True)
class Gpu:
    """One bar; `load` in percent, None when it is not known."""

    number: int
    load: float | None


@dataclass(frozen=True, slots=True)
class Ring:
    """Seconds left of about `total`."""

    left: int
    total: int


@dataclass(slots=True)
class Card:
    """One machine of the fleet. Money is of today (`spent`) and of the present sleep (`saved`)."""

    machine: Machine
    place: str
    provider: str
    icon: str
    gpus: list[Gpu]
    operation: Operation | None
    ring: Ring | None
    snapshot: Snapshot | None
    spent: Decimal
    saved: Decimal | None
    seconds_to_sleep: int | None
    idle_seconds: int | None
    wake_seconds: float | None
    can_wake: bool
    can_sleep: bool
    can_keep: bool
    standby: StandbyView | None = None


@dataclass(slots=True)
class Fleet:
    """The whole page."""

    cards: list[Card]
    awake: int
    burn: Decimal
    unpriced: int
    saved: Decimal
    spent: Decimal
    race: Race | None
    states: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class LaneLine:
    """One offer of a race with how far it came, 0 to 4."""

    rental: Rental
    steps: int
    word: str
    icon: str
    css: str


@dataclass(slots=True)
class Race:
    """A machine's race by rounds; `cost` is what its losers cost so far, as the ledger says."""

    machine: Machine
    rounds: list[tuple[int, list[LaneLine]]]
    running: bool
    tried: int
    gone: int
    cost: Decimal


def get_fleet(*, actor: Actor, search: str = "", state: str = "") -> Fleet:
    """Every living machine as a card, and the race that runs now, if one does."""
    actor.require(VIEW, "see GPU machines")
    rows = list_machines(actor=actor)
    ids = [row.id for row in rows]
    active = active_operations(ids)
    states: dict[str, int] = defaultdict(int)
    for row in rows:
        states[row.observed_state] += 1
    month = _sums(actor)
    cards = _cards(actor, rows, active)
    awake = [card for card in cards if card.machine.rental_id and card.machine.provider_state != "stopped"]
    spares = [card.standby for card in cards if card.standby is not None and card.standby.hourly is not None]
    racing = next((r for r in rows if r.id in active and active[r.id].kind == WAKE and r.rental_id is None), None)
    needle = search.strip().lower()
    shown = [c for c in cards if (not state or c.machine.observed_state == state) and needle in _haystack(c)]
    return Fleet(
        cards=shown,
        awake=len(awake),
        burn=sum((c.machine.hourly_cost for c in awake if c.machine.hourly_cost is not None), ZERO)
        + sum((s.hourly for s in spares if s.hourly is not None), ZERO),
        unpriced=sum(c.machine.hourly_cost is None for c in awake),
        saved=month.saved,
        spent=month.spent,
        race=get_race(actor=actor, machine=racing) if racing else None,
        states=dict(states),
    )


def _haystack(card: Card) -> str:
    return f"{card.machine.name} {card.place} {card.provider} {card.machine.observed_state}".lower()


def _sums(actor: Actor) -> costs.Sums:
    start, now = days_of(actor)[0][0], clock.now()
    rows = costs.intervals_between(actor, start, now).filter(Q(resource_kind__in=[RESOURCE, LOSER]))
    return costs.sum_intervals(rows, start, now)


def _cards(actor: Actor, rows: Sequence[Machine], active: dict[UUID, Operation]) -> list[Card]:
    ids = [row.id for row in rows]
    day = days_of(actor)[-1][0]
    snapshots: dict[UUID, Snapshot] = {}
    shown = Snapshot.objects.visible_to(actor).filter(machine_id__in=ids)
    for snapshot in shown.filter(state__in=[SnapshotState.VERIFIED, SnapshotState.WRITING]).order_by("created_at"):
        snapshots[snapshot.machine_id] = snapshot
    money: dict[UUID, list[Interval]] = defaultdict(list)
    mine = Interval.objects.visible_to(actor).filter(resource_kind=RESOURCE, resource_id__in=ids)
    for interval in mine.filter(Q(ended_at=None) | Q(ended_at__gt=day)):
        money[interval.resource_id].append(interval)
    learned = learned_seconds(WAKE, {_subject(row) for row in rows})
    standbys = {view.row.machine_id: view for view in list_standbys(actor=actor, machine_ids=ids)}
    cards = [
        _card(actor, row, active.get(row.id), snapshots.get(row.id), money[row.id], learned.get(_subject(row)), day)
        for row in rows
    ]
    for card in cards:
        card.standby = standbys.get(card.machine.id)
        if card.standby is not None and card.standby.can_fail_back:
            card.can_wake = card.can_sleep = False  # the standby serves: it is brought back, not woken
    return cards


def _subject(row: Machine) -> str:
    return f"{row.provider}/{row.wanted.get('gpu_name') or 'any'}"[:120]


def _card(
    actor: Actor,
    row: Machine,
    operation: Operation | None,
    snapshot: Snapshot | None,
    money: Sequence[Interval],
    wake_seconds: float | None,
    day: datetime,
) -> Card:
    now = clock.now()
    words = provider_words(row.provider)
    spent = sum(
        (ledger.amount(i.price, *part) for i in money if (part := ledger.overlap(i.started_at, i.ended_at, day, now))),
        ZERO,
    )
    asleep = [i for i in money if i.ended_at is None and i.phase == Phase.ASLEEP and i.awake_price is not None]
    saved = (
        sum(
            (
                ledger.amount(i.awake_price, i.started_at, now) - ledger.amount(i.price, i.started_at, now)
                for i in asleep
            ),
            ZERO,
        )
        if asleep
        else None
    )
    free = operation is None and actor.can(OPERATE)
    return Card(
        machine=row,
        place=place_of(row),
        provider=words.label,
        icon=words.icon,
        gpus=gpus_of(row),
        operation=operation,
        ring=ring_of(operation),
        snapshot=snapshot,
        spent=spent,
        saved=saved,
        seconds_to_sleep=_left(row.sleep_at, now) if row.verdict in ("counting", "idle", "kept") else None,
        idle_seconds=round((now - row.idle_since).total_seconds())
        if row.idle_since and row.verdict != "busy"
        else None,
        wake_seconds=wake_seconds,
        can_wake=free and not row.account.is_sandbox and (row.rental_id is None or row.provider_state == "stopped"),
        can_sleep=free and row.rental_id is not None and row.restored and row.provider_state != "stopped",
        can_keep=actor.can(OPERATE) and row.rental_id is not None,
    )


def place_of(row: Machine) -> str:
    """What it runs on, or what it wants: "2 x RTX 4090, Porto"."""
    rental = row.rental
    if rental is None:
        wanted = row.wanted.get("gpu_name") or "Any machine that fits"
        return str(wanted)
    gpu = f"{rental.gpu_count} × {rental.gpu_name}" if rental.gpu_count else rental.gpu_name
    return ", ".join(part for part in (gpu, rental.location) if part)


def gpus_of(row: Machine) -> list[Gpu]:
    """The bars of the last heartbeat."""
    metrics = row.told.get("gpu_metrics")
    loads = metrics.get("gpu_utilizations") if isinstance(metrics, dict) else None
    if not isinstance(loads, list):
        return []
    return [Gpu(n, float(v) if isinstance(v, int | float) else None) for n, v in enumerate(loads[:16])]


def _left(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else max(0, round((moment - now).total_seconds()))


def ring_of(operation: Operation | None) -> Ring | None:
    """The countdown of an operation; sixty seconds when nothing was measured."""
    if operation is None:
        return None
    total = round(operation.expected_seconds or UNMEASURED_SECONDS)
    left = operation.seconds_left
    since = operation.started_at or operation.created_at
    return Ring(left if left is not None else max(0, round(total - (clock.now() - since).total_seconds())), total)


_STEPS = {"intended": 1, "created": 2, "running": 3, "ready": 4, "won": 4}


def get_race(*, actor: Actor, machine: Machine) -> Race | None:
    """The machine's newest race."""
    rows = last_race(machine=machine)
    if not rows:
        return None
    rounds: dict[int, list[LaneLine]] = defaultdict(list)
    for row in rows:
        rounds[row.round].append(_lane(row))
    now = clock.now()
    lost = Interval.objects.visible_to(actor).filter(resource_kind=LOSER, resource_id__in=[row.id for row in rows])
    cost = sum((ledger.amount(i.price, i.started_at, i.ended_at or now) for i in lost), ZERO)
    return Race(
        machine=machine,
        rounds=sorted(rounds.items()),
        running=not any(row.lane == "won" for row in rows) and any(row.lane in _STEPS for row in rows),
        tried=len(rows),
        gone=sum(row.lane in ("gone", "never") for row in rows),
        cost=cost,
    )


def _lane(row: Rental) -> LaneLine:
    if row.outcome == "Won":
        took = (row.ready_at - row.intended_at).total_seconds() if row.ready_at else 0
        return LaneLine(row, 4, f"Won in {took:.0f} s", "trophy", "lane--win")
    reached = 3 if row.running_at else 2 if row.created_at else 1
    if row.lane == "closing":
        return LaneLine(row, reached, "Being destroyed", "loader", "lane--out")
    if row.lane in ("gone", "never"):
        return LaneLine(row, reached, row.outcome or "Destroyed", "trash" if row.provider_id else "x", "lane--out")
    return LaneLine(row, _STEPS[row.lane], row.progress or row.get_lane_display(), "loader", "lane--run")


@dataclass(slots=True)
class MachinePage:
    """Everything on one machine's page."""

    card: Card
    race: Race | None
    beats: list[Beat]
    snapshots: list[Snapshot]
    history: list[Line]
    intervals: list[Any]
    spent: Decimal
    saved: Decimal
    awake_hours: Decimal
    asleep_hours: Decimal
    unpriced: int
    can_manage: bool
    can_operate: bool


def get_machine_page(*, actor: Actor, machine_id: UUID) -> MachinePage:
    """The page of one machine, also of one that is gone; NotFound for another organization's."""
    actor.require(VIEW, "see GPU machines")
    row = Machine.objects.visible_to(actor).select_related("account", "rental").filter(id=machine_id).first()
    if row is None:
        raise NotFound("There is no such machine.")
    (card,) = _cards(actor, [row], active_operations([row.id]))
    start, now = days_of(actor)[0][0], clock.now()
    mine = Interval.objects.visible_to(actor).filter(resource_kind=RESOURCE, resource_id=row.id)
    month = [i for i in mine.order_by("-started_at") if i.ended_at is None or i.ended_at > start]
    sums = costs.sum_intervals(month, start, now)
    beats = Beat.objects.for_org(row.organization_id).filter(machine=row, at__gt=now - timedelta(hours=2))
    snapshots = Snapshot.objects.visible_to(actor).filter(machine=row).exclude(state=SnapshotState.DELETED)
    history = Operation.objects.visible_to(actor).filter(resource_kind=RESOURCE, resource_id=row.id)
    return MachinePage(
        card=card,
        race=get_race(actor=actor, machine=row),
        beats=list(beats.order_by("-at")[:MOST_BEATS])[::-1],
        snapshots=list(snapshots.order_by("-created_at")[:SHOWN]),
        history=[line(o) for o in history.order_by("-created_at")[:SHOWN]],
        intervals=[
            (i, ledger.amount(i.price, i.started_at, i.ended_at or now) if i.price is not None else None)
            for i in month[:SHOWN]
        ],
        spent=sums.spent,
        saved=sums.saved,
        awake_hours=sums.awake_hours,
        asleep_hours=sums.asleep_hours,
        unpriced=sums.unpriced,
        can_manage=actor.can(MANAGE),
        can_operate=actor.can(OPERATE),
    )


@dataclass(slots=True)
class Savings:
    """Real money by local day and by machine, of the last thirty days."""

    days: list[tuple[date, Decimal, Decimal]]
    by_machine: list[tuple[str, Decimal, Decimal]]
    spent: Decimal
    saved: Decimal
    lost_races: Decimal
    unpriced: int
    sleeps: int


def get_savings(*, actor: Actor, days: int = DAYS) -> Savings:
    """From the ledger's intervals alone; what has no price is counted apart."""
    actor.require(VIEW, "see savings")
    bounds, now = days_of(actor, days), clock.now()
    start = bounds[0][0]
    rows = list(costs.intervals_between(actor, start, now).filter(resource_kind__in=[RESOURCE, LOSER]))
    whole = costs.sum_intervals(rows, start, now)
    per_day = []
    zone = zone_of(actor)
    for left, right in bounds:
        sums = costs.sum_intervals(rows, left, min(now, right))
        per_day.append((left.astimezone(zone).date(), sums.spent, sums.saved))
    names: dict[str, list[Interval]] = defaultdict(list)
    for row in rows:
        if row.resource_kind == RESOURCE:
            names[row.resource_label].append(row)
    machines = [(name, *_pair(costs.sum_intervals(mine, start, now))) for name, mine in names.items()]
    lost = costs.sum_intervals([row for row in rows if row.resource_kind == LOSER], start, now)
    return Savings(
        days=per_day,
        by_machine=sorted(machines, key=lambda row: -row[2]),
        spent=whole.spent,
        saved=whole.saved,
        lost_races=lost.spent,
        unpriced=whole.unpriced,
        sleeps=sum(row.phase == Phase.ASLEEP for row in rows),
    )


def _pair(sums: costs.Sums) -> tuple[Decimal, Decimal]:
    return sums.spent, sums.saved


def hibernation_events(*, actor: Actor) -> list[Operation]:
    """Hibernations and wakes that have ended, newest first, at most two hundred."""
    actor.require(VIEW, "see hibernations")
    rows = Operation.objects.visible_to(actor).filter(resource_kind=RESOURCE, kind__in=[WAKE, HIBERNATE])
    return list(rows.exclude(finished_at=None).order_by("-finished_at")[:200])
