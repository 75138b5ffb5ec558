"""One follower at an instant: which period it is in, and whether an order is due. No question to the database.

Within a period an order is given until the resource was seen as wanted; after that it belongs to whoever changes it,
until the next period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from core.sleepable import SleepState, Standing
from hibernation import schedule as engine
from hibernation.enums import Wanted
from hibernation.models import Override, Schedule, with_orders
from operations.enums import Status

MOST_TRIES = 3
TRY_WINDOW = timedelta(hours=1)
PAUSES = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=5))
BUSY_PAUSE = timedelta(seconds=30)
LOOK_AHEAD = 64
NO_EFFECT = "Tried three times this hour without effect."
_REACHED: dict[str, SleepState] = {"awake": SleepState.AWAKE, "asleep": SleepState.ASLEEP}
_NOT_OURS = (SleepState.UNMANAGED, SleepState.LOST)
_UNDER_WAY = (SleepState.WAKING, SleepState.FALLING)


@dataclass(slots=True)
class Row:
    """An assignment as the tick reads and writes it; the fields are the model's."""

    id: UUID
    organization_id: UUID
    schedule_id: UUID
    resource_kind: str
    resource_id: UUID
    revision: int
    wanted: str
    period: int
    period_at: datetime | None
    changes_at: datetime | None
    settled: bool
    yielded: bool
    attempt: int
    tries: int
    first_try_at: datetime | None
    retry_at: datetime | None
    operation_id: UUID | None
    trouble: str
    warned_for: datetime | None
    seen_revision: int

    def state(self) -> tuple[Any, ...]:
        return (
            self.wanted,
            self.period,
            self.period_at,
            self.changes_at,
            self.settled,
            self.yielded,
            self.attempt,
            self.tries,
            self.first_try_at,
            self.retry_at,
            self.operation_id,
            self.trouble,
            self.warned_for,
            self.seen_revision,
        )


COLUMNS = tuple(f.name for f in fields(Row))
STATE = COLUMNS[6:]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a schedule wants now, why, and when that changes."""

    wanted: str
    cause: engine.Cause
    changes_at: datetime | None


class Wishes:
    """What every follower's schedule wants at `now`; answered once for all that differ in nothing."""

    def __init__(self, now: datetime, orders: dict[tuple[str, UUID], list[Override]]) -> None:
        self.now = now
        self.orders = orders
        self.schedules: dict[UUID, engine.Schedule] = {}
        self._known: dict[tuple[UUID, float | None], Wish] = {}

    def orders_of(self, row: Row) -> list[Override]:
        return self.orders.get((row.resource_kind, row.resource_id), [])

    def add(self, schedule: Schedule) -> None:
        """Let `of` answer for its followers. Raises InvalidSchedule for a row that was damaged."""
        self.schedules[schedule.id] = schedule.plan()

    def of(self, row: Row, wake_seconds: float | None) -> Wish:
        key = (row.schedule_id, wake_seconds)
        alone = not self.orders_of(row)
        if alone and key in self._known:
            return self._known[key]
        plan = with_orders(self.schedules[row.schedule_id], self.orders_of(row), wake_seconds)
        state = plan.desired_at(self.now)
        idle = state.cause.kind is engine.CauseKind.OFF
        wanted = Wanted.NOTHING if idle else Wanted.AWAKE if state.on else Wanted.ASLEEP
        wish = Wish(wanted.value, state.cause, next_switch(plan, self.now))
        if alone:
            self._known[key] = wish
        return wish


def next_switch(plan: engine.Schedule, now: datetime) -> datetime | None:
    """When it is next switched on or off: pre-warm to awake is none. None when nothing in sight changes."""
    on = plan.desired_at(now).on
    ahead = plan.next_transitions(now, 3)
    if len(ahead) == 3 and all(change.state.on == on for change in ahead):
        ahead = plan.next_transitions(now, LOOK_AHEAD)
    switch = next((change.at for change in ahead if change.state.on != on), None)
    return switch or (ahead[-1].at if len(ahead) == LOOK_AHEAD else None)


def needs_wish(row: Row, orders: Sequence[Override], now: datetime) -> bool:
    """Whether the period must be worked out anew."""
    if row.period_at is None or row.revision != row.seen_revision:
        return True
    return now >= row.changes_at if row.changes_at is not None else bool(orders)


def enter_period(row: Row, wish: Wish, now: datetime) -> None:
    """Bring `wanted`, `period` and `changes_at` up to now; a new period begins unsettled."""
    passed = row.changes_at is not None and now >= row.changes_at
    ended = row.changes_at
    row.changes_at, row.seen_revision = wish.changes_at, row.revision
    if row.period_at is None or passed or wish.wanted != row.wanted:
        row.wanted, row.period_at = wish.wanted, now
        row.period += 1
        row.settled = row.yielded = False
        row.attempt = row.tries = 0
        row.first_try_at = row.retry_at = row.operation_id = None
        row.trouble = ""
        if row.warned_for is not None and row.warned_for != ended:
            row.warned_for = None


def wants_order(row: Row, standing: Standing, ended: dict[UUID, tuple[str, str]], now: datetime) -> bool:
    """Whether an order is due now; notes what was reached, given up or changed by somebody on the way. `ended` holds
    status and words of orders that failed or were cancelled."""
    if not row.wanted or standing.busy or standing.state in _NOT_OURS:
        return False
    if standing.state == _REACHED[row.wanted]:
        row.settled, row.yielded, row.trouble, row.tries = True, False, "", 0
        return False
    if standing.state in _UNDER_WAY:
        return False
    if row.settled:
        row.yielded = True
        return False
    if standing.protection:
        row.trouble = f"Curfew may not switch it: it {standing.protection}."[:500]
        return False
    status, words = ended.get(row.operation_id, ("", "")) if row.operation_id else ("", "")
    if status == Status.CANCELLED:
        row.settled = row.yielded = True
        return False
    if status:
        row.trouble = words[:500]
    if row.first_try_at is not None and now - row.first_try_at >= TRY_WINDOW:
        row.tries, row.first_try_at = 0, None
    if row.tries >= MOST_TRIES:
        row.trouble = row.trouble or NO_EFFECT
        return False
    return row.retry_at is None or now >= row.retry_at


def tried(row: Row, now: datetime) -> None:
    """An order was given, or refused."""
    row.retry_at = now + PAUSES[min(row.tries, len(PAUSES) - 1)]
    row.first_try_at = row.first_try_at or now
    row.tries += 1
    row.attempt += 1
