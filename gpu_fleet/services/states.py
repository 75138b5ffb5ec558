"""The one place where a machine's row, the ledger and the open pages change together."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from audit import services as audit
from core import clock
from core.actor import Actor
from core.live import publish
from costs import services as costs
from costs.enums import Phase
from gpu_fleet.enums import (
    DESTROY,
    DOZE,
    HEARTBEAT_SECONDS,
    HIBERNATE,
    LOSER,
    LOST_BEATS,
    MIGRATE,
    PAUSE,
    RECOVER,
    RELEASE,
    RESOURCE,
    RESUME,
    TOPIC,
    WAKE,
    Desired,
    State,
)
from gpu_fleet.models import Machine, Rental
from notifications import services as notifications
from operations.models import Operation

WATCHER = "gpu_watcher"
# A destroyed rental costs nothing; what its snapshot costs to store is not in this figure.
NO_COMPUTE_ASLEEP = Decimal(0)
LOST_AFTER = timedelta(seconds=HEARTBEAT_SECONDS * LOST_BEATS)


def locked(machine_id: UUID) -> Machine | None:
    """The row, held until the transaction ends."""
    found: Machine | None = Machine.objects.all_orgs().select_for_update().filter(id=machine_id).first()
    return found


def state_of(machine: Machine, operation_kind: str, now: datetime) -> State:
    """The word of the interface. Asleep on purpose is never Lost, and Lost is never Asleep."""
    if operation_kind in (WAKE, MIGRATE, RESUME, RECOVER):
        return State.WAKING
    if operation_kind in (HIBERNATE, DESTROY, PAUSE, RELEASE, DOZE):
        return State.FALLING
    if machine.error_code:
        return State.TROUBLE
    if machine.rental_id is None:
        return State.ASLEEP
    if machine.missing_since or machine.provider_state in ("offline", "dead"):
        return State.LOST
    if machine.provider_state == "stopped":  # by us, else it was taken from us
        return State.ASLEEP if machine.phase == Phase.ASLEEP else State.LOST
    heard = machine.heard_at or machine.awake_since
    return State.LOST if heard is None or now - heard > LOST_AFTER else State.AWAKE


def settle(machine: Machine, operation_kind: str, now: datetime) -> bool:
    """Set the word; True when it changed. The caller saves."""
    word = state_of(machine, operation_kind, now)
    if word == machine.observed_state:
        return False
    machine.observed_state, machine.state_since = word, now
    return True


def forget_error(machine: Machine) -> None:
    machine.error_code = machine.error = machine.next_step = ""


def enter(
    machine: Machine, phase: Phase, at: datetime, *, source: str, actor: Actor, operation: Operation | None = None
) -> None:
    """Append a ledger event when the phase changes; the caller saves the row."""
    if machine.phase == phase or (phase is Phase.GONE and not machine.phase):
        return
    moment = max(at, machine.phase_at or at)
    machine.phase, machine.phase_at, machine.phase_seq = phase, moment, machine.phase_seq + 1
    costs.record_event(
        actor=actor,
        organization_id=machine.organization_id,
        resource_kind=RESOURCE,
        resource_id=machine.id,
        resource_label=machine.name,
        phase=phase,
        at=moment,
        key=f"{machine.phase_seq}:{phase.value}",
        source=source,
        operation_id=operation.id if operation else None,
        cause=(str(operation.payload.get("cause", "hand")) if operation else "outside")[:20],
        person=operation.actor_label if operation else "",
    )


def price(machine: Machine, rental: Rental, at: datetime, actor: Actor) -> None:
    """From this rental on the machine costs so much; asleep (destroyed) it costs no compute. The caller saves."""
    source = f"offer {rental.offer_id} at {rental.provider}"
    machine.hourly_cost, machine.hourly_cost_source = rental.hourly, source[:200]
    costs.set_price(
        actor=actor,
        organization_id=machine.organization_id,
        resource_kind=RESOURCE,
        resource_id=machine.id,
        resource_label=machine.name,
        awake=rental.hourly,
        asleep=NO_COMPUTE_ASLEEP,
        source=source,
        valid_from=at,
    )


def paused(machine: Machine, operation: Operation, *, asleep: bool) -> None:
    """Stopped with its disk kept, or going on: the ledger and the row; inside the caller's transaction, which saves."""
    now, actor = clock.now(), Actor.system(WATCHER, machine.organization_id)
    rental = machine.rental
    if rental is None:
        return
    costs.set_price(
        actor=actor,
        organization_id=machine.organization_id,
        resource_kind=RESOURCE,
        resource_id=machine.id,
        resource_label=machine.name,
        awake=rental.hourly,
        asleep=rental.stopped_hourly if asleep else NO_COMPUTE_ASLEEP,
        source=f"offer {rental.offer_id} at {rental.provider}",
        valid_from=now,
    )
    phase = Phase.ASLEEP if asleep else Phase.AWAKE
    enter(machine, phase, now, source=f"{machine.provider}: {phase.value}", actor=actor, operation=operation)
    machine.provider_state, machine.observed_at = ("stopped" if asleep else "running"), now
    machine.idle_since = machine.sleep_at = None
    if not asleep:
        machine.dozed = machine.destroy_at = None
        machine.awake_since = machine.heard_at = now


def book_loser(rental: Rental, machine_name: str, *, began: datetime, ended: datetime | None, actor: Actor) -> None:
    """What a lost lane cost, as an interval of its own: from the moment it ran until it was proven gone."""
    facts: dict[str, Any] = {
        "actor": actor,
        "organization_id": rental.organization_id,
        "resource_kind": LOSER,
        "resource_id": rental.id,
        "resource_label": f"{machine_name}: lost race at host {rental.host_id}",
    }
    costs.set_price(
        **facts,
        awake=rental.hourly,
        asleep=rental.stopped_hourly,
        source=f"offer {rental.offer_id} at {rental.provider}",
        valid_from=began,
    )
    common = {**facts, "source": rental.provider, "cause": "race", "operation_id": rental.operation_id}
    costs.record_event(**common, phase=Phase.AWAKE, at=began, key="1:awake")
    if ended is not None and ended > began:
        costs.record_event(**common, phase=Phase.GONE, at=ended, key="2:gone")


def mark_lost(*, machine: Machine, why: str, event: str = "gpu.lost") -> None:
    """Tell people, once, that a machine is lost; inside the caller's transaction, which saves the row."""
    audit.record(
        actor=Actor.system(WATCHER, machine.organization_id),
        verb=event,
        target=machine,
        detail=why,
        organization_id=machine.organization_id,
    )
    notifications.notify(
        event="node.lost",
        subject=f"{machine.name}: {why}",
        body="Its last verified snapshot is kept. It may still be billed until it is destroyed.",
        organization_id=machine.organization_id,
        dedupe_key=f"gpu:{machine.id}:{machine.generation}:{event}",
    )


def tell_pages(machine: Machine) -> None:
    publish(machine.organization_id, TOPIC, [machine.id])


def failed(machine: Machine, operation: Operation) -> None:
    """An operation could not do it: keep its words on the row. The caller settles and saves."""
    machine.error_code = operation.error_code[:60] or "failed"
    machine.error, machine.next_step = operation.error, operation.next_step
    verb = {WAKE: "gpu.wake_failed", HIBERNATE: "gpu.sleep_failed"}.get(operation.kind)
    if verb:
        audit.record(
            actor=Actor.system("worker", machine.organization_id, operation.request_id),
            verb=verb,
            target=machine,
            outcome="failed",
            detail=operation.error,
            operation_id=operation.id,
        )
        notifications.notify(
            event="operation.failed",
            subject=f"{machine.name}: {operation.error[:120]}",
            body=operation.next_step,
            organization_id=machine.organization_id,
            dedupe_key=f"operation:{operation.id}",
        )
    machine.desired_state = Desired.AWAKE if machine.rental_id else Desired.ASLEEP
    settle(machine, "", clock.now())
