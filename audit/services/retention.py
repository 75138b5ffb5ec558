"""Retention: old lines go only behind an anchored checkpoint, never under a legal hold, and the chain stays verifiable."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from audit import anchors, signing
from audit.models import AuditCheckpoint, AuditEntry, AuditPurge, AuditSeal, AuditSettings, Sink
from audit.selectors import iso
from audit.services.recording import record
from core import clock
from core.actor import Actor
from core.errors import Forbidden, InvalidInput

log = logging.getLogger(__name__)
SHORTEST_DAYS, LONGEST_DAYS = 30, 3650
BATCH = 2000


def change_settings(
    *, actor: Actor, retention_days: int | None, legal_hold: bool, hold_reason: str = ""
) -> AuditSettings:
    """Keep the log for so many days (None: for ever) and set or lift a legal hold, which needs a reason. Recorded."""
    actor.require("audit.manage", "change how long the audit log is kept")
    if actor.org_id is None:
        raise Forbidden("Act in one organization to change its settings.")
    errors: dict[str, list[str]] = {}
    if retention_days is not None and not SHORTEST_DAYS <= retention_days <= LONGEST_DAYS:
        errors["retention_days"] = [f"Keep the log {SHORTEST_DAYS} to {LONGEST_DAYS} days, or for ever."]
    if legal_hold and not hold_reason.strip():
        errors["hold_reason"] = ["Say what the hold is for."]
    if errors:
        raise InvalidInput(errors=errors)
    wanted = {
        "retention_days": retention_days,
        "legal_hold": legal_hold,
        "hold_reason": hold_reason.strip()[:300] if legal_hold else "",
    }
    with transaction.atomic():
        found, _ = (
            AuditSettings.objects.for_org(actor.org_id).select_for_update().get_or_create(organization_id=actor.org_id)
        )
        changes = {
            name: [getattr(found, name), value] for name, value in wanted.items() if getattr(found, name) != value
        }
        if changes:
            for name, value in wanted.items():
                setattr(found, name, value)
            found.save(update_fields=list(wanted))
            record(
                actor=actor,
                verb="audit.settings_changed",
                target_kind="audit",
                target_label="Audit log",
                changes=changes,
            )
    return found


def settings_of(organization_id: UUID) -> AuditSettings:
    """The settings, or the default (for ever, no hold) unsaved."""
    return AuditSettings.objects.for_org(organization_id).first() or AuditSettings(organization_id=organization_id)


def purge_all() -> int:
    """Remove what each organization no longer keeps; the number of removed lines."""
    wanted = AuditSettings.objects.all_orgs().filter(retention_days__isnull=False, legal_hold=False)
    return sum(purge(organization_id=one) for one in list(wanted.values_list("organization_id", flat=True)))


def purge(*, organization_id: UUID) -> int:
    """Remove the lines older than the retention, up to the newest anchored checkpoint among them; their number.

    First the signed purge row, in which the database triggers see that the lines may go; then the lines, in batches. A
    purge that was interrupted goes on with the next one. Nothing goes that an enabled destination has not confirmed.
    """
    settings = settings_of(organization_id)
    if settings.legal_hold:
        return 0
    if settings.retention_days is not None:
        _allow(organization_id, settings.retention_days)
    newest = AuditPurge.objects.for_org(organization_id).order_by("-line").first()
    return _remove_up_to(organization_id, newest.line) if newest else 0


def _allow(organization_id: UUID, days: int) -> None:
    cutoff = clock.now() - timedelta(days=days)
    seals = AuditSeal.objects.for_org(organization_id)
    kept = seals.filter(entry__at__gte=cutoff).order_by("line").values_list("line", flat=True).first()
    confirmed = (
        Sink.objects.for_org(organization_id)
        .filter(enabled=True)
        .order_by("line")
        .values_list("line", flat=True)
        .first()
    )
    outside = {(a.line, a.hash) for a in anchors.read(organization_id)[0]}
    points = AuditCheckpoint.objects.for_org(organization_id).order_by("-line")
    if kept is not None:
        points = points.filter(line__lt=kept)
    if confirmed is not None:
        points = points.filter(line__lte=confirmed)
    point = next((p for p in points if (p.line, p.hash) in outside), None)
    if point is None or not seals.filter(line=point.line, hash=point.hash).exists():
        return
    moment = clock.now()
    at = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    with transaction.atomic():
        key_id, signature = signing.ring().sign(
            signing.statement("purge", str(organization_id), point.line, point.hash, iso(at))
        )
        AuditPurge.objects.for_org(organization_id).create(
            organization_id=organization_id, line=point.line, hash=point.hash, at=at, key_id=key_id, signature=signature
        )
        actor = Actor.system("retention", organization_id)
        record(
            actor=actor,
            verb="audit.purged",
            target_kind="audit",
            target_label=f"up to line {point.line}",
            detail=f"older than {days} days",
        )


def _remove_up_to(organization_id: UUID, line: int) -> int:
    total = 0
    while True:
        with transaction.atomic():
            old = (
                AuditSeal.objects.for_org(organization_id)
                .filter(line__lte=line)
                .order_by("line")
                .values_list("line", flat=True)[:BATCH]
            )
            lines = list(old)
            if not lines:
                return total
            seals = AuditSeal.objects.for_org(organization_id).filter(line__lte=lines[-1])
            ids = list(seals.values_list("entry_id", flat=True))
            AuditEntry.objects.for_org(organization_id).filter(id__in=ids)._raw_delete("default")
            seals._raw_delete("default")
        total += len(lines)
