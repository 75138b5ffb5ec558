"""Checkpoints: what the head of a chain was, signed, and copied to the anchors outside the database."""

from __future__ import annotations

import logging
from uuid import UUID

from django.db import transaction

from audit import anchor_places, anchors, signing
from audit.models import AuditCheckpoint, AuditHead
from audit.selectors import iso
from core import clock

log = logging.getLogger(__name__)


def make_checkpoint(*, organization_id: UUID) -> AuditCheckpoint | None:
    """Sign the head if it moved since the last checkpoint; the newest checkpoint, None for a chain without lines.

    The anchor is written after commit; a disk that refuses it is logged and the next sweep tries again.
    """
    with transaction.atomic():
        head = AuditHead.objects.select_for_update().filter(organization_id=organization_id).first()
        if head is None or head.seq == 0:
            return None
        newest = AuditCheckpoint.objects.for_org(organization_id).order_by("-line").first()
        if newest is None or newest.line < head.seq:
            moment = clock.now()
            at = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
            message = signing.statement("checkpoint", str(organization_id), head.seq, head.hash, iso(at))
            key_id, signature = signing.ring().sign(message)
            newest = AuditCheckpoint.objects.for_org(organization_id).create(
                organization_id=organization_id,
                line=head.seq,
                hash=head.hash,
                at=at,
                key_id=key_id,
                signature=signature,
            )
        made = newest
        transaction.on_commit(lambda: _anchor(made))
    return made


def checkpoint_all() -> int:
    """A checkpoint for each chain; the number of chains. Anchors that could not be written before are written now."""
    heads = list(
        AuditHead.objects.filter(seq__gt=0).order_by("organization_id").values_list("organization_id", flat=True)
    )
    for organization_id in heads:
        make_checkpoint(organization_id=organization_id)
    return len(heads)


def as_anchor(checkpoint: AuditCheckpoint) -> anchors.Anchor:
    """The checkpoint as it stands outside the database."""
    return anchors.Anchor(
        str(checkpoint.organization_id),
        checkpoint.line,
        checkpoint.hash,
        iso(checkpoint.at),
        checkpoint.key_id,
        checkpoint.signature,
    )


def _anchor(checkpoint: AuditCheckpoint) -> None:
    anchor = as_anchor(checkpoint)
    try:
        known, _ = anchors.read(checkpoint.organization_id)
        if not known or known[-1].line < anchor.line:
            anchors.append(anchor)
        anchor_places.send(checkpoint.organization_id)
    except OSError:
        log.exception("audit_anchor_not_written", extra={"organization": anchor.organization, "line": anchor.line})
