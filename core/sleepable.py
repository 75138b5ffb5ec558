"""Sleepable: something that costs money while it is awake. The one protocol that schedules, overrides, bulk
actions, the ledger and the home page are written against.

Each app that owns a kind of compute registers one `SleepableKind` in its `AppConfig.ready()`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from core.actor import Actor
from core.errors import NotFound


class SleepState(StrEnum):
    """The eight words of the interface."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    WAKING = "waking"
    FALLING = "falling"
    CONTESTED = "contested"
    TROUBLE = "trouble"
    LOST = "lost"
    UNMANAGED = "unmanaged"


@dataclass(frozen=True, slots=True)
class SleepableView:
    """What anybody above needs to know of one sleepable; `hourly_cost` is USD per hour awake, None when unknown."""

    kind: str
    id: UUID
    organization_id: UUID
    name: str
    detail: str
    url: str
    state: SleepState
    since: datetime | None
    hourly_cost: Decimal | None
    tags: dict[str, str] = field(default_factory=dict)
    protections: tuple[str, ...] = ()
    wake_seconds: float | None = None
    owner: str = ""
    cause: str = ""
    operation_id: UUID | None = None
    asleep_hourly_cost: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Standing:
    """The few facts of a sleepable that the schedules' tick compares, read for thousands at once. `busy`: an operation
    is under way; `protection`: why Curfew may not switch it, "" when it may."""

    id: UUID
    organization_id: UUID
    state: SleepState
    busy: bool
    wake_seconds: float | None = None
    protection: str = ""


class SleepableKind(Protocol):
    """One kind of compute. `request_*` create an Operation (its id is returned) and never call a cloud themselves;
    when an operation in the same direction is already active they return its id. A kind of which there may be
    thousands also has `standings(actor, ids)`; without it `standings()` below reads whole views."""

    kind: str
    label: str
    label_plural: str
    icon: str
    operate: str  # the permission that its orders ask for

    def list(self, actor: Actor, ids: Collection[UUID] | None = None) -> Sequence[SleepableView]: ...

    def request_sleep(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None: ...

    def request_wake(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None: ...


_kinds: dict[str, SleepableKind] = {}


def register(kind: SleepableKind) -> None:
    _kinds[kind.kind] = kind


def kinds() -> list[SleepableKind]:
    return list(_kinds.values())


def kind_named(name: str) -> SleepableKind:
    try:
        return _kinds[name]
    except KeyError:
        raise NotFound(f"There is no kind of compute called {name!r}.") from None


def standings(kind: SleepableKind, actor: Actor, ids: Collection[UUID]) -> Sequence[Standing]:
    """How sleepables of one kind stand now; those that are gone are left out."""
    narrow: Callable[[Actor, Collection[UUID]], Sequence[Standing]] | None = getattr(kind, "standings", None)
    if narrow is not None:
        return narrow(actor, ids)
    return [
        Standing(
            v.id,
            v.organization_id,
            v.state,
            v.operation_id is not None,
            v.wake_seconds,
            v.protections[0] if v.protections else "",
        )
        for v in kind.list(actor, ids)
    ]


def list_all(actor: Actor) -> list[SleepableView]:
    """Everything that can sleep, of every kind, that the actor may see."""
    return [view for kind in _kinds.values() for view in kind.list(actor)]


def get(actor: Actor, kind: str, resource_id: UUID) -> SleepableView:
    """One sleepable; NotFound also when it is another organization's."""
    for view in kind_named(kind).list(actor, [resource_id]):
        return view
    raise NotFound


def idle_since(actor: Actor, kind: str, ids: Collection[UUID]) -> dict[UUID, datetime]:
    """Since when each of the resources is known to be idle. What is busy, or of which nothing certain is known, is left
    out: a kind that has no method `idle_since(actor, ids)` knows nothing, so all of it counts as busy.
    """
    ask = getattr(kind_named(kind), "idle_since", None)
    return dict(ask(actor, ids)) if ask else {}
