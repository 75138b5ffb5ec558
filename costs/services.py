"""Writes of the ledger: events in, intervals out, in one transaction; dated prices; budgets."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from audit import services as audit
from core import clock
from core.actor import Actor
from core.errors import InvalidInput
from core.live import publish
from costs import ledger, rollups
from costs.budget_rules import PERIODS, SCOPES, Rules
from costs.enums import Phase
from costs.models import Budget, Interval, ResourcePrice, UsageEvent


def record_event(
    *,
    actor: Actor,
    organization_id: UUID,
    resource_kind: str,
    resource_id: UUID,
    resource_label: str,
    phase: Phase | str,
    at: datetime,
    key: str,
    source: str,
    operation_id: UUID | None = None,
    cause: str = "",
    team: str = "",
    person: str = "",
) -> bool:
    """Append "from `at` on it is in `phase`" and bring the resource's intervals in line. False for a known key.

    Must be called inside the transaction that commits the observation. The audit line is the caller's.
    """
    with transaction.atomic():
        event, created = UsageEvent.objects.for_org(organization_id).get_or_create(
            resource_kind=resource_kind,
            resource_id=resource_id,
            key=key,
            defaults={
                "organization_id": organization_id,
                "at": at,
                "phase": Phase(phase),
                "source": source[:80],
                "operation_id": operation_id,
                "resource_label": resource_label[:300],
                "cause": cause,
                "team": team[:80],
                "person": person[:80],
            },
        )
        if not created:
            return False
        if not _append(event):
            rebuild(organization_id=organization_id, resource_kind=resource_kind, resource_id=resource_id)
        publish(organization_id, "money", [resource_id])
    return True


def set_price(
    *,
    actor: Actor,
    organization_id: UUID,
    resource_kind: str,
    resource_id: UUID,
    resource_label: str,
    awake: Decimal | None,
    asleep: Decimal | None,
    source: str,
    valid_from: datetime | None = None,
) -> bool:
    """A resource's hourly prices from a moment on. False when nothing changed (None is "unknown", never zero)."""
    moment = valid_from or clock.now()
    with transaction.atomic():
        mine = ResourcePrice.objects.for_org(organization_id).filter(
            resource_kind=resource_kind, resource_id=resource_id
        )
        newest = mine.filter(valid_from__lte=moment).order_by("-valid_from").first()
        if newest and (newest.awake, newest.asleep) == (awake, asleep):
            return False
        mine.update_or_create(
            resource_kind=resource_kind,
            resource_id=resource_id,
            valid_from=moment,
            defaults={"organization_id": organization_id, "awake": awake, "asleep": asleep, "source": source[:200]},
        )
        if not _reprice_open(organization_id, resource_kind, resource_id, moment):
            rebuild(organization_id=organization_id, resource_kind=resource_kind, resource_id=resource_id)
        publish(organization_id, "money", [resource_id])
    return True


def rebuild(*, organization_id: UUID, resource_kind: str, resource_id: UUID) -> int:
    """Derive all intervals of a resource anew from its events; returns how many rows changed. Replay-safe."""
    with transaction.atomic():
        intervals = _intervals(organization_id, resource_kind, resource_id)
        existing = {row.started_at: row for row in intervals.select_for_update()}
        events = UsageEvent.objects.for_org(organization_id).filter(
            resource_kind=resource_kind, resource_id=resource_id
        )
        wanted = ledger.spans(
            [ledger.Event(e.at, e.id, e.phase, e.key, _labels(e)) for e in events],
            _prices(organization_id, resource_kind, resource_id),
        )
        starts = {span.start for span in wanted}
        stale = [row.id for start, row in existing.items() if start not in starts]
        touched = [start for start in existing if start not in starts]
        if stale:
            intervals.filter(id__in=stale).delete()
        changed = len(stale)
        for span in sorted(
            wanted, key=lambda s: s.end is None
        ):  # the open one last: only one may be open at any moment
            row, facts = existing.get(span.start), _facts(span)
            if row is None:
                _create(organization_id, resource_kind, resource_id, span)
            elif any(getattr(row, name) != value for name, value in facts.items()):
                intervals.filter(id=row.id).update(**facts)
            else:
                continue
            changed += 1
            touched.append(span.start)
        if touched:
            rollups.outdate(organization_id, min(touched))
        return changed


def _append(event: UsageEvent) -> bool:
    """The usual case, in three queries: the event is later than everything known. False when it is not."""
    organization_id, kind, resource_id = event.organization_id, event.resource_kind, event.resource_id
    intervals = _intervals(organization_id, kind, resource_id)
    last = intervals.select_for_update().order_by("-started_at").first()
    newer = UsageEvent.objects.for_org(organization_id).filter(
        resource_kind=kind, resource_id=resource_id, at__gte=event.at
    )
    if newer.exclude(id=event.id).exists() or (last and event.at <= (last.ended_at or last.started_at)):
        return False
    if last and last.ended_at is None and last.phase == event.phase:
        return True
    rollups.outdate(organization_id, event.at)
    if last and last.ended_at is None:
        intervals.filter(id=last.id).update(ended_at=event.at)
    if event.phase != Phase.GONE:
        dated = _prices(organization_id, kind, resource_id)
        for span in ledger.priced(event.at, None, event.phase, dated, _labels(event)):
            _create(organization_id, kind, resource_id, span)
    return True


def _reprice_open(organization_id: UUID, kind: str, resource_id: UUID, moment: datetime) -> bool:
    """A new price from `moment` on cuts the open interval there. False when history is concerned."""
    last = _intervals(organization_id, kind, resource_id).select_for_update().order_by("-started_at").first()
    if last is None:
        return True
    if last.ended_at is not None or moment <= last.started_at:
        return False
    later = [p for p in _prices(organization_id, kind, resource_id) if p.valid_from >= moment]
    if len(later) != 1:
        return False
    rollups.outdate(organization_id, moment)
    _intervals(organization_id, kind, resource_id).filter(id=last.id).update(ended_at=moment)
    labels = ledger.Labels(last.resource_label, last.cause, last.team, last.person)
    for span in ledger.priced(moment, None, last.phase, later, labels):
        _create(organization_id, kind, resource_id, span)
    return True


def _intervals(organization_id: UUID, kind: str, resource_id: UUID) -> Any:
    return Interval.objects.for_org(organization_id).filter(resource_kind=kind, resource_id=resource_id)


def _prices(organization_id: UUID, kind: str, resource_id: UUID) -> list[ledger.Price]:
    rows = (
        ResourcePrice.objects.for_org(organization_id)
        .filter(resource_kind=kind, resource_id=resource_id)
        .order_by("valid_from")
    )
    return [ledger.Price(p.valid_from, p.awake, p.asleep, p.source) for p in rows]


def _labels(event: UsageEvent) -> ledger.Labels:
    return ledger.Labels(event.resource_label, event.cause, event.team, event.person)


def _facts(span: ledger.Span) -> dict[str, Any]:
    return {
        "ended_at": span.end,
        "phase": span.phase,
        "price": span.price,
        "awake_price": span.awake_price,
        "price_source": span.source,
        "resource_label": span.labels.resource,
        "cause": span.labels.cause,
        "team": span.labels.team,
        "person": span.labels.person,
    }


def _create(organization_id: UUID, kind: str, resource_id: UUID, span: ledger.Span) -> None:
    Interval.objects.create(
        organization_id=organization_id,
        resource_kind=kind,
        resource_id=resource_id,
        started_at=span.start,
        **_facts(span),
    )


def set_budget(
    *,
    actor: Actor,
    amount: Decimal,
    scope: str = "organization",
    subject: str = "",
    period: str = "day",
    rules: Rules | None = None,
) -> Budget:
    """Set what the organization, a team or a person may spend in a day or month, and what happens when it is used up.

    Without `rules` those of before stay. Raises Forbidden without `budgets.manage`, InvalidInput per field.
    """
    actor.require("budgets.manage", "change budgets")
    if actor.org_id is None:
        raise InvalidInput("A budget belongs to an organization.")
    subject = subject.strip()
    _check_budget(amount, scope, subject, period)
    with transaction.atomic():
        mine = Budget.objects.visible_to(actor).filter(scope=scope, subject=subject, period=period)
        before = mine.select_for_update().first()
        told = rules.checked().to_settings() if rules else (before.settings if before else {})
        budget, _ = Budget.objects.visible_to(actor).update_or_create(
            scope=scope,
            subject=subject,
            period=period,
            defaults={"organization_id": actor.org_id, "amount": amount, "settings": told},
        )
        changes: dict[str, list[Any]] = {"amount": [str(before.amount) if before else None, str(amount)]}
        if rules and told != (before.settings if before else {}):
            changes["rules"] = [before.settings if before else None, told]
        audit.record(actor=actor, verb="budget.changed", target=budget, changes=changes)
        publish(budget.organization_id, "money")
        publish(budget.organization_id, "budgets")
    return budget


def _check_budget(amount: Decimal, scope: str, subject: str, period: str) -> None:
    errors: dict[str, list[str]] = {}
    if not Decimal(0) < amount < Decimal(10_000_000):
        errors["amount"] = ["Give an amount above zero and below ten million."]
    if scope not in SCOPES:
        errors["scope"] = [f"One of: {', '.join(SCOPES)}."]
    elif (scope == "organization") == bool(subject):
        errors["subject"] = ["Name the team or the person."] if not subject else ["Only a team or a person has a name."]
    if len(subject) > 80:
        errors["subject"] = ["At most 80 characters."]
    if period not in PERIODS:
        errors["period"] = [f"One of: {', '.join(PERIODS)}."]
    if errors:
        raise InvalidInput(errors=errors)


def remove_budget(*, actor: Actor, scope: str = "organization", subject: str = "", period: str = "day") -> bool:
    """Take DAILY SPEND away. False when there was none. Raises Forbidden without `budgets.manage`."""
    actor.require("budgets.manage", "change budgets")
    with transaction.atomic():
        budget = (
            Budget.objects.visible_to(actor)
            .select_for_update()
            .filter(scope=scope, subject=subject, period=period)
            .first()
        )
        if budget is None:
            return False
        audit.record(actor=actor, verb="budget.changed", target=budget, changes={"amount": [str(budget.amount), None]})
        organization_id = budget.organization_id
        Budget.objects.visible_to(actor).filter(id=budget.id).delete()
        publish(organization_id, "money")
        publish(organization_id, "budgets")
    return True
