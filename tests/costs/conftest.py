"""A machine with a known history: awake 10:00 to 14:00 and again from 16:00, asleep between, on 18 March 2026."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from core import clock
from costs import services
from tests.personas import Persona

DAY = datetime(2026, 3, 18, tzinfo=UTC)


@pytest.fixture
def at_six() -> Iterator[datetime]:
    """It is 18:00 on that day."""
    with clock.at(DAY + timedelta(hours=18)):
        yield clock.now()


def observe(persona: Persona, resource: UUID, label: str, hour: float, phase: str, **fields: object) -> None:
    at = DAY + timedelta(hours=hour)
    facts = {
        "organization_id": persona.organization.id,
        "resource_kind": "lamp",
        "resource_id": resource,
        "resource_label": label,
    }
    services.record_event(
        actor=persona.actor, **facts, phase=phase, at=at, key=f"{hour}{phase}", source="test", **fields
    )


def price(persona: Persona, resource: UUID, awake: str | None, asleep: str | None = "0", hour: float = -2000) -> None:
    facts = {
        "organization_id": persona.organization.id,
        "resource_kind": "lamp",
        "resource_id": resource,
        "resource_label": "",
    }
    services.set_price(
        actor=persona.actor,
        **facts,
        awake=Decimal(awake) if awake else None,
        asleep=Decimal(asleep) if asleep else None,
        source="list of 2026",
        valid_from=DAY + timedelta(hours=hour),
    )


@pytest.fixture
def hall(alice: Persona, at_six: datetime) -> UUID:
    """Two dollars an hour awake, ten cents asleep: spent 6 x 2.00 + 2 x 0.10, kept 2 x 1.90 by a schedule."""
    resource = uuid4()
    price(alice, resource, "2", "0.1")
    observe(alice, resource, "hall", 10, "awake")
    observe(alice, resource, "hall", 14, "asleep", cause="schedule")
    observe(alice, resource, "hall", 16, "awake", person="Olga")
    return resource
