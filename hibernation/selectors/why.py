"""Why is it still on? Every rule that has a say in one resource, what each says, and which of them decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.urls import reverse

from core import clock, sleepable
from core.actor import Actor
from core.sleepable import SleepableView, SleepState
from hibernation import schedule as engine
from hibernation.enums import PERMISSION_VIEW, Order
from hibernation.models import Assignment, Decision, Override, with_orders
from hibernation.selectors.history import HistoryRow, with_operations
from hibernation.selectors.schedules import Next, next_change

LAST = 10
MOST_TRIES = 3
CHANGED = "Changed by somebody"
UNMANAGED = "Not managed"
_STRONGEST = ("Operation under way", "Protection", UNMANAGED, CHANGED)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One rule and what it says now. `decides`: this is the one that the answer rests on."""

    icon: str
    title: str
    words: str
    decides: bool = False
    url: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """The answer in one sentence, and the evidence from the strongest rule to the weakest."""

    view: SleepableView
    answer: str
    evidence: list[Evidence]
    assignment: Assignment | None
    next: Next | None
    history: list[HistoryRow]
    as_wanted: bool


def why(*, actor: Actor, kind: str, resource_id: UUID) -> Why:
    """Explain one resource. Raises NotFound, also for another organization's."""
    actor.require(PERMISSION_VIEW, "see schedules")
    view = sleepable.get(actor, kind, resource_id)
    now = clock.now()
    mine = {"resource_kind": kind, "resource_id": resource_id}
    row = Assignment.objects.visible_to(actor).filter(**mine).select_related("schedule").first()
    orders = list(Override.objects.visible_to(actor).filter(**mine, expires_at__gt=now).order_by("-made_at"))
    decisions = list(Decision.objects.visible_to(actor).filter(**mine).order_by("-at")[:LAST])
    base = row.schedule.plan() if row else None
    plan = with_orders(base, orders, view.wake_seconds) if base else None
    state = plan.desired_at(now) if plan else None
    evidence = [
        *_resource(view),
        *(_orders(orders, state, plan, now) if plan and state else []),
        *(_schedule(row, base, state, plan, now) if row and base and plan and state else [_none()]),
        *(_execution(row, view) if row and row.schedule.enabled else []),
    ]
    strongest = [e for e in evidence if e.decides and e.title in _STRONGEST]
    if strongest:
        evidence = [replace(e, decides=e in strongest) for e in evidence]
    if not any(e.decides for e in evidence):
        evidence[-1] = replace(evidence[-1], decides=True)
    return Why(
        view=view,
        answer=_answer(view, row, plan, now),
        evidence=evidence,
        assignment=row,
        next=next_change(plan, now) if plan else None,
        history=with_operations(actor, decisions),
        as_wanted=bool(row and row.wanted and row.wanted == view.state),
    )


def _answer(view: SleepableView, row: Assignment | None, plan: engine.Schedule | None, now: datetime) -> str:
    if view.operation_id is not None:
        return "An operation is under way; what it should be is decided when that has ended."
    if view.protections:
        return f"Curfew may not switch it: it {view.protections[0]}."
    if view.state == SleepState.UNMANAGED:
        return f"Curfew does not manage it, so nothing switches it. {view.cause}".strip()
    if row is None or plan is None:
        return "Nothing puts it to sleep or wakes it: it follows no schedule."
    told = engine.explain(plan, now)
    if row.trouble:
        return f"{told} It is not so yet: {row.trouble}"
    if row.yielded:
        return f"{told} Somebody changed it since, which is respected until the next change of the schedule."
    return told


def _resource(view: SleepableView) -> list[Evidence]:
    """What holds whatever any schedule says."""
    found = []
    if view.operation_id is not None:
        url = reverse("operations:detail", args=[view.operation_id])
        found.append(Evidence("loader-2", "Operation under way", "It is being switched just now.", True, url))
    found += [
        Evidence("shield", "Protection", f"It {words}; no schedule switches it.", True) for words in view.protections
    ]
    if view.state == SleepState.UNMANAGED:
        found.append(
            Evidence(
                "plug-connected-x",
                UNMANAGED,
                "It is only seen. Its page says what it takes to switch it.",
                True,
                view.url,
            )
        )
    if view.state in (SleepState.LOST, SleepState.TROUBLE, SleepState.CONTESTED):
        words = view.cause or "Its state cannot be told."
        found.append(Evidence("alert-triangle", view.state.value.capitalize(), words, view.state == SleepState.LOST))
    elif view.cause:
        found.append(Evidence("info-circle", "Last change", view.cause))
    return found


def _orders(orders: list[Override], state: engine.State, plan: engine.Schedule, now: datetime) -> list[Evidence]:
    """What people ordered beside the schedule, in force or yet to begin."""
    found = []
    for order in orders:
        verb = {Order.WAKE: "ordered it awake", Order.SLEEP: "ordered it asleep"}.get(
            Order(order.order), "put its sleep off"
        )
        begins = f" from {engine.local_words(plan, order.starts_at)}" if order.starts_at > now else ""
        words = f"{order.actor_label or 'Somebody'} {verb}{begins} until {engine.local_words(plan, order.expires_at)}"
        reason = f": {order.reason}" if order.reason else "."
        found.append(
            Evidence(
                "user", "Order by hand", f"{words}{reason}", state.cause.order_id == str(order.id), at=order.made_at
            )
        )
    return found


def _schedule(
    row: Assignment, base: engine.Schedule, state: engine.State, plan: engine.Schedule, now: datetime
) -> list[Evidence]:
    """The schedule itself: switched off, today's date, the painted week, pre-warm, the next change, the warning."""
    url = row.schedule.get_absolute_url()
    kinds = engine.CauseKind
    if not base.enabled:
        return [Evidence("calendar-off", row.schedule.name, "The schedule is switched off.", True, url)]
    found = []
    plain = base.desired_at(now)
    local = engine.local_words(plan, now)
    if plain.cause.kind in (kinds.HOLIDAY, kinds.SPRINT, kinds.CUSTOM):
        decides = state.cause.kind == plain.cause.kind
        found.append(Evidence("calendar-event", "Calendar", f"{_sentence(plain.cause.text)} ({local})", decides, url))
    else:
        decides = state.cause.kind == kinds.GRID
        found.append(
            Evidence(
                "table", f"Week of {row.schedule.name}", f"{_sentence(plain.cause.text)} It is {local}.", decides, url
            )
        )
    if state.power is engine.Power.WARMING:
        learned = plan.prewarm.learned_seconds
        source = f"its usual {learned // 60} min" if learned is not None else "30 min, until its start-up time is known"
        found.append(
            Evidence("sunrise", "Pre-warm", f"It is started early, by {source}, so as to be ready in time.", True, url)
        )
    change = next_change(plan, now)
    if change:
        verb = "wakes" if change.on else "sleeps"
        found.append(
            Evidence("clock", "Next change", f"It {verb} {engine.local_words(plan, change.at)}.", at=change.at)
        )
    found.append(_warning(row))
    return found


def _warning(row: Assignment) -> Evidence:
    rule = row.schedule
    if not rule.warn_minutes:
        words = "Nobody is warned before it sleeps."
    else:
        words = f"People are warned {rule.warn_minutes} min before it sleeps"
        words += ", and without a warning that arrived it does not sleep." if rule.warn_required else "."
    if row.warned_for:
        words += " They have been warned of this one."
    return Evidence("bell", "Warning", words)


def _execution(row: Assignment, view: SleepableView) -> list[Evidence]:
    """How far the schedule has got with it."""
    found = []
    if row.yielded:
        words = "It was changed by hand or from outside after the schedule had switched it; that is respected"
        until = f" until {row.changes_at:%Y-%m-%d %H:%M} UTC." if row.changes_at else "."
        found.append(Evidence("hand-stop", CHANGED, words + until, True))
    if row.trouble:
        tries = f"{row.tries} of {MOST_TRIES} tries this hour. " if row.tries else ""
        found.append(Evidence("alert-triangle", "It did not work", f"{tries}{row.trouble}", True, at=row.retry_at))
    if row.operation_id and row.wanted and view.state != row.wanted:
        url = reverse("operations:detail", args=[row.operation_id])
        found.append(Evidence("bolt", "Last order", "Given by the schedule.", url=url))
    return found


def _none() -> Evidence:
    return Evidence(
        "calendar-plus",
        "No schedule",
        "It follows no schedule, so nothing puts it to sleep.",
        url=reverse("hibernation:assign"),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
