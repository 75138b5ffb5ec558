"""Writing the audit log. `record` must run inside the transaction of what it records: no record, no action."""

from __future__ import annotations

import threading
import time
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

_lock = threading.Lock()
_newest = 0
_with_head: set[UUID] = set()


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
    alone: bool = False,
) -> AuditEntry:
    """Write one entry of the organization's log, within the caller's transaction. Waits for nobody.

    `target` may be a model instance (kind, id and label are taken from it). `changes` is `{field: [before, after]}`;
    secrets in it are masked by field name. The sealer gives the entry its line in the chain within seconds. Raises
    KeyError for an unregistered verb and RuntimeError outside a transaction, unless the entry stands `alone`.
    """
    verbs.get(verb)
    org_id = organization_id or actor.org_id
    if org_id is None:
        raise RuntimeError(f"audit verb {verb} without an organization")
    if not (connection.in_atomic_block or alone):
        raise RuntimeError("audit.record outside a transaction would not be bound to what it records")
    if target is not None:
        target_kind = target_kind or target._meta.model_name
        target_id = target_id or str(target.pk)
        target_label = target_label or str(target)
    _ensure_head(org_id)
    moment = clock.now()
    entry = AuditEntry(
        organization_id=org_id,
        seq=_next_seq(),
        at=moment.replace(microsecond=moment.microsecond // 1000 * 1000),
        actor_kind=actor.kind.value,
        actor_id=chain.text(actor.id)[:80],
        actor_label=chain.text(actor.label)[:200],
        verb=verb,
        target_kind=chain.text(target_kind)[:40],
        target_id=chain.text(target_id)[:80],
        target_label=chain.text(target_label)[:300],
        outcome=Outcome(outcome).value,
        changes=chain.plain(redact_mapping(changes or {})),
        detail=chain.text(redact_text(detail))[:2000],
        ip=chain.text(actor.ip)[:45],
        user_agent=chain.text(actor.user_agent)[:300],
        request_id=chain.text(actor.request_id or request_context.request_id.get())[:64],
        operation_id=operation_id,
    )
    content = as_mapping(entry)
    canonical = chain.canonical(content)
    entry.digest, entry.canonical, entry.words = chain.digest_of(canonical), canonical.decode(), chain.words(content)
    entry.save(force_insert=True)
    publish(org_id, "audit", [entry.id])
    return entry


def record_alone(**facts: Any) -> AuditEntry:
    """Record something that has no other write of its own (a denial, a sign-in failure): one statement, one commit."""
    return record(**facts, alone=True)


def _next_seq() -> int:
    """Microseconds of the wall clock, always more than the last time in this process."""
    global _newest
    with _lock:
        _newest = max(_newest + 1, time.time_ns() // 1000)
        return _newest


def _ensure_head(org_id: UUID) -> None:
    """The row that the sealer locks exists from the first entry on; later entries do not touch it."""
    if org_id in _with_head:
        return
    if not AuditHead.objects.filter(organization_id=org_id).exists():
        try:
            with transaction.atomic():
                AuditHead.objects.create(organization_id=org_id)
        except IntegrityError:
            pass  # another writer made it first
    transaction.on_commit(lambda: _with_head.add(org_id))
