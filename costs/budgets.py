"""Budgets at work: warnings at thresholds, refusing new starts, putting to sleep what is idle.

Level-triggered: every check derives what should have happened by now from the ledger and the rules, and does what was
not done yet. A missed minute, a crash in the middle or two checks at once change nothing, because each step is a row that
can be written only once, in the transaction that also tells, audits and orders.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from accounts.models import Organization
from audit import services as audit
from core import clock, hooks, sleepable
from core.actor import Actor
from core.errors import CurfewError, InvalidState, NotFound, QuotaExceeded
from core.live import publish
from core.sleepable import SleepableView
from costs import budget_rules, spending
from costs.budget_rules import Awake, Rules
from costs.enums import Phase
from costs.models import Budget, BudgetStep, Interval
from costs.spending import Standing

log = logging.getLogger(__name__)
EXCEEDED = "budget_exceeded"


def check_all() -> int:
    """Check the budgets of every organization that has one; the number of steps that were taken."""
    ids = Budget.objects.all_orgs().order_by().values_list("organization_id", flat=True).distinct()
    taken = 0
    for organization in Organization.objects.filter(id__in=list(ids)):
        try:
            taken += check(organization)
        except CurfewError as failure:  # one organization's trouble is not another's
            log.warning("budget_check_failed", extra={"organization": str(organization.id), "code": failure.code})
    return taken


def check(organization: Organization) -> int:
    """Bring one organization in line with its budgets; the number of steps that were taken now."""
    actor = Actor.system("budgets", organization.id)
    taken = 0
    for standing in spending.standings(actor=actor, organization=organization):
        taken += _warn(actor, standing)
        if standing.acting:
            taken += _refuse(actor, standing)
            if standing.rules.sleep_idle:
                taken += _sleep(actor, standing)
    return taken


def _step(standing: Standing, name: str, detail: str) -> BudgetStep | None:
    """The row of a step; None when it was taken before. To be called in the transaction that takes it."""
    budget = standing.budget
    row, created = BudgetStep.objects.for_org(budget.organization_id).get_or_create(
        budget=budget,
        window=standing.start,
        step=name[:160],
        defaults={
            "organization_id": budget.organization_id,
            "at": clock.now(),
            "percent": min(standing.percent, 100_000),
            "detail": detail[:300],
        },
    )
    return row if created else None


def label_of(budget: Budget) -> str:
    """`the budget of team Comp, $25.00 a day`."""
    whose = "the organization" if budget.scope == "organization" else f"{budget.scope} {budget.subject}"
    return f"the budget of {whose}, ${budget.amount:,.2f} a {budget.period}"


def _warn(actor: Actor, standing: Standing) -> int:
    """Take every warning that is due and was not given for this amount; tell of the highest one only."""
    due = budget_rules.reached(standing.rules, standing.spent, standing.budget.amount)
    given = {s.step for s in standing.steps}
    names = {p: f"warn:{p}:{standing.budget.amount}" for p in due}
    if all(name in given for name in names.values()):
        return 0
    words = f"{standing.percent}% of {label_of(standing.budget)}, is spent"
    with transaction.atomic():
        fresh = [p for p, name in names.items() if _step(standing, name, f"Warned at {p}%") is not None]
        if not fresh:
            return 0
        highest = max(fresh)
        audit.record(
            actor=actor,
            verb="budget.warned",
            target=standing.budget,
            target_label=label_of(standing.budget),
            detail=words,
        )
        hooks.notice.emit(
            event="budget.exceeded" if highest >= 100 else "budget.warning",
            subject=words[0].upper() + words[1:],
            body=_told(standing),
            url=_url(),
            dedupe_key=f"budget:{standing.budget.id}:{standing.start.isoformat()}:{names[highest]}",
            organization_id=standing.budget.organization_id,
        )
        publish(standing.budget.organization_id, "money")
    return len(fresh)


def _told(standing: Standing) -> str:
    rules = standing.rules
    lines = [f"Spent ${standing.spent:,.2f}; ${standing.burn_rate:,.2f} an hour is being spent now."]
    if standing.runs_out_at:
        lines.append(f"At this rate it is used up at {standing.runs_out_at:%H:%M} UTC.")
    acts = [
        w
        for on, w in (
            (rules.refuse_starts, "new starts are refused"),
            (rules.sleep_idle, "what is idle is put to sleep"),
        )
        if on
    ]
    if acts:
        lines.append(f"At {rules.act_at}%, {' and '.join(acts)}; what is busy is never touched.")
    return "\n".join(lines)


def _url() -> str:
    return f"{settings.CURFEW_BASE_URL}{reverse('costs:budgets')}"


def _refuse(actor: Actor, standing: Standing) -> int:
    """Say once in a period that starts are refused from now on; refusing itself is decided at each start."""
    name = f"refuse:{standing.budget.amount}"
    if not standing.rules.refuse_starts or any(s.step == name for s in standing.steps):
        return 0
    with transaction.atomic():
        if _step(standing, name, "New starts are refused") is None:
            return 0
        audit.record(
            actor=actor, verb="budget.refusing", target=standing.budget, target_label=label_of(standing.budget)
        )
        publish(standing.budget.organization_id, "money")
        publish(standing.budget.organization_id, "budgets")
    return 1


def refusing(*, actor: Actor) -> list[Standing]:
    """The budgets that refuse starts now, whomever they concern; none without costs.view.

    One small query where no budget was told to.
    """
    if actor.org_id is None or not actor.can("costs.view"):
        return []
    if not any(Rules.from_settings(b.settings).refuse_starts for b in Budget.objects.visible_to(actor)):
        return []
    organization = Organization.objects.get(id=actor.org_id)
    return [s for s in spending.standings(actor=actor, organization=organization) if s.refusing]


def require_room(*, organization_id: UUID, team: str = "", person: str = "") -> None:
    """Raise QuotaExceeded (409, `budget_exceeded`) when a budget that covers this start is used up and refuses starts.

    To be called by every service that is about to wake something, before its transaction.
    """
    for standing in refusing(actor=Actor.system("budgets", organization_id)):
        if standing.covers(team=team, person=person):
            words = label_of(standing.budget)
            raise QuotaExceeded(
                f"{words[0].upper()}{words[1:]}, is used up ({standing.percent}%), so nothing new is woken. "
                "Whoever manages budgets can raise it, or let it be exceeded until its period ends.",
                code=EXCEEDED,
                budget=str(standing.budget.id),
            )


def _sleep(actor: Actor, standing: Standing) -> int:
    """Put to sleep what is idle, in the owner's order, until the rest of the period fits into the budget."""
    taken = 0
    rate, left = standing.burn_rate, standing.budget.amount - standing.spent
    hours = Decimal((standing.end - clock.now()).total_seconds()) / 3600
    for one in budget_rules.to_sleep(candidates(actor, standing.budget), standing.rules.order):
        if rate * hours <= left:
            break
        if _order(actor, standing, one):
            taken += 1
            rate -= one.hourly or Decimal(0)
    return taken


def candidates(actor: Actor, budget: Budget) -> list[Awake]:
    """What is awake now and counts against the budget, with what is known of its idleness."""
    rows = Interval.objects.for_org(budget.organization_id).filter(ended_at=None, phase=Phase.AWAKE)
    if budget.scope != "organization":
        rows = rows.filter(**{budget.scope: budget.subject})
    by_kind: dict[str, dict[UUID, Interval]] = defaultdict(dict)
    for row in rows:
        by_kind[row.resource_kind][row.resource_id] = row
    known = {k.kind for k in sleepable.kinds()}
    found: list[Awake] = []
    for kind, mine in by_kind.items():
        if kind in known:
            views = sleepable.kind_named(kind).list(actor, list(mine))
            found += _awake(kind, views, mine, sleepable.idle_since(actor, kind, list(mine)))
    return found


def _awake(
    kind: str, views: Iterable[SleepableView], rows: dict[UUID, Interval], idle: dict[UUID, datetime]
) -> list[Awake]:
    return [
        Awake(
            kind=kind,
            id=v.id,
            name=v.name,
            hourly=rows[v.id].price,
            since=rows[v.id].started_at,
            idle_since=idle.get(v.id),
            protected=bool(v.protections) or v.operation_id is not None or v.state is not sleepable.SleepState.AWAKE,
        )
        for v in views
    ]


def _order(actor: Actor, standing: Standing, one: Awake) -> bool:
    """Order one sleep with its row and audit line in one transaction; False when it was ordered before or is refused."""
    since = one.since.isoformat() if one.since else ""
    name = f"sleep:{one.kind}:{one.id}:{since}"
    if any(s.step == name for s in standing.steps):
        return False
    reason = f"{label_of(standing.budget)}, is used up ({standing.percent}%) and it is idle"
    try:
        with transaction.atomic():
            step = _step(standing, name, f"Put {one.name} to sleep")
            if step is None:
                return False
            options: dict[str, object] = {"cause": "budget", "idempotency_key": f"budget:{step.id}"}
            operation_id = sleepable.kind_named(one.kind).request_sleep(actor, one.id, reason=reason, options=options)
            BudgetStep.objects.for_org(step.organization_id).filter(id=step.id).update(operation_id=operation_id)
            audit.record(
                actor=actor,
                verb="budget.slept",
                target=standing.budget,
                target_label=label_of(standing.budget),
                detail=f"{one.name}, idle since {one.idle_since:%Y-%m-%d %H:%M} UTC",
                operation_id=operation_id,
            )
    except CurfewError as refused:  # under way already, or it cannot be switched now: the next check looks again
        log.info("budget_sleep_refused", extra={"resource": str(one.id), "code": refused.code})
        return False
    return True


def lift(*, actor: Actor, budget_id: UUID) -> Budget:
    """Let a budget be exceeded until its period ends: it goes on warning and stops acting. InvalidState when it does not act."""
    actor.require("budgets.manage", "let a budget be exceeded")
    with transaction.atomic():
        budget = Budget.objects.visible_to(actor).select_for_update().filter(id=budget_id).first()
        if budget is None:
            raise NotFound("There is no such budget.")
        rules = Rules.from_settings(budget.settings)
        if not rules.acts(clock.now()):
            raise InvalidState("This budget does not act now.")
        zone = Organization.objects.get(id=budget.organization_id).timezone
        until = budget_rules.window(budget.period, zone, clock.now())[1]
        budget.settings = {**rules.to_settings(), "lifted_until": until.isoformat()}
        budget.save(update_fields=["settings"])
        audit.record(
            actor=actor,
            verb="budget.lifted",
            target=budget,
            target_label=label_of(budget),
            changes={"lifted_until": [None, until.isoformat()]},
        )
        publish(budget.organization_id, "money")
        publish(budget.organization_id, "budgets")
    return budget
