"""What follows from what a provider says: what is billed, and which of the eight words is shown. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cloudnodes.enums import START, ErrorOn, Power, Scales
from core.sleepable import SleepState
from costs.enums import Phase

_I = Power
UP: frozenset[str] = frozenset({_I.RUNNING, _I.STARTING})
DOWN: frozenset[str] = frozenset({_I.STOPPED, _I.STOPPING, _I.STOPPED_BILLING})

# States in which compute is charged. EC2: only `running`. Azure: everything but deallocated. Cloud Run with a manual
# count and a local container: from the order to start until they are really down.
BILLED: Mapping[str, frozenset[str]] = {
    "aws": frozenset({_I.RUNNING}),
    "azure": frozenset({_I.STARTING, _I.RUNNING, _I.STOPPING, _I.STOPPED_BILLING}),
    "gcp": frozenset({_I.STARTING, _I.RUNNING, _I.STOPPING}),
    "docker": frozenset({_I.STARTING, _I.RUNNING, _I.STOPPING}),
}
# EC2 charges sixty seconds for each start, however short.
MINIMUM: Mapping[str, timedelta] = {"aws": timedelta(seconds=60)}
_BILLED_ELSEWHERE = frozenset({_I.STARTING, _I.RUNNING, _I.STOPPING, _I.STOPPED_BILLING})

# A node that goes missing once may be a provider's hiccup; it is gone when a later look misses it again.
GONE_AFTER = timedelta(seconds=10)
# Reversals of our own orders within this time, from outside, make a node contested.
CONTEST_WINDOW = timedelta(minutes=15)
CONTEST_REVERSALS = 2
NOT_READY = "not_ready"


def phase_of(provider: str, state: str, scaling: str) -> Phase | None:
    """What a provider's state means for the ledger; None when it proves nothing."""
    if state == _I.UNKNOWN:
        return None
    if scaling == Scales.TO_ZERO or state == _I.GONE:
        return Phase.GONE
    return Phase.AWAKE if state in BILLED.get(provider, _BILLED_ELSEWHERE) else Phase.ASLEEP


def billed_until(provider: str, phase: str, since: datetime, at: datetime) -> datetime:
    """Until when what a node was in is charged, when it left it at `at`: never less than the provider's minimum."""
    least = MINIMUM.get(provider)
    return max(at, since + least) if least is not None and phase == Phase.AWAKE else max(at, since)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that decides which word is shown for a node."""

    provider_state: str
    scaling: str = Scales.MANUAL.value
    managed: bool = True
    missing: bool = False
    unread: bool = False
    operation: str = ""
    error_on: str = ""
    reversals: int = 0
    reversed_at: datetime | None = None


def state_of(facts: Facts, now: datetime) -> SleepState:
    """The word of the interface. Asleep on purpose is never Lost, and Lost is never Asleep."""
    if facts.operation:
        return SleepState.WAKING if facts.operation == START else SleepState.FALLING
    if facts.missing:
        return SleepState.LOST
    if facts.scaling == Scales.TO_ZERO or not facts.managed:
        return SleepState.UNMANAGED
    if facts.provider_state == _I.STOPPED_BILLING or facts.error_on:
        return SleepState.TROUBLE
    if facts.provider_state == _I.STOPPED:
        return SleepState.CONTESTED if _contested(facts, now) else SleepState.ASLEEP
    if facts.unread or facts.provider_state not in UP | DOWN:
        return SleepState.LOST
    if _contested(facts, now):
        return SleepState.CONTESTED
    if facts.provider_state == _I.RUNNING:
        return SleepState.AWAKE
    return SleepState.WAKING if facts.provider_state == _I.STARTING else SleepState.FALLING


def _contested(facts: Facts, now: datetime) -> bool:
    return (
        facts.reversals >= CONTEST_REVERSALS
        and facts.reversed_at is not None
        and now - facts.reversed_at < CONTEST_WINDOW
    )


def error_is_over(error_on: str, error_code: str, state: str) -> bool:
    """Whether what an order failed to reach has come about after all."""
    if error_on == ErrorOn.START:
        return state == _I.RUNNING and error_code != NOT_READY
    return error_on == ErrorOn.STOP and state in (_I.STOPPED, _I.GONE)


def protections(scaling: str, *, managed: bool) -> tuple[str, ...]:
    """Why Curfew would refuse to switch a node, in words; none for an ordinary one."""
    found = []
    if scaling == Scales.TO_ZERO:
        found.append("scales to zero by itself")
    if not managed:
        found.append("no longer carries Curfew's tag")
    return tuple(found)
