"""Sealing: entries get their line in the chain, in the order in which they were written, by one sealer at a time.

A writer never waits for the chain. The sealer of an organization holds the row lock of its head for one batch only;
a second sealer of the same organization finds it locked and leaves. What it leaves is found by the next sweep.
"""

from __future__ import annotations

from uuid import UUID

from django.db import IntegrityError, connection, transaction

from audit import chain
from audit.models import AuditHead, AuditPending, AuditSeal
from core.live import publish

BATCH = 1000


def seal_all(*, batches: int = 50) -> int:
    """Seal what waits, in every organization; the number of sealed entries. One cheap query when nothing waits."""
    waiting = list(
        AuditPending.objects.all_orgs().order_by("organization_id").values_list("organization_id", flat=True).distinct()
    )
    return sum(seal_organization(organization_id=one, batches=batches) for one in waiting)


def seal_organization(*, organization_id: UUID, batches: int = 50) -> int:
    """Seal the waiting entries of one organization, up to `batches` times 1,000; 0 when another sealer is at it."""
    total = 0
    for _ in range(batches):
        done = _seal_batch(organization_id)
        total += done
        if done < BATCH:
            break
    return total


def _seal_batch(organization_id: UUID) -> int:
    with transaction.atomic():
        head = _locked_head(organization_id)
        if head is None:
            return 0
        waiting = list(
            AuditPending.objects.for_org(organization_id).order_by("id").values_list("id", "entry_id", "digest")[:BATCH]
        )
        if not waiting:
            return 0
        seals = []
        for _, entry_id, digest in waiting:
            line, previous = head.seq + 1, head.hash
            head.seq, head.hash = line, chain.link(str(organization_id), line, previous, digest)
            seals.append(
                AuditSeal(
                    organization_id=organization_id, entry_id=entry_id, line=line, prev_hash=previous, hash=head.hash
                )
            )
        AuditSeal.objects.for_org(organization_id).bulk_create(seals)
        AuditPending.objects.for_org(organization_id).filter(id__in=[row[0] for row in waiting])._raw_delete("default")
        head.save(update_fields=["seq", "hash"])
        publish(organization_id, "audit", [])
    return len(waiting)


def _locked_head(organization_id: UUID) -> AuditHead | None:
    """The head, locked; None while another sealer holds it."""
    rows = AuditHead.objects.filter(organization_id=organization_id)
    skip = connection.features.has_select_for_update_skip_locked
    head = rows.select_for_update(skip_locked=skip).first()
    if head is not None or rows.exists():
        return head
    try:
        with transaction.atomic():
            AuditHead.objects.create(organization_id=organization_id)
    except IntegrityError:
        return None  # another sealer made it and is at work
    return rows.select_for_update(skip_locked=skip).first()
