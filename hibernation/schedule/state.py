"""What the engine answers with: states, their causes, and the changes between them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class Power(StrEnum):
    """`warming`: asleep by the grid, but switched on so as to be ready at the next awake hour."""

    AWAKE = "awake"
    WARMING = "warming"
    ASLEEP = "asleep"


class CauseKind(StrEnum):
    GRID = "grid"
    HOLIDAY = "holiday"
    SPRINT = "sprint"
    CUSTOM = "custom"
    OVERRIDE = "override"
    SNOOZE = "snooze"
    PREWARM = "prewarm"
    OFF = "off"  # the schedule is switched off and holds no opinion


@dataclass(frozen=True, slots=True)
class Cause:
    """Why. `text` completes "asleep because …"; `day` is the date whose rule or paint decided; `order_id` the
    override or snooze; `until` when that order ends, or when a pre-warm must be ready."""

    kind: CauseKind
    text: str
    day: date | None = None
    order_id: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What should be at an instant."""

    power: Power
    cause: Cause

    @property
    def on(self) -> bool:
        """Whether it should be switched on (and costs money): awake or warming."""
        return self.power is not Power.ASLEEP


@dataclass(frozen=True, slots=True)
class Transition:
    """From `at` on, `state` holds; `before` held until then."""

    at: datetime
    before: Power
    state: State

    @property
    def power(self) -> Power:
        return self.state.power


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch `[start, end)` of one power."""

    start: datetime
    end: datetime
    power: Power

    @property
    def seconds(self) -> int:
        return round((self.end - self.start).total_seconds())
