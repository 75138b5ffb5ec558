"""Writing the audit log. `record` must run inside the transaction of what it records: no record, no action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction

from audit import chain, verbs
from audit.enums import Outcome
from audit.models import AuditEntry, AuditHead
from audit.selectors import as_mapping
from core import clock, request_context
from core.actor import Actor
from core.live import publish
from core.redaction import redact_mapping, redact_text


def record(
    *,
    actor: Actor,
    verb: str,
    target: Any = None,
    target_kind: str = "",
    target_id: str = "",
    target_label: str = "",
    outcome: Outcome | str = Outcome.SUCCESS,
    changes: Mapping[str, Any] | None = None,
    detail: str = "",
    operation_id: UUID | None = None,
    organization_id: UUID | None = None,
) -> AuditEntry:
    """Append one entry to the organization's chain, within the caller's transaction.

    `target` may be a model instance (kind, id and label are taken from it). `changes` is `{field: [before, after]}`;
    secrets in it are masked by field name. Raises KeyError for an unregistered verb and RuntimeError outside a transaction.
    """
    verbs.get(verb)
    org_id = organization_id or actor.org_id
    if org_id is None:
        raise RuntimeError(f"audit verb {verb} without an organization")
    if not connection.in_atomic_block:
        raise RuntimeError("audit.record outside a transaction would not be bound to what it records")
    if target is not None:
        target_kind = target_kind or target._meta.model_name
        target_id = target_id or str(target.pk)
        target_label = target_label or str(target)
    head = _locked_head(org_id)
    moment = clock.now()
    entry = AuditEntry(
        organization_id=org_id,
        seq=head.seq + 1,
        at=moment.replace(microsecond=moment.microsecond // 1000 * 1000),
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_label=actor.label[:200],
        verb=verb,
        target_kind=target_kind,
        target_id=target_id,
        target_label=target_label[:300],
        outcome=Outcome(outcome),
        changes=redact_mapping(changes or {}),
        detail=redact_text(detail)[:2000],
        ip=actor.ip,
        user_agent=actor.user_agent[:300],
        request_id=actor.request_id or request_context.request_id.get(),
        operation_id=operation_id,
        prev_hash=head.hash,
    )
    entry.hash = chain.entry_hash(as_mapping(entry))
    entry.save(force_insert=True)
    head.seq, head.hash = entry.seq, entry.hash
    head.save(update_fields=["seq", "hash"])
    publish(org_id, "audit", [entry.id])
    return entry


def record_alone(**facts: Any) -> AuditEntry:
    """Record something that has no other write of its own (a denial, a sign-in failure)."""
    with transaction.atomic():
        return record(**facts)


def _locked_head(org_id: UUID) -> AuditHead:
    found = AuditHead.objects.select_for_update().filter(organization_id=org_id).first()
    if found:
        return found
    try:
        with transaction.atomic():
            AuditHead.objects.create(organization_id=org_id)
    except IntegrityError:
        pass  # another writer made it first; its row is the one to lock
    return AuditHead.objects.select_for_update().get(organization_id=org_id)
