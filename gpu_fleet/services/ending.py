"""How operations end: the machine's row, its rental and the ledger in the transaction that ends them."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction

from audit import services as audit
from core import clock
from core.actor import Actor
from costs.enums import Phase
from gpu_fleet.enums import HIBERNATE, OPEN_LANES, WAKE, Desired, State
from gpu_fleet.idle import Sample
from gpu_fleet.models import Beat, Machine, Rental, Snapshot
from gpu_fleet.services import lanes
from gpu_fleet.services.hearing import sample_from
from gpu_fleet.services.settings import settings_of
from gpu_fleet.services.states import WATCHER, enter, failed, forget_error, locked, paused, settle, tell_pages
from operations.enums import Status
from operations.models import Operation

# Ends that are nobody's fault: the machine is simply still awake.
HARMLESS = frozenset({"came_to_life", "kept"})


def fell_asleep(*, machine: Machine, operation: Operation) -> None:
    """The provider has shown that the rental is gone: one transaction for rental, machine and ledger."""
    with transaction.atomic():
        row = locked(machine.id)
        if row is None or row.rental_id is None:
            return
        rental = Rental.objects.for_org(row.organization_id).select_related("machine").get(id=row.rental_id)
        lanes.gone(row=rental, at_least="Put to sleep")
        leave(row, source=f"{row.provider}: gone", operation=operation)
        row.save()
        tell_pages(row)
    lanes.revoke_tokens(machine=machine)


def turned(*, machine: Machine, operation: Operation, asleep: bool, dozed: Snapshot | None = None) -> None:
    """The provider shows that it is stopped, or runs again. `dozed` holds everything of a machine that was stopped: on
    the strength of it the machine is destroyed when its second timer is over."""
    with transaction.atomic():
        row = locked(machine.id)
        if row is not None and row.rental_id is not None:
            paused(row, operation, asleep=asleep)
            if asleep and dozed is not None:
                minutes = settings_of(row.organization_id).destroy_after_minutes
                row.dozed, row.destroy_at = dozed, clock.now() + timedelta(minutes=minutes)
            row.save()
            tell_pages(row)


def leave(row: Machine, *, source: str, operation: Operation | None) -> None:
    """The machine has no rental any more; the caller saves."""
    now = clock.now()
    who = Actor.system(WATCHER, row.organization_id)
    row.rental, row.provider_state, row.observed_at = None, "", now
    row.awake_since = row.heard_at = row.idle_since = row.sleep_at = row.missing_since = row.keep_awake_until = None
    row.dozed = row.destroy_at = None
    row.verdict = row.verdict_why = ""
    row.told = {}
    enter(row, Phase.ASLEEP, now, source=source, actor=who, operation=operation)


def end_for_good(*, machine: Machine, operation: Operation, actor: Actor) -> None:
    """The machine is no more; its history and snapshots stay. Inside the caller's transaction."""
    now = clock.now()
    if machine.gone_at is not None:
        return
    machine.gone_at, machine.desired_state = now, Desired.GONE
    enter(machine, Phase.GONE, now, source=f"{machine.provider}: destroyed", actor=actor, operation=operation)
    machine.save()
    audit.record(
        actor=actor,
        verb="gpu.destroyed",
        target=machine,
        operation_id=operation.id,
        organization_id=machine.organization_id,
    )
    tell_pages(machine)


def finish(*, operation: Operation) -> None:
    """Bring the row in line; called in the transaction that ends the operation."""
    row = locked(operation.resource_id)
    if row is None:
        return
    open_lanes = Rental.objects.for_org(row.organization_id).filter(operation_id=operation.id, lane__in=OPEN_LANES)
    lanes.close(rows=list(open_lanes.select_related("machine")), outcome="The race ended")
    if operation.status == Status.FAILED and operation.error_code not in HARMLESS:
        failed(row, operation)
    else:
        forget_error(row)
        if operation.status == Status.SUCCEEDED and operation.kind in (WAKE, HIBERNATE):
            _note_success(row, operation)
        row.desired_state = Desired.AWAKE if row.rental_id else Desired.ASLEEP
        settle(row, "", clock.now())
    if row.gone_at is not None:
        row.desired_state = Desired.GONE
    row.save()
    tell_pages(row)


def _note_success(row: Machine, operation: Operation) -> None:
    waking = operation.kind == WAKE
    row.cause = str(operation.payload.get("cause", "hand"))[:20]
    said = f": {operation.reason}" if operation.reason else ""
    row.cause_label = f"{'Woken' if waking else 'Put to sleep'} by {operation.actor_label}{said}"[:300]
    audit.record(
        actor=Actor.system("worker", row.organization_id, operation.request_id),
        verb="gpu.woke" if waking else "gpu.fell_asleep",
        target=row,
        detail=row.cause_label,
        operation_id=operation.id,
    )


def newest_evidence(machine: Machine) -> Sample | None:
    """The last heartbeat's evidence of this generation."""
    beats = Beat.objects.for_org(machine.organization_id).filter(machine=machine, generation=machine.generation)
    newest = beats.order_by("-at").first()
    return sample_from(newest.signals, newest.at) if newest is not None and newest.signals else None


def rental_vanished(*, machine: Machine, words: str) -> None:
    """The provider has shown twice that the machine's rental is gone, and nobody of us destroyed it."""
    with transaction.atomic():
        row = locked(machine.id)
        if row is None or row.rental_id is None:
            return
        rental = Rental.objects.for_org(row.organization_id).select_related("machine").get(id=row.rental_id)
        lanes.gone(row=rental, at_least=words)
        leave(row, source=f"{row.provider}: gone", operation=None)
        row.desired_state = Desired.ASLEEP
        row.error_code, row.error = "interrupted", words
        row.next_step = "Wake it: its last verified snapshot is brought back."
        row.observed_state, row.state_since = State.TROUBLE, clock.now()
        row.save()
        tell_pages(row)
