"""Pausing everything at once, before an organization is closed."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from audit import services as audit
from core.actor import Actor
from core.live import publish
from hibernation.models import Assignment, Schedule
from hibernation.services.schedules import recalculate


def pause_all(*, actor: Actor, organization_id: UUID) -> int:
    """Turn every schedule of the organization off, so that nothing is put to sleep again; how many were on."""
    with transaction.atomic():
        running = list(Schedule.objects.for_org(organization_id).select_for_update().filter(enabled=True))
        for row in running:
            row.enabled = False
            row.save(update_fields=["enabled"])
            audit.record(actor=actor, verb="schedule.changed", target=row, changes={"enabled": [True, False]})
        if running:
            recalculate(Assignment.objects.for_org(organization_id).filter(schedule__in=running))
            publish(organization_id, "hibernation", [row.id for row in running])
    return len(running)
