"""The tick: what every schedule wants now against what every resource is, and an order where the two differ.

Level-triggered. Nothing is remembered of edges but the period that a resource is in, so that an outage over any number
of edges ends with one comparison. Within a period an order is given until the resource was seen as wanted; after that
it belongs to whoever changes it, until the next period.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from core import clock, sleepable
from core.actor import Actor
from core.errors import Conflict, CurfewError
from core.sleepable import SleepableView, SleepState
from hibernation import schedule as engine
from hibernation.enums import Outcome, Wanted
from hibernation.models import Assignment, Decision, Override, with_orders
from operations.enums import Status
from operations.models import Operation

log = logging.getLogger(__name__)

COMPONENT = "schedule"
MOST_TRIES = 3
TRY_WINDOW = timedelta(hours=1)
PAUSES = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=5))
BUSY_PAUSE = timedelta(seconds=30)
CHUNK = 5000
LOOK_AHEAD = 64
_STATE = (
    "wanted",
    "period_at",
    "changes_at",
    "settled",
    "yielded",
    "attempt",
    "tries",
    "first_try_at",
    "retry_at",
    "operation_id",
    "trouble",
    "seen_revision",
)
_REACHED = {Wanted.AWAKE: SleepState.AWAKE, Wanted.ASLEEP: SleepState.ASLEEP}
_NOT_OURS = (SleepState.UNMANAGED, SleepState.LOST)


@dataclass(slots=True)
class Ticked:
    """What one tick did."""

    looked_at: int = 0
    ordered: int = 0
    refused: int = 0


def tick(*, only: Collection[UUID] | None = None) -> Ticked:
    """Bring every assigned resource (or the assignments in `only`) towards what its schedule wants now.

    Asks the database a number of questions that does not grow with the assignments, up to chunks of 5,000; each order
    that is given costs its own. Idempotent: two ticks at once give one order.
    """
    now = clock.now()
    rows = Assignment.objects.all_orgs().select_related("schedule").order_by("resource_kind", "id")
    assignments = list(rows if only is None else rows.filter(id__in=only))
    done = Ticked(looked_at=len(assignments))
    if not assignments:
        return done
    overrides = _live_overrides(now)
    by_kind: dict[str, list[Assignment]] = defaultdict(list)
    for row in assignments:
        by_kind[row.resource_kind].append(row)
    for kind, members in by_kind.items():
        for start in range(0, len(members), CHUNK):
            _tick_chunk(kind, members[start : start + CHUNK], overrides, now, done)
    return done


def _live_overrides(now: datetime) -> dict[tuple[str, UUID], list[Override]]:
    found: dict[tuple[str, UUID], list[Override]] = defaultdict(list)
    for row in Override.objects.all_orgs().filter(expires_at__gt=now).order_by("made_at"):
        found[row.resource_kind, row.resource_id].append(row)
    return found


def _tick_chunk(
    kind: str,
    rows: list[Assignment],
    overrides: dict[tuple[str, UUID], list[Override]],
    now: datetime,
    done: Ticked,
) -> None:
    views = {v.id: v for v in sleepable.kind_named(kind).list(Actor.system(COMPONENT), [r.resource_id for r in rows])}
    ended = _ended({r.operation_id for r in rows if r.operation_id and not r.settled})
    plans: dict[UUID, engine.Schedule] = {}
    changed: list[Assignment] = []
    due: list[tuple[Assignment, SleepableView]] = []
    decisions: list[Decision] = []
    for row in rows:
        view = views.get(row.resource_id)
        if view is None or view.organization_id != row.organization_id:
            continue
        before = [getattr(row, name) for name in _STATE]
        orders = overrides.get((kind, row.resource_id), [])
        _find_period(row, plans, orders, view, now)
        if _wants_order(row, view, ended, now):
            due.append((row, view))
        if row.yielded and not before[_STATE.index("yielded")]:
            decisions.append(_respected(row, view, now))
        if [getattr(row, name) for name in _STATE] != before:
            changed.append(row)
    # the period is written before the order, so that its idempotency key outlives a crash between the two
    Assignment.objects.all_orgs().bulk_update(changed, _STATE, batch_size=200)
    given = [_order(row, view, plans, overrides, now, done) for row, view in due]
    Assignment.objects.all_orgs().bulk_update([row for row, _ in due], _STATE, batch_size=200)
    Decision.objects.all_orgs().bulk_create([*decisions, *(d for d in given if d is not None)], batch_size=200)


def _ended(ids: Iterable[UUID]) -> dict[UUID, Operation]:
    """Orders of ours that have ended, by id."""
    wanted = list(ids)
    rows = Operation.objects.all_orgs().filter(id__in=wanted, status__in=[Status.FAILED, Status.CANCELLED])
    return {row.id: row for row in rows} if wanted else {}


def plan_of(
    row: Assignment, plans: dict[UUID, engine.Schedule], orders: list[Override], view: SleepableView
) -> engine.Schedule:
    """The schedule of one resource; the common part is built once per schedule."""
    base = plans.get(row.schedule_id)
    if base is None:
        base = plans[row.schedule_id] = row.schedule.plan()
    return with_orders(base, orders, view.wake_seconds)


def next_switch(plan: engine.Schedule, now: datetime) -> datetime | None:
    """When it is next switched on or off: pre-warm to awake is none. None when nothing in sight changes."""
    ahead = plan.next_transitions(now, LOOK_AHEAD)
    on = plan.desired_at(now).on
    switch = next((change.at for change in ahead if change.state.on != on), None)
    return switch or (ahead[-1].at if len(ahead) == LOOK_AHEAD else None)


def _find_period(
    row: Assignment, plans: dict[UUID, engine.Schedule], orders: list[Override], view: SleepableView, now: datetime
) -> None:
    """Bring `wanted`, `period_at` and `changes_at` up to now; a new period begins unsettled."""
    known = row.period_at is not None and row.revision == row.seen_revision
    if known and (now < row.changes_at if row.changes_at is not None else not orders):
        return
    plan = plan_of(row, plans, orders, view)
    state = plan.desired_at(now)
    idle = state.cause.kind is engine.CauseKind.OFF
    wanted = Wanted.NOTHING if idle else Wanted.AWAKE if state.on else Wanted.ASLEEP
    passed = row.changes_at is not None and now >= row.changes_at
    row.changes_at, row.seen_revision = next_switch(plan, now), row.revision
    if row.period_at is None or passed or wanted != row.wanted:
        row.wanted, row.period_at = wanted, now
        row.settled = row.yielded = False
        row.attempt = row.tries = 0
        row.first_try_at = row.retry_at = row.operation_id = None
        row.trouble = ""


def _wants_order(row: Assignment, view: SleepableView, ended: dict[UUID, Operation], now: datetime) -> bool:
    """Whether an order is due now; notes what was reached, given up or changed by somebody on the way."""
    if not row.wanted or view.state in _NOT_OURS or view.operation_id is not None:
        return False
    if view.state == _REACHED[Wanted(row.wanted)]:
        row.settled, row.yielded, row.trouble, row.tries = True, False, "", 0
        return False
    if view.state in (SleepState.WAKING, SleepState.FALLING):
        return False
    if row.settled:
        row.yielded = True
        return False
    last = ended.get(row.operation_id) if row.operation_id else None
    if last is not None and last.status == Status.CANCELLED:
        row.settled = row.yielded = True
        return False
    if last is not None:
        row.trouble = last.error[:500]
    if row.first_try_at is not None and now - row.first_try_at >= TRY_WINDOW:
        row.tries, row.first_try_at = 0, None
    if row.tries >= MOST_TRIES:
        row.trouble = row.trouble or "Tried three times this hour without effect."
        return False
    return row.retry_at is None or now >= row.retry_at


def _order(
    row: Assignment,
    view: SleepableView,
    plans: dict[UUID, engine.Schedule],
    overrides: dict[tuple[str, UUID], list[Override]],
    now: datetime,
    done: Ticked,
) -> Decision | None:
    """Give one order and note it on the row. None when something else is under way, which is waited for."""
    actor = Actor.system(COMPONENT, row.organization_id)
    kind = sleepable.kind_named(row.resource_kind)
    request = kind.request_wake if row.wanted == Wanted.AWAKE else kind.request_sleep
    cause = plan_of(row, plans, overrides.get((row.resource_kind, row.resource_id), []), view).desired_at(now).cause
    period = int(row.period_at.timestamp()) if row.period_at else 0
    key = f"hibernation-{row.id.hex}-{period}-{row.attempt}"
    decision = _decision(row, view, now, cause)
    try:
        row.operation_id = request(
            actor, row.resource_id, reason=cause.text, options={"cause": "schedule", "idempotency_key": key}
        )
        done.ordered += 1
    except Conflict as busy:
        if busy.code == "operation_active":
            row.retry_at = now + BUSY_PAUSE
            return None
        decision.outcome, decision.detail, row.trouble = Outcome.REFUSED, busy.message[:500], busy.message[:500]
        done.refused += 1
    except CurfewError as refused:
        decision.outcome, decision.detail, row.trouble = Outcome.REFUSED, refused.message[:500], refused.message[:500]
        done.refused += 1
    decision.operation_id = row.operation_id
    row.retry_at = now + PAUSES[min(row.tries, len(PAUSES) - 1)]
    row.first_try_at = row.first_try_at or now
    row.tries += 1
    row.attempt += 1
    return decision


def _decision(row: Assignment, view: SleepableView, now: datetime, cause: engine.Cause) -> Decision:
    return Decision(
        organization_id=row.organization_id,
        schedule_id=row.schedule_id,
        resource_kind=row.resource_kind,
        resource_id=row.resource_id,
        resource_label=view.name[:300],
        at=now,
        desired=row.wanted,
        cause=str(cause.kind),
        cause_text=cause.text[:300],
        actor_label="Schedule",
        outcome=Outcome.ORDERED,
    )


def _respected(row: Assignment, view: SleepableView, now: datetime) -> Decision:
    """Somebody changed it within the period: noted once, and left alone until the next period."""
    words = f"changed by hand or from outside; the schedule takes over {_until(row)}"
    decision = _decision(row, view, now, engine.Cause(engine.CauseKind.OFF, words))
    decision.cause, decision.outcome, decision.detail = "outside", Outcome.RESPECTED, view.cause[:500]
    return decision


def _until(row: Assignment) -> str:
    return f"at {row.changes_at:%Y-%m-%d %H:%M} UTC" if row.changes_at else "when it is edited"
