"""The tick: what every schedule wants now against what every resource is, and an order where the two differ.

Level-triggered. Nothing is remembered of edges but the period that a resource is in (`periods`), so that an outage over
any number of edges ends with one comparison. Rows that changed alike are written by one UPDATE, which holds only for
those that nobody changed meanwhile. Orders go round the organizations, one each, for some seconds; the rest waits for
the next tick. Each order is one transaction with its note, under a key that a second tick would use as well.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from core import clock, sleepable
from core.actor import Actor
from core.errors import Conflict, CurfewError, NotFound
from core.sleepable import SleepableView, Standing
from hibernation import schedule as engine
from hibernation.enums import Outcome, Wanted
from hibernation.models import Assignment, Decision, Override, Schedule
from hibernation.services import warning
from hibernation.services.periods import (
    BUSY_PAUSE,
    COLUMNS,
    STATE,
    Row,
    Wishes,
    enter_period,
    needs_wish,
    tried,
    wants_order,
)
from operations.enums import Status
from operations.models import Operation

log = logging.getLogger(__name__)

COMPONENT = "schedule"
CHUNK = 5000
SET = 900
NAMED_AT_ONCE = 100
SECONDS_OF_ORDERS = 8.0
WAITED_FOR = ("operation_active", "maintenance")  # not a try: it ends by itself, or somebody ends it
_STATE_AT = {name: place for place, name in enumerate(STATE)}


@dataclass(slots=True)
class Ticked:
    """What one tick did; `waiting` orders are left for the next."""

    looked_at: int = 0
    ordered: int = 0
    refused: int = 0
    warned: int = 0
    waiting: int = 0


def tick(*, only: Collection[UUID] | None = None, seconds_of_orders: float = SECONDS_OF_ORDERS) -> Ticked:
    """Bring every assigned resource (or the assignments in `only`) towards what its schedule wants now.

    Asks the database a number of questions that does not grow with the assignments, up to chunks of 5,000; each order
    that is given costs its own, and no new one is given once `seconds_of_orders` have passed. Two ticks at once, or
    one after a kill, give the same order.
    """
    now = clock.now()
    found = Assignment.objects.all_orgs().order_by("resource_kind", "id")
    rows = [Row(*facts) for facts in (found if only is None else found.filter(id__in=only)).values_list(*COLUMNS)]
    done = Ticked(looked_at=len(rows))
    if not rows:
        return done
    wishes = Wishes(now, _live_overrides(now))
    rules = warning.rules()
    due: list[tuple[Row, Standing]] = []
    for kind, members in _chunks(rows):
        due += _tick_chunk(kind, members, wishes, rules, done)
    _give(due, wishes, done, seconds_of_orders)
    return done


def _chunks(rows: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[row.resource_kind].append(row)
    for kind, members in by_kind.items():
        for start in range(0, len(members), CHUNK):
            yield kind, members[start : start + CHUNK]


def _live_overrides(now: datetime) -> dict[tuple[str, UUID], list[Override]]:
    found: dict[tuple[str, UUID], list[Override]] = defaultdict(list)
    for row in Override.objects.all_orgs().filter(expires_at__gt=now).order_by("made_at"):
        found[row.resource_kind, row.resource_id].append(row)
    return found


def _tick_chunk(
    name: str, rows: list[Row], wishes: Wishes, rules: dict[UUID, warning.Rule], done: Ticked
) -> list[tuple[Row, Standing]]:
    """Compare, warn and note; returns the orders that are due."""
    try:
        kind = sleepable.kind_named(name)
    except NotFound:
        return []
    system = Actor.system(COMPONENT)
    standings = {s.id: s for s in sleepable.standings(kind, system, [r.resource_id for r in rows])}
    ended = _ended({r.operation_id for r in rows if r.operation_id and not r.settled})
    present = [
        (row, standing)
        for row in rows
        if row.schedule_id in rules
        and (standing := standings.get(row.resource_id))
        and standing.organization_id == row.organization_id
    ]
    stale = {row.id for row, _ in present if needs_wish(row, wishes.orders_of(row), wishes.now)}
    _load_schedules({row.schedule_id for row, _ in present if row.id in stale}, wishes)
    changed: list[tuple[Row, tuple[Any, ...]]] = []
    due: list[tuple[Row, Standing]] = []
    outside: list[Row] = []
    soon: list[Row] = []
    for row, standing in present:
        before = row.state()
        if row.id in stale:
            if row.schedule_id not in wishes.schedules:
                continue
            enter_period(row, wishes.of(row, standing.wake_seconds), wishes.now)
        if wants_order(row, standing, ended, wishes.now):
            due.append((row, standing))
        if row.yielded and not before[_STATE_AT["yielded"]]:
            outside.append(row)
        if warning.is_near(row, standing, rules[row.schedule_id], wishes.now):
            row.warned_for = row.changes_at
            soon.append(row)
        if row.state() != before:
            changed.append((row, before))
    # the period is written before the order, so that its key outlives a crash between the two
    lost = _write(changed, outside, soon, rules, done, wishes.now) if changed else set()
    due = [(row, standing) for row, standing in due if row.id not in lost]
    _load_schedules({row.schedule_id for row, _ in due}, wishes)
    due = [(row, standing) for row, standing in due if row.schedule_id in wishes.schedules]
    return _hold(due, wishes, rules, done)


def _write(
    changed: list[tuple[Row, tuple[Any, ...]]],
    outside: list[Row],
    soon: list[Row],
    rules: dict[UUID, warning.Rule],
    done: Ticked,
    now: datetime,
) -> set[UUID]:
    """Write what changed, with the notes and the warnings that belong to it; returns the rows that somebody else won."""
    with transaction.atomic():
        lost = write_sets(changed)
        _note_outside([row for row in outside if row.id not in lost], now)
        done.warned += warning.tell([row for row in soon if row.id not in lost], rules, now)
    return lost


def _hold(
    due: list[tuple[Row, Standing]], wishes: Wishes, rules: dict[UUID, warning.Rule], done: Ticked
) -> list[tuple[Row, Standing]]:
    """Keep back what may not sleep without a warning; returns the rest."""
    careful = [(row, row.state()) for row, _ in due if rules[row.schedule_id].required]
    if not careful:
        return due
    due, held = warning.judge(due, rules, wishes)
    with transaction.atomic():
        changed = [(row, before) for row, before in careful if row.state() != before]
        late = {row.id for row, before in changed if row.warned_for != before[_STATE_AT["warned_for"]]}
        lost = write_sets(changed)
        done.warned += warning.tell([r for r in held if r.id in late and r.id not in lost], rules, wishes.now)
    return [(row, standing) for row, standing in due if row.id not in lost]


def _ended(ids: Collection[UUID]) -> dict[UUID, tuple[str, str]]:
    """Orders of ours that have failed or were cancelled: status and words, by id."""
    if not ids:
        return {}
    rows = Operation.objects.all_orgs().filter(id__in=ids, status__in=[Status.FAILED, Status.CANCELLED])
    return {key: (status, words) for key, status, words in rows.values_list("id", "status", "error")}


def _load_schedules(ids: Collection[UUID], wishes: Wishes) -> None:
    missing = [key for key in ids if key not in wishes.schedules]
    for start in range(0, len(missing), SET):
        for row in Schedule.objects.all_orgs().filter(id__in=missing[start : start + SET]):
            try:
                wishes.add(row)
            except engine.InvalidSchedule as damaged:  # one schedule that cannot be read does not stop the others
                log.error("schedule_unreadable", extra={"schedule": str(row.id), "reason": damaged.message})


def write_sets(changed: Iterable[tuple[Row, tuple[Any, ...]]]) -> set[UUID]:
    """Write the columns that changed, one UPDATE for all rows that changed alike. Returns the rows that somebody else
    changed since they were read: of those nothing was written."""
    groups: dict[tuple[Any, ...], list[UUID]] = defaultdict(list)
    for row, before in changed:
        after = row.state()
        differs = tuple((STATE[n], after[n]) for n in range(len(STATE)) if after[n] != before[n])
        groups[row.revision, before[_STATE_AT["period"]], before[_STATE_AT["attempt"]], differs].append(row.id)
    lost: set[UUID] = set()
    for (revision, period, attempt, differs), ids in groups.items():
        for start in range(0, len(ids), SET):
            part = ids[start : start + SET]
            same = Assignment.objects.all_orgs().filter(id__in=part, revision=revision, period=period, attempt=attempt)
            new = dict(differs)
            if same.update(**new) != len(part):
                kept = Assignment.objects.all_orgs().filter(id__in=part, **new).values_list("id", flat=True)
                lost |= set(part) - set(kept)
    return lost


def _give(due: list[tuple[Row, Standing]], wishes: Wishes, done: Ticked, seconds: float) -> None:
    """Give the orders, one organization after the other, until the time is up."""
    until = time.monotonic() + seconds
    queue = _in_turn(row for row, _ in due)
    wake_seconds = {row.id: standing.wake_seconds for row, standing in due}
    slept: list[tuple[Row, str]] = []
    while queue and time.monotonic() < until:
        batch = [queue.popleft() for _ in range(min(NAMED_AT_ONCE, len(queue)))]
        views = _views(batch)
        for place, row in enumerate(batch):
            if time.monotonic() >= until:
                queue.extendleft(reversed(batch[place:]))
                break
            view = views.get((row.resource_kind, row.resource_id))
            if view is not None and (row.changes_at is None or clock.now() < row.changes_at):
                ordered = _order(row, view, wishes.of(row, wake_seconds[row.id]).cause, wishes.now, done)
                if ordered and row.wanted == Wanted.ASLEEP:
                    slept.append((row, view.name))
    done.waiting = len(queue)
    warning.tell_slept(slept, wishes.now)


def _in_turn(rows: Iterable[Row]) -> deque[Row]:
    """Round the organizations: the first of each, then the second of each."""
    by_org: dict[UUID, deque[Row]] = defaultdict(deque)
    for row in rows:
        by_org[row.organization_id].append(row)
    turn: deque[Row] = deque()
    while by_org:
        for organization_id in list(by_org):
            turn.append(by_org[organization_id].popleft())
            if not by_org[organization_id]:
                del by_org[organization_id]
    return turn


def _views(rows: Collection[Row]) -> dict[tuple[str, UUID], SleepableView]:
    by_kind: dict[str, list[UUID]] = defaultdict(list)
    for row in rows:
        by_kind[row.resource_kind].append(row.resource_id)
    system = Actor.system(COMPONENT)
    return {(v.kind, v.id): v for name, ids in by_kind.items() for v in sleepable.kind_named(name).list(system, ids)}


def _order(row: Row, view: SleepableView, cause: engine.Cause, now: datetime, done: Ticked) -> bool:
    """Give one order and note it, both or neither; what is under way elsewhere is waited for. Whether it is new."""
    actor = Actor.system(COMPONENT, row.organization_id)
    kind = sleepable.kind_named(row.resource_kind)
    request = kind.request_wake if row.wanted == Wanted.AWAKE else kind.request_sleep
    key = f"hibernation-{row.id.hex}-{row.period}-{row.attempt}"
    decision = _decision(row, view.name, now, cause)
    before = row.state()
    with transaction.atomic():
        try:
            with transaction.atomic():
                row.operation_id = request(
                    actor, row.resource_id, reason=cause.text, options={"cause": "schedule", "idempotency_key": key}
                )
            done.ordered += 1
        except CurfewError as refused:
            if isinstance(refused, Conflict) and refused.code in WAITED_FOR:
                row.retry_at = now + BUSY_PAUSE
                row.trouble = "" if refused.code == "operation_active" else refused.message[:500]
                write_sets([(row, before)])
                return False
            decision.outcome, decision.detail, row.trouble = (
                Outcome.REFUSED,
                refused.message[:500],
                refused.message[:500],
            )
            done.refused += 1
        decision.operation_id = row.operation_id
        tried(row, now)
        write_sets([(row, before)])
        known = _noted(decision)
        if not known:
            decision.save(force_insert=True)
    return not known and decision.outcome == Outcome.ORDERED


def _noted(decision: Decision) -> bool:
    """Whether another tick noted this very order already."""
    same = Decision.objects.all_orgs().filter(
        resource_kind=decision.resource_kind, resource_id=decision.resource_id, operation_id=decision.operation_id
    )
    return decision.operation_id is not None and decision.outcome == Outcome.ORDERED and same.exists()


def _decision(row: Row, name: str, now: datetime, cause: engine.Cause) -> Decision:
    return Decision(
        organization_id=row.organization_id,
        schedule_id=row.schedule_id,
        resource_kind=row.resource_kind,
        resource_id=row.resource_id,
        resource_label=name[:300],
        at=now,
        desired=row.wanted,
        cause=str(cause.kind),
        cause_text=cause.text[:300],
        actor_label="Schedule",
        outcome=Outcome.ORDERED,
    )


def _note_outside(rows: Collection[Row], now: datetime) -> None:
    """Somebody changed them within the period: noted once, and left alone until the next period."""
    decisions = []
    views = _views(rows)
    for row in rows:
        view = views.get((row.resource_kind, row.resource_id))
        if view is None:
            continue
        words = f"changed by hand or from outside; the schedule takes over {_until(row)}"
        decision = _decision(row, view.name, now, engine.Cause(engine.CauseKind.OFF, words))
        decision.cause, decision.outcome, decision.detail = "outside", Outcome.RESPECTED, view.cause[:500]
        decisions.append(decision)
    Decision.objects.all_orgs().bulk_create(decisions, batch_size=200)


def _until(row: Row) -> str:
    return f"at {row.changes_at:%Y-%m-%d %H:%M} UTC" if row.changes_at else "when it is edited"
