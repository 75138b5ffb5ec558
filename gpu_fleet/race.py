"""The multi-start race: who is asked, who has won, when a round is over. Pure: no Django, no provider, no clock.

Several offers are rented at once; the first that runs, lets us log in and whose agent is heard wins. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from gpu_fleet.providers.base import Offer


class Stage(StrEnum):
    """How far a lane has come. OUT lanes are to be destroyed, or never existed."""

    INTENDED = "intended"
    ORDERED = "ordered"
    CREATED = "created"
    RUNNING = "running"
    READY = "ready"
    OUT = "out"


class Strategy(StrEnum):
    """RACE takes five at once; CHEAPEST one after the other by price; RELIABLE two at once, best hosts first."""

    RACE = "race"
    CHEAPEST = "cheapest"
    RELIABLE = "reliable"


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of a race. A round lasts `round_seconds`, longer while a lane moves, never beyond `longest_seconds`."""

    batch: int = 5
    rounds: int = 3
    round_seconds: float = 90.0
    quiet_seconds: float = 30.0
    longest_seconds: float = 420.0


RULES = {
    Strategy.RACE: Rules(),
    Strategy.CHEAPEST: Rules(batch=1, rounds=5, round_seconds=120.0),
    Strategy.RELIABLE: Rules(batch=2, rounds=4, round_seconds=120.0),
}


@dataclass(frozen=True, slots=True)
class Lane:
    """One rented offer. `moved_at` is when it last showed progress."""

    key: str
    round: int
    stage: Stage
    price: Decimal | None
    moved_at: float
    ready_at: float | None = None


@dataclass(frozen=True, slots=True)
class Won:
    """This lane wins; every other one is destroyed now."""

    key: str


@dataclass(frozen=True, slots=True)
class NextRound:
    """The present round is over: these lanes are out, the next one may open."""

    round: int
    out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again; `ends_in` is when the round would be over as things stand."""

    ends_in: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No round is left; these lanes are out."""

    out: tuple[str, ...]


Decision = Won | NextRound | Wait | GiveUp


def decide(lanes: Iterable[Lane], *, round_number: int, round_started: float, now: float, rules: Rules) -> Decision:
    """What to do now. The first ready lane wins whatever its round; of two ready at once the cheaper one."""
    all_lanes = list(lanes)
    ready = [lane for lane in all_lanes if lane.stage is Stage.READY]
    if ready:
        return Won(min(ready, key=lambda lane: (lane.ready_at or 0.0, _cost(lane.price), lane.key)).key)
    alive = [lane for lane in all_lanes if lane.stage is not Stage.OUT]
    ends = round_end(alive, round_started, rules)
    if alive and now < ends:
        return Wait(ends - now)
    out = tuple(lane.key for lane in alive)
    return NextRound(round_number + 1, out) if round_number < rules.rounds else GiveUp(out)


def round_end(alive: Sequence[Lane], started: float, rules: Rules) -> float:
    """When the round is over: its time, extended while somebody still moves, with a bound."""
    latest = max((lane.moved_at for lane in alive), default=started)
    return min(started + rules.longest_seconds, max(started + rules.round_seconds, latest + rules.quiet_seconds))


def choose(
    offers: Iterable[Offer], *, strategy: Strategy, count: int, excluded_hosts: Collection[str] = ()
) -> list[Offer]:
    """The next offers to rent: each host once, none of the excluded. An offer without a price is never taken."""
    taken: list[Offer] = []
    hosts = set(excluded_hosts)
    for offer in sorted(offers, key=lambda o: _rank(o, strategy)):
        if offer.hourly is None or offer.host_id in hosts:
            continue
        hosts.add(offer.host_id)
        taken.append(offer)
        if len(taken) == count:
            break
    return taken


def _rank(offer: Offer, strategy: Strategy) -> tuple[float, float, str]:
    price = float(_cost(offer.hourly))
    if strategy is Strategy.RELIABLE:
        return (-(offer.reliability if offer.reliability is not None else 0.0), price, offer.offer_id)
    return (price, -(offer.reliability or 0.0), offer.offer_id)


def _cost(price: Decimal | None) -> Decimal:
    return price if price is not None else Decimal("1e9")
