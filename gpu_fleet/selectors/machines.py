"""Machines with what stands beside them on a card."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from core.actor import Actor
from core.errors import NotFound
from gpu_fleet.enums import HIBERNATE, RESOURCE, VIEW, WAKE, Side, SnapshotState
from gpu_fleet.models import FleetSettings, Machine, Rental, Snapshot, Standby
from operations.enums import ACTIVE
from operations.models import Duration, Operation


def list_machines(*, actor: Actor, ids: Collection[UUID] | None = None) -> list[Machine]:
    """Living machines by name; standbys stand with the machines that they stand by for, not here."""
    rows = Machine.objects.visible_to(actor).filter(gone_at=None, is_spare=False).select_related("account", "rental")
    return list((rows if ids is None else rows.filter(id__in=list(ids))).order_by("name"))


def active_operations(machine_ids: Collection[UUID]) -> dict[UUID, Operation]:
    """The operation under way on each machine."""
    rows = Operation.objects.all_orgs().filter(
        resource_kind=RESOURCE, resource_id__in=list(machine_ids), status__in=ACTIVE
    )
    return {row.resource_id: row for row in rows}


def learned_seconds(kind: str, subjects: Collection[str]) -> dict[str, float]:
    """Median of the newest successes for each subject that has any."""
    seen: dict[str, list[float]] = defaultdict(list)
    rows = Duration.objects.filter(kind=kind, subject__in=list(subjects)).order_by("-at")
    for subject, seconds in rows.values_list("subject", "seconds")[:400]:
        if len(seen[subject]) < 20:
            seen[subject].append(seconds)
    return {subject: statistics.median(found) for subject, found in seen.items()}


def serving_rental(*, machine: Machine) -> Rental | None:
    """Where people log in now: the machine's own rental, or its standby's while that serves."""
    rows = Standby.objects.for_org(machine.organization_id).select_related("spare__rental")
    standby = rows.filter(machine=machine, holder=Side.CPU, spare__isnull=False).first()
    found: Rental | None = standby.spare.rental if standby is not None and standby.spare else machine.rental
    return found


def last_race(*, machine: Machine) -> list[Rental]:
    """Every lane of the machine's newest race, in order of rounds."""
    rows = Rental.objects.for_org(machine.organization_id).filter(machine=machine)
    newest = rows.order_by("-intended_at").values_list("operation_id", flat=True).first()
    if newest is None:
        return []
    return list(rows.filter(operation_id=newest).order_by("round", "intended_at", "id"))


def list_snapshots(*, actor: Actor, machine_id: UUID | str | None = None) -> QuerySet[Snapshot]:
    """Snapshots that are there, newest first. Raises NotFound for a machine that the actor may not see."""
    actor.require(VIEW, "see snapshots")
    rows = Snapshot.objects.visible_to(actor).exclude(state=SnapshotState.DELETED).select_related("machine")
    if machine_id is not None:
        try:
            key = machine_id if isinstance(machine_id, UUID) else UUID(machine_id)
        except ValueError:
            raise NotFound("There is no such machine.") from None
        if not Machine.objects.visible_to(actor).filter(id=key).exists():
            raise NotFound("There is no such machine.")
        rows = rows.filter(machine_id=key)
    found: QuerySet[Snapshot] = rows.order_by("-created_at")
    return found


def get_settings(*, actor: Actor) -> FleetSettings:
    """The organization's settings; defaults, unsaved, when nobody has rented or changed anything yet."""
    actor.require(VIEW, "see the settings of the GPU fleet")
    found: FleetSettings | None = FleetSettings.objects.visible_to(actor).first()
    if found is not None:
        return found
    if actor.org_id is None:
        raise NotFound("Settings belong to an organization.")
    return FleetSettings(organization_id=actor.org_id)


def move_facts(*, machine: Machine) -> dict[str, Any]:
    """What a move copies and how long its two halves took before; null where nothing was measured."""
    newest = Snapshot.objects.for_org(machine.organization_id).filter(machine=machine, state=SnapshotState.VERIFIED)
    size = newest.order_by("-created_at").values_list("size", flat=True).first()
    subject = f"{machine.provider}/{machine.wanted.get('gpu_name') or 'any'}"[:120]
    down, up = (learned_seconds(kind, [subject]).get(subject) for kind in (HIBERNATE, WAKE))
    total = None if down is None or up is None else round(down + up)
    return {
        "size_bytes": size,
        "down_seconds": down,
        "up_seconds": up,
        "total_seconds": total,
        "basis": "measured" if total else "no_data",
    }
