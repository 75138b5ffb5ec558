"""How changes of sides begin and end: the standby's row, people's notice and the audit log."""

from __future__ import annotations

from django.db import transaction

from audit import services as audit
from core import clock
from core.actor import Actor
from gpu_fleet.enums import Side, StandbyState
from gpu_fleet.models import Machine, Standby
from gpu_fleet.services import leases
from gpu_fleet.services.states import locked, tell_pages
from notifications import services as notifications
from operations.enums import Status
from operations.models import Operation

WORKER = "gpu_standby"


def begin(*, standby: Standby) -> None:
    """From now on nothing is renewed."""
    with transaction.atomic():
        leases.release(standby=standby)
        Standby.objects.for_org(standby.organization_id).filter(id=standby.id).update(state=StandbyState.SWITCHING)
        tell_pages(standby.machine)


def end(*, operation: Operation, target: Side) -> None:
    """In the transaction that ends a failover or failback."""
    rows = Standby.objects.for_org(operation.organization_id).select_related("machine")
    row = rows.filter(machine_id=operation.resource_id).first()
    if row is None:
        return
    machine = row.machine
    who = Actor.system(WORKER, row.organization_id, operation.request_id)
    if operation.status != Status.SUCCEEDED:
        if row.releasing:
            leases.keep(standby=row)
        _update(row, state=StandbyState.SERVING if row.holder == Side.CPU else StandbyState.READY)
        audit.record(
            actor=who, verb="gpu.switch_failed", target=machine, outcome="failed", detail=operation.error,
            operation_id=operation.id, organization_id=row.organization_id,
        )  # fmt: skip
        tell_pages(machine)
        return
    over = target == Side.CPU
    words = "" if row.serving else "It holds the lease, but its program did not start within half a minute."
    _update(row, state=StandbyState.SERVING if over else StandbyState.READY, error=words)
    if not over:
        _update(row, lost_at=None, lost_why="")
    audit.record(
        actor=who, verb="gpu.failed_over" if over else "gpu.failed_back", target=machine, detail=row.lost_why,
        operation_id=operation.id, organization_id=row.organization_id,
    )  # fmt: skip
    through = f"{row.pushed_through:%H:%M:%S} UTC" if row.pushed_through else "an unknown time"
    notifications.notify(
        event="node.lost",
        subject=f"{machine.name}: its standby serves" if over else f"{machine.name} serves again",
        body=f"It has the files as of {through}. {words}".strip(),
        organization_id=row.organization_id,
        dedupe_key=f"switch:{operation.id}",
    )
    tell_pages(machine)


def recovered(*, machine: Machine, operation: Operation) -> None:
    """There is a GPU again and the files are back; the standby still serves."""
    with transaction.atomic():
        row = locked(machine.id)
        if row is None:
            return
        row.restored = True
        row.save(update_fields=["restored"])
        audit.record(
            actor=Actor.system(WORKER, row.organization_id, operation.request_id),
            verb="gpu.recovered",
            target=row,
            operation_id=operation.id,
            organization_id=row.organization_id,
        )
        tell_pages(row)


def spare_is_up(*, spare: Machine) -> None:
    """The first copy may begin."""
    rows = Standby.objects.for_org(spare.organization_id).filter(spare=spare)
    rows.exclude(holder=Side.CPU).update(state=StandbyState.SYNCING, pull_error="", push_error="", error="")
    tell_pages(spare)


def note_lost(*, standby: Standby, why: str) -> None:
    """The machine that served is lost; people are told once."""
    now = clock.now()
    machine = standby.machine
    with transaction.atomic():
        _update(standby, lost_at=now, last_seen=standby.renewed_at, lost_why=why[:200])
        audit.record(
            actor=Actor.system(WORKER, standby.organization_id),
            verb="gpu.lost",
            target=machine if standby.holder == Side.GPU else standby.spare or machine,
            detail=why,
            organization_id=standby.organization_id,
        )
        ready = "Its standby takes over." if standby.auto_failover else "Its standby is ready; fail over by hand."
        notifications.notify(
            event="node.lost",
            subject=f"{machine.name}: {why}",
            body=ready if standby.holder == Side.GPU else "The standby that served is lost.",
            organization_id=standby.organization_id,
            dedupe_key=f"standby-lost:{standby.id}:{standby.epoch}",
        )
        tell_pages(machine)


def _update(row: Standby, **fields: object) -> None:
    Standby.objects.for_org(row.organization_id).filter(id=row.id).update(**fields)
    for name, value in fields.items():
        setattr(row, name, value)
