"""A kind of compute in memory, a clock that tests move, and schedules to follow."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from core import clock, sleepable
from core.actor import Actor
from core.errors import CurfewError
from core.sleepable import SleepableView, SleepState
from hibernation import services
from hibernation.models import Schedule
from hibernation.schedule import PRESETS
from tests.personas import Persona

MONDAY = datetime(2031, 6, 9, tzinfo=UTC)
OFFICE = PRESETS["office_hours"].grid.to_json()
KIND = "kiln"


class Time:
    """The clock of a test, starting Monday 2031-06-09 00:00 UTC."""

    def __init__(self) -> None:
        self.now = MONDAY

    def to(self, moment: datetime) -> datetime:
        self.now = moment
        return moment

    def go(self, **by: float) -> datetime:
        return self.to(self.now + timedelta(**by))


@dataclass
class Kilns:
    """Kilns switch at once unless told to `refuse`; `orders` is every order with its time, `keys` those seen."""

    kind: str = KIND
    label: str = "Kiln"
    label_plural: str = "Kilns"
    icon: str = "flame"
    operate: str = "nodes.operate"
    views: dict[UUID, SleepableView] = field(default_factory=dict)
    orders: list[tuple[datetime, str, UUID]] = field(default_factory=list)
    keys: dict[str, UUID] = field(default_factory=dict)
    refuse: CurfewError | None = None
    deaf: bool = False

    def add(self, organization_id: UUID, state: SleepState = SleepState.AWAKE, **facts: object) -> SleepableView:
        number = len(self.views) + 1
        view = SleepableView(
            KIND, uuid4(), organization_id, f"Kiln {number}", "", f"/kilns/{number}/", state, None, Decimal(2)
        )
        self.views[view.id] = replace(view, **facts)  # type: ignore[arg-type]
        return self.views[view.id]

    def put(self, view: SleepableView, state: SleepState) -> None:
        self.views[view.id] = replace(self.views[view.id], state=state)

    def state(self, view: SleepableView) -> SleepState:
        return self.views[view.id].state

    def list(self, actor: Actor, ids: Collection[UUID] | None = None) -> list[SleepableView]:
        wanted = None if ids is None else set(ids)
        return [
            v
            for v in self.views.values()
            if (actor.org_id is None or v.organization_id == actor.org_id) and (wanted is None or v.id in wanted)
        ]

    def request_sleep(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None:
        return self._order(resource_id, SleepState.ASLEEP, options)

    def request_wake(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None:
        return self._order(resource_id, SleepState.AWAKE, options)

    def _order(self, resource_id: UUID, state: SleepState, options: dict[str, object] | None) -> UUID:
        key = str((options or {}).get("idempotency_key", uuid4()))
        if key in self.keys:
            return self.keys[key]
        self.orders.append((clock.now(), state.value, resource_id))
        if self.refuse is not None:
            raise self.refuse
        self.keys[key] = uuid4()
        if not self.deaf:
            self.put(self.views[resource_id], state)
        return self.keys[key]


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    moving = Time()
    monkeypatch.setattr(clock, "now", lambda: moving.now)
    return moving


@pytest.fixture
def kilns(monkeypatch: pytest.MonkeyPatch) -> Kilns:
    kind = Kilns()
    monkeypatch.setitem(sleepable._kinds, KIND, kind)
    return kind


@pytest.fixture
def office(alice: Persona, time: Time) -> Schedule:
    """Mon to Fri 09:00 to 18:00 UTC, without pre-warm."""
    return make_schedule(alice)


def make_schedule(persona: Persona, **facts: object) -> Schedule:
    given = {"name": "Office", "zone": "UTC", "grid": OFFICE, "prewarm": False, **facts}
    return services.save_schedule(actor=persona.actor, **given)  # type: ignore[arg-type]


@pytest.fixture
def follow(alice: Persona, kilns: Kilns, office: Schedule) -> Callable[..., SleepableView]:
    """A kiln of alice's on the office schedule."""

    def make(state: SleepState = SleepState.AWAKE, **facts: object) -> SleepableView:
        view = kilns.add(alice.organization.id, state, **facts)
        services.assign(actor=alice.actor, schedule_id=office.id, resources=[(KIND, view.id)])
        return view

    return make
