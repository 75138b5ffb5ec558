"""A kind of compute made of plain rows, so that the pages are tested without any cloud."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from core import clock, sleepable
from core.actor import Actor
from core.sleepable import SleepableView, SleepState
from costs import services as costs
from tests.personas import Persona


class Lamps:
    """A registered kind: lamps that are awake or asleep."""

    kind = "lamp"
    label = "Lamp"
    label_plural = "Lamps"
    icon = "bulb"
    operate = "nodes.operate"

    def __init__(self) -> None:
        self.rows: dict[UUID, SleepableView] = {}
        self.asked: list[tuple[str, UUID, str, dict]] = []

    def add(
        self, persona: Persona, name: str, state: str = "awake", cost: str | None = "1.50", **fields: object
    ) -> SleepableView:
        view = SleepableView(
            kind=self.kind,
            id=uuid4(),
            organization_id=persona.organization.id,
            name=name,
            detail="a bulb",
            url=f"/lamps/{name}",
            state=SleepState(state),
            since=clock.now() - timedelta(hours=1),
            hourly_cost=Decimal(cost) if cost else None,
        )
        self.rows[view.id] = replace(view, **fields)
        return self.rows[view.id]

    def list(self, actor: Actor, ids: Collection[UUID] | None = None) -> Sequence[SleepableView]:
        return [v for v in self.rows.values() if v.organization_id == actor.org_id and (ids is None or v.id in ids)]

    def request_sleep(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None:
        actor.require("nodes.operate", "put lamps to sleep")
        self.asked.append(("sleep", resource_id, reason, options or {}))
        return uuid4() if self.rows[resource_id].state == SleepState.AWAKE else None

    def request_wake(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None:
        actor.require("nodes.operate", "wake lamps")
        self.asked.append(("wake", resource_id, reason, options or {}))
        return uuid4()


@pytest.fixture
def lamps(monkeypatch: pytest.MonkeyPatch) -> Lamps:
    """The only registered kind during the test."""
    kind = Lamps()
    monkeypatch.setattr(sleepable, "_kinds", {kind.kind: kind})
    return kind


def interval(persona: Persona, view: SleepableView, phase: str, hours_ago: float, cause: str = "") -> None:
    """ "It has been in `phase` since so many hours", as an observation of the ledger."""
    at = clock.now() - timedelta(hours=hours_ago)
    costs.set_price(
        actor=persona.actor,
        organization_id=persona.organization.id,
        resource_kind=view.kind,
        resource_id=view.id,
        resource_label=view.name,
        awake=view.hourly_cost,
        asleep=Decimal(0),
        source="test",
        valid_from=at - timedelta(days=60),
    )
    costs.record_event(
        actor=persona.actor,
        organization_id=persona.organization.id,
        resource_kind=view.kind,
        resource_id=view.id,
        resource_label=view.name,
        phase=phase,
        at=at,
        key=f"{phase}-{hours_ago}",
        source="test",
        cause=cause,
    )
