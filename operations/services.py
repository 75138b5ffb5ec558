"""Requesting, cancelling and retrying operations. Every write is conditional, audited and published."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from audit import services as audit
from core import clock, hooks
from core.actor import Actor
from core.errors import Conflict, InvalidState, NotFound
from core.live import publish
from core.tasks import send_on_commit
from operations import registry
from operations.enums import ACTIVE, Status
from operations.models import Duration, Operation


def request_operation(
    *,
    actor: Actor,
    kind: str,
    resource_kind: str,
    resource_id: UUID,
    resource_label: str,
    payload: Mapping[str, Any] | None = None,
    organization_id: UUID | None = None,
    idempotency_key: str | None = None,
    reason: str = "",
    not_before: datetime | None = None,
    deadline_seconds: float | None = None,
    subject: str = "",
    retry_of: Operation | None = None,
) -> Operation:
    """Create a queued operation in the caller's transaction and hint a worker after commit.

    The same idempotency key returns the operation it made. Raises Conflict (with `operation` = its id) when another
    operation on the resource is active, or when the key made something else.
    """
    executor = registry.executor_for(kind)
    org_id = organization_id or actor.org_id
    if org_id is None:
        raise InvalidState("An operation needs an organization.")
    known = _known(org_id, idempotency_key, kind, resource_id)
    if known:
        return known
    moment = clock.now()
    operation = Operation(
        organization_id=org_id,
        kind=kind,
        queue=executor.queue,
        resource_kind=resource_kind,
        resource_id=resource_id,
        resource_label=resource_label[:300],
        payload=dict(payload or {}),
        max_attempts=executor.max_attempts,
        not_before=not_before or moment,
        deadline=moment + timedelta(seconds=deadline_seconds) if deadline_seconds else None,
        idempotency_key=idempotency_key or None,
        expected_seconds=expected_seconds(kind, subject) if subject else None,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_label=actor.label[:200],
        reason=reason[:300],
        request_id=actor.request_id,
        retry_of=retry_of,
        created_at=moment,
    )
    with transaction.atomic():
        try:
            with transaction.atomic():
                operation.save(force_insert=True)
        except IntegrityError:
            return _known_or_conflict(operation)
        audit.record(
            actor=actor,
            verb="operation.requested",
            target_kind=resource_kind,
            target_id=str(resource_id),
            target_label=resource_label,
            detail=f"{executor.label}{': ' + reason if reason else ''}",
            operation_id=operation.id,
            organization_id=org_id,
        )
        publish(org_id, "operations", [operation.id, operation.resource_id])
        hint(operation)
    return operation


def _known(org_id: Any, key: str | None, kind: str, resource_id: UUID) -> Operation | None:
    """The operation that the key made. Raises Conflict when it made another kind, or one on another resource."""
    known: Operation | None = Operation.objects.for_org(org_id).filter(idempotency_key=key).first() if key else None
    if known and (known.kind, known.resource_id) != (kind, resource_id):
        raise Conflict(
            "This idempotency key was used for something else.", code="idempotency_key_reused", operation=str(known.id)
        )
    return known


def _known_or_conflict(wanted: Operation) -> Operation:
    known = _known(wanted.organization_id, wanted.idempotency_key, wanted.kind, wanted.resource_id)
    if known:
        return known
    active = active_operation(wanted.resource_kind, wanted.resource_id)
    raise Conflict(
        f"{wanted.resource_label}: {active.kind if active else 'another operation'} is already under way.",
        code="operation_active",
        operation=str(active.id) if active else None,
    )


def hint(operation: Operation) -> None:
    """Tell a worker that the row is due; losing the message costs at most one sweep."""
    if operation.not_before <= clock.now() + timedelta(seconds=1):
        send_on_commit("operations.run", operation_id=str(operation.id))


def active_operation(resource_kind: str, resource_id: UUID) -> Operation | None:
    return (
        Operation.objects.all_orgs()
        .filter(resource_kind=resource_kind, resource_id=resource_id, status__in=ACTIVE)
        .first()
    )


def cancel_operation(*, actor: Actor, operation_id: UUID) -> Operation:
    """Ask an operation to stop. A queued one ends at once; a running one at its next step."""
    with transaction.atomic():
        operation = Operation.objects.visible_to(actor).select_for_update().filter(id=operation_id).first()
        if operation is None:
            raise NotFound
        actor.require(registry.executor_for(operation.kind).permission, "cancel this operation")
        if operation.is_final:
            raise InvalidState("It has already ended.")
        moment = clock.now()
        Operation.objects.all_orgs().filter(id=operation.id, cancel_requested_at=None).update(
            cancel_requested_at=moment
        )
        audit.record(
            actor=actor,
            verb="operation.cancel_requested",
            target=operation,
            operation_id=operation.id,
            organization_id=operation.organization_id,
        )
        operation.refresh_from_db()
        if operation.status == Status.QUEUED and not operation.state:
            finish(
                operation,
                Status.CANCELLED,
                error_code="cancelled",
                error=f"Cancelled by {actor.label} before it began.",
            )
        else:
            Operation.objects.all_orgs().filter(id=operation.id, status=Status.QUEUED).update(not_before=moment)
            operation.not_before = moment
            hint(operation)
            publish(operation.organization_id, "operations", [operation.id, operation.resource_id])
    operation.refresh_from_db()
    return operation


def retry_operation(*, actor: Actor, operation_id: UUID, idempotency_key: str | None = None) -> Operation:
    """Start a failed or cancelled operation anew as a new row that points to the old one.

    The same idempotency key returns the operation that the first call made.
    """
    old = Operation.objects.visible_to(actor).filter(id=operation_id).first()
    if old is None:
        raise NotFound
    actor.require(registry.executor_for(old.kind).permission, "retry this operation")
    if not old.can_retry:
        raise InvalidState("Only a failed or cancelled operation can be tried again.")
    return request_operation(
        actor=actor,
        kind=old.kind,
        resource_kind=old.resource_kind,
        resource_id=old.resource_id,
        resource_label=old.resource_label,
        payload=old.payload,
        organization_id=old.organization_id,
        reason=f"Retry: {old.reason}" if old.reason else "Retry",
        subject=registry.executor_for(old.kind).subject(old),
        idempotency_key=idempotency_key,
        retry_of=old,
    )


def finish(
    operation: Operation,
    status: Status,
    *,
    result: Mapping[str, Any] | None = None,
    error_code: str = "",
    error: str = "",
    next_step: str = "",
    tell_executor: bool = True,
) -> bool:
    """End an operation in one transaction with its resource's own change, its audit line and its learned duration.

    Conditional on the fence the caller holds: returns False, and changes nothing, when somebody else owns it now.
    `tell_executor=False` is for an operation whose executor is unknown or cannot bring its resource in line.
    """
    moment = clock.now()
    with transaction.atomic():
        won = (
            Operation.objects.all_orgs()
            .filter(id=operation.id, fence=operation.fence, status__in=ACTIVE)
            .update(
                status=status,
                finished_at=moment,
                result=dict(result or {}),
                error_code=error_code,
                error=error[:1000],
                next_step=next_step[:300],
                lease_owner="",
                lease_expires_at=None,
                **({"progress": 100} if status == Status.SUCCEEDED else {}),
            )
        )
        if not won:
            return False
        operation.refresh_from_db()
        executor = registry.find(operation.kind)
        if executor and tell_executor:
            executor.finished(operation)
            if status == Status.SUCCEEDED:
                learn(operation, executor.subject(operation))
        audit.record(
            actor=Actor.system("worker", operation.organization_id, operation.request_id),
            verb=f"operation.{status}",
            target_kind=operation.resource_kind,
            target_id=str(operation.resource_id),
            target_label=operation.resource_label,
            outcome="success" if status == Status.SUCCEEDED else "failed",
            detail=f"{executor.label if executor else operation.kind}{': ' + error if error else ''}",
            operation_id=operation.id,
        )
        _tell(operation, executor)
        publish(operation.organization_id, "operations", [operation.id, operation.resource_id])
    return True


def _tell(operation: Operation, executor: registry.Executor | None) -> None:
    """Failures that nobody else tells of, and sleeps that a schedule ordered."""
    facts = {
        "url": settings.CURFEW_BASE_URL + operation.get_absolute_url(),
        "dedupe_key": f"operation:{operation.id}",
        "organization_id": operation.organization_id,
    }
    if operation.status == Status.FAILED and getattr(executor, "announces_failure", True):
        hooks.notice.emit(
            event="operation.failed",
            subject=f"{operation.resource_label}: {executor.label if executor else operation.kind} failed",
            body=f"{operation.error} {operation.next_step}".strip(),
            **facts,
        )
    asked_by_schedule = operation.payload.get("cause") == "schedule"
    if operation.status == Status.SUCCEEDED and asked_by_schedule and getattr(executor, "puts_to_sleep", False):
        subject = f"{operation.resource_label} was put to sleep by its schedule"
        hooks.notice.emit(event="hibernation.slept", subject=subject, body=operation.reason, **facts)


def learn(operation: Operation, subject: str) -> None:
    """Keep how long a success took, for countdowns."""
    if not subject or not operation.started_at or not operation.finished_at:
        return
    seconds = (operation.finished_at - operation.started_at).total_seconds()
    Duration.objects.create(kind=operation.kind, subject=subject, seconds=seconds, at=operation.finished_at)
    stale = (
        Duration.objects.filter(kind=operation.kind, subject=subject)
        .order_by("-at")
        .values_list("id", flat=True)[50:100]
    )
    Duration.objects.filter(id__in=list(stale)).delete()


def expected_seconds(kind: str, subject: str, default: float | None = None) -> float | None:
    """Median of the newest twenty successes of the kind on the subject; `default` when there is none."""
    seen = Duration.objects.filter(kind=kind, subject=subject).order_by("-at").values_list("seconds", flat=True)[:20]
    return statistics.median(seen) if seen else default
