"""Asking for machines: deploy, wake, hibernate, snapshot, restore, destroy, keep awake. Each is one transaction."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts.models import CloudAccount
from audit import services as audit
from core import clock, encryption
from core.actor import Actor
from core.errors import Conflict, InvalidInput, InvalidState, NotFound
from costs import budgets
from gpu_fleet.enums import (
    DESTROY,
    DONE_LANES,
    DOZE,
    FAILBACK,
    FAILOVER,
    HIBERNATE,
    MANAGE,
    MIGRATE,
    OPERATE,
    PAUSE,
    RECOVER,
    RELEASE,
    RESOURCE,
    RESTORE,
    RESUME,
    SNAPSHOT,
    WAKE,
    Desired,
    Side,
    SnapshotState,
)
from gpu_fleet.models import Machine, Rental, Snapshot, Standby
from gpu_fleet.providers.registry import GPU_PROVIDERS
from gpu_fleet.services.settings import settings_of
from gpu_fleet.services.states import forget_error, locked, settle, tell_pages
from gpu_fleet.wanted import Wanted
from operations import services as operations
from operations.models import Operation

DEADLINES = {
    WAKE: 3 * 3600,
    HIBERNATE: 6 * 3600,
    SNAPSHOT: 6 * 3600,
    RESTORE: 6 * 3600,
    DESTROY: 3600,
    MIGRATE: 9 * 3600,
    PAUSE: 900,
    RESUME: 900,
    DOZE: 6 * 3600,
    FAILOVER: 1800,
    FAILBACK: 3600,
    RECOVER: 6 * 3600,
    RELEASE: 3600,
}
VERBS = {
    WAKE: "gpu.wake_requested",
    HIBERNATE: "gpu.sleep_requested",
    SNAPSHOT: "gpu.snapshot_requested",
    RESTORE: "gpu.restore_requested",
    DESTROY: "gpu.destroy_requested",
    MIGRATE: "gpu.migrate_requested",
    PAUSE: "gpu.pause_requested",
    RESUME: "gpu.resume_requested",
    DOZE: "gpu.doze_requested",
    FAILOVER: "gpu.failover_requested",
    FAILBACK: "gpu.failback_requested",
    RECOVER: "gpu.recover_requested",
    RELEASE: "gpu.standby_release_requested",
}
# What a used-up budget may refuse. Whatever brings back a machine that was lost is not among it.
STARTS = frozenset({WAKE, RESUME})
LONGEST_KEEP = timedelta(days=7)
ROW = ("desired_state", "observed_state", "state_since", "error_code", "error", "next_step")
# Machines of the sandbox are a story that was played: nothing wakes them, and no repository is behind their snapshots.
_rehearsing: ContextVar[bool] = ContextVar("gpu_rehearsal", default=False)
PLAYED = "This machine is part of the demo's simulated history. Deploy one on Docker to see it live."
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,58}[a-z0-9]?")


@contextmanager
def rehearsal() -> Iterator[None]:
    """Machines of a sandbox account may be asked for and moved within; for the demo, which plays their history."""
    token = _rehearsing.set(True)
    try:
        yield
    finally:
        _rehearsing.reset(token)


def refuse_played(machine: Machine) -> None:
    """Raise InvalidState for a machine of the sandbox."""
    if machine.account.is_sandbox and not _rehearsing.get():
        raise InvalidState(PLAYED, code="simulated")


def create_machine(
    *,
    actor: Actor,
    name: str,
    account_id: UUID | str,
    wanted: Mapping[str, Any],
    auto_sleep: bool = True,
    idle_minutes: float | None = None,
    idempotency_key: str | None = None,
) -> tuple[Machine, Operation]:
    """Write down a machine and begin its race. Raises Forbidden without `gpu.manage`, InvalidInput, NotFound,
    QuotaExceeded when a budget is used up."""
    actor.require(MANAGE, "rent machines")
    made = _made_before(actor, idempotency_key)
    if made is not None:
        return made
    looked_for = Wanted.of(wanted)
    account = CloudAccount.objects.visible_to(actor).filter(id=account_id).exclude(method="").first()
    if account is None:
        raise NotFound("There is no such cloud account.")
    errors: dict[str, list[str]] = {}
    if account.provider not in GPU_PROVIDERS:
        errors["account_id"] = ["Choose a Vast.ai, Docker, AWS or Google Cloud account."]
    elif account.is_sandbox and not _rehearsing.get():
        errors["account_id"] = ["Machines of the sandbox let nobody log in. Connect the Docker engine of this server."]
    if not _NAME.fullmatch(name):
        errors["name"] = ["Small letters, digits and hyphens, at most 60."]
    if idle_minutes is not None and not 1 <= idle_minutes <= 1440:
        errors["idle_minutes"] = ["Between 1 and 1440 minutes."]
    if errors:
        raise InvalidInput(errors=errors)
    settings_of(account.organization_id)
    now = clock.now()
    machine = Machine(
        organization_id=account.organization_id,
        name=name,
        account=account,
        provider=account.provider,
        wanted=looked_for.as_json(),
        auto_sleep=auto_sleep,
        idle_minutes=idle_minutes,
        created_at=now,
        state_since=now,
    )
    machine.sealed = encryption.seal({"password": secrets.token_urlsafe(32)}, bound_to=machine.seal_name)
    budgets.require_room(organization_id=machine.organization_id, person=actor.label)
    try:
        with transaction.atomic():
            machine.save(force_insert=True)
            audit.record(
                actor=actor,
                verb="gpu.machine_created",
                target=machine,
                changes={"wanted": [None, looked_for.as_json()]},
                organization_id=machine.organization_id,
            )
            operation = _order(actor, machine, WAKE, "", idempotency_key, "hand", {})
    except IntegrityError:
        raise InvalidInput(errors={"name": ["Another machine has this name."]}) from None
    return machine, operation


def _made_before(actor: Actor, key: str | None) -> tuple[Machine, Operation] | None:
    if not key:
        return None
    operation = Operation.objects.visible_to(actor).filter(idempotency_key=key).first()
    if operation is None:
        return None
    machine = Machine.objects.visible_to(actor).filter(id=operation.resource_id).first()
    if machine is None or operation.kind != WAKE:
        raise Conflict("This Idempotency-Key was used for something else.", code="idempotency_key_reused")
    return machine, operation


def find_machine(*, actor: Actor, machine_id: UUID | str) -> Machine:
    """A living machine that the actor may see, by id or name. Raises NotFound, also for another organization's."""
    actor.require("gpu.view", "see GPU machines")
    rows = Machine.objects.visible_to(actor).filter(gone_at=None).select_related("account", "rental")
    try:
        found = rows.filter(id=machine_id if isinstance(machine_id, UUID) else UUID(str(machine_id))).first()
    except ValueError:
        found = rows.filter(name=str(machine_id)).first()
    if found is None:
        raise NotFound("There is no such machine.")
    machine: Machine = found
    return machine


def request_wake(
    *, actor: Actor, machine_id: UUID | str, reason: str = "", idempotency_key: str | None = None, cause: str = "hand"
) -> Operation:
    """Ask for a machine to be woken; a wake under way is returned. One that is only stopped goes on where it is.

    Raises InvalidState when it is awake, QuotaExceeded when a budget is used up.
    """
    actor.require(OPERATE, "wake GPU machines")
    machine = find_machine(actor=actor, machine_id=machine_id)
    kind = RESUME if machine.rental_id is not None and machine.provider_state == "stopped" else WAKE
    return _asked(actor, machine, kind, reason, idempotency_key, cause, {})


def request_hibernate(
    *, actor: Actor, machine_id: UUID | str, reason: str = "", idempotency_key: str | None = None, cause: str = "hand"
) -> Operation:
    """Ask for a machine to be backed up, proven and destroyed; one under way is returned."""
    actor.require(OPERATE, "put GPU machines to sleep")
    machine = find_machine(actor=actor, machine_id=machine_id)
    return _asked(actor, machine, HIBERNATE, reason, idempotency_key, cause, {})


def request_doze(
    *, actor: Actor, machine_id: UUID | str, reason: str = "", idempotency_key: str | None = None, cause: str = "hand"
) -> Operation:
    """Ask for a machine to be backed up, proven and stopped with its disk kept; it is destroyed later, by the clock."""
    actor.require(OPERATE, "put GPU machines to sleep")
    machine = find_machine(actor=actor, machine_id=machine_id)
    return _asked(actor, machine, DOZE, reason, idempotency_key, cause, {})


def request_snapshot(
    *, actor: Actor, machine_id: UUID | str, reason: str = "", idempotency_key: str | None = None
) -> Operation:
    """Ask for a verified snapshot; the machine stays awake."""
    actor.require(OPERATE, "take snapshots")
    machine = find_machine(actor=actor, machine_id=machine_id)
    return _asked(actor, machine, SNAPSHOT, reason, idempotency_key, "hand", {})


def request_restore(
    *, actor: Actor, machine_id: UUID | str, snapshot_id: UUID | str, idempotency_key: str | None = None
) -> Operation:
    """Ask for a verified snapshot, also of another machine, to be brought into an awake one.

    Raises InvalidState when the machine does not save the folders that are in it: they would be lost with it.
    """
    actor.require(OPERATE, "restore snapshots")
    machine = find_machine(actor=actor, machine_id=machine_id)
    snapshot = Snapshot.objects.visible_to(actor).filter(id=snapshot_id).first()
    if snapshot is None:
        raise NotFound("There is no such snapshot.")
    if not set(snapshot.paths) <= set(machine.wanted.get("paths") or ["/workspace"]):
        raise InvalidState(f"{machine.name} does not save {' '.join(snapshot.paths)}.", code="other_folders")
    if snapshot.state != SnapshotState.VERIFIED:
        raise InvalidState("Only a verified snapshot is restored.")
    return _asked(actor, machine, RESTORE, "", idempotency_key, "hand", {"snapshot": str(snapshot.id)})


def request_destroy(
    *, actor: Actor, machine_id: UUID | str, name: str = "", reason: str = "", idempotency_key: str | None = None
) -> Operation:
    """Ask for a machine to be destroyed without a backup. `name` repeats its name, as this cannot be undone."""
    actor.require(MANAGE, "destroy GPU machines")
    machine = find_machine(actor=actor, machine_id=machine_id)
    if name != machine.name:
        raise InvalidInput(errors={"name": [f"Type the machine's name, {machine.name}, to destroy it."]})
    if Standby.objects.for_org(machine.organization_id).filter(machine=machine, holder=Side.CPU).exists():
        raise InvalidState("Its standby serves. Bring the GPU machine back first.", code="serving")
    return _asked(actor, machine, DESTROY, reason, idempotency_key, "hand", {})


def request_pause(
    *, actor: Actor, machine_id: UUID | str, reason: str = "", idempotency_key: str | None = None
) -> Operation:
    """Ask for a machine to be stopped where it is: its disk stays and, at most providers, goes on costing."""
    actor.require(OPERATE, "pause GPU machines")
    machine = find_machine(actor=actor, machine_id=machine_id)
    return _asked(actor, machine, PAUSE, reason, idempotency_key, "hand", {})


def request_resume(
    *, actor: Actor, machine_id: UUID | str, reason: str = "", idempotency_key: str | None = None
) -> Operation:
    """Ask for a paused machine to go on. It fails when its GPU was given away meanwhile."""
    actor.require(OPERATE, "resume GPU machines")
    machine = find_machine(actor=actor, machine_id=machine_id)
    return _asked(actor, machine, RESUME, reason, idempotency_key, "hand", {})


def request_migrate(
    *,
    actor: Actor,
    machine_id: UUID | str,
    wanted: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Operation:
    """Ask for a machine to move to another host, or to another GPU by `wanted`: snapshot, proof, race, restore."""
    actor.require(OPERATE, "migrate GPU machines")
    machine = find_machine(actor=actor, machine_id=machine_id)
    if wanted:
        actor.require(MANAGE, "change what a machine wants")
    with transaction.atomic():
        operation = _asked(actor, machine, MIGRATE, "", idempotency_key, "hand", {"from": machine.generation})
        if wanted:
            change_machine(actor=actor, machine_id=machine.id, wanted=wanted)
    return operation


def ask(
    *, actor: Actor, machine: Machine, kind: str, reason: str, key: str | None, cause: str, more: Mapping[str, Any]
) -> Operation:
    """Order an operation on a machine unless one of its kind is under way; the caller has checked the right."""
    return _asked(actor, machine, kind, reason, key, cause, more)


def _asked(
    actor: Actor, machine: Machine, kind: str, reason: str, key: str | None, cause: str, more: Mapping[str, Any]
) -> Operation:
    if kind != DESTROY:
        refuse_played(machine)
    with transaction.atomic():
        row = locked(machine.id)
        if row is None or row.gone_at is not None:
            raise NotFound("There is no such machine.")
        active = operations.active_operation(RESOURCE, row.id)
        if active is not None and active.kind == kind and active.cancel_requested_at is None:
            return active
        if active is not None:
            raise Conflict(
                f"{row.name}: {active.kind.partition('.')[2]} is under way. Wait for it, or cancel it first.",
                code="operation_active",
                operation=str(active.id),
            )
        _refuse(row, kind)
        if kind in STARTS:
            budgets.require_room(organization_id=row.organization_id, person=actor.label)
        return _order(actor, row, kind, reason, key, cause, more)


def _refuse(row: Machine, kind: str) -> None:
    awake = row.rental_id is not None
    if kind in (FAILOVER, FAILBACK, RECOVER, RELEASE):
        return  # its caller has looked at both sides
    if row.is_spare and kind not in (WAKE, DESTROY):
        raise InvalidState(f"{row.name} is a standby: order this of its machine.", code="is_standby")
    if kind != DESTROY and row.standby_serves():
        raise InvalidState(
            f"The standby of {row.name} serves in its place. Bring the machine back first.", code="standby_serves"
        )
    if kind == WAKE and awake:
        raise InvalidState(f"{row.name} is awake.", code="already_awake")
    if kind in (HIBERNATE, SNAPSHOT, RESTORE, MIGRATE, PAUSE, RESUME, DOZE) and not awake:
        raise InvalidState(f"{row.name} is asleep.", code="already_asleep")
    paused = row.provider_state == "stopped"
    if paused and kind not in (RESUME, DESTROY) and not (kind == HIBERNATE and row.dozed_id):
        raise InvalidState(f"{row.name} is paused. Resume it first.", code="paused")
    if kind == RESUME and not paused:
        raise InvalidState(f"{row.name} is not paused.", code="not_paused")
    if kind in (HIBERNATE, SNAPSHOT, MIGRATE, DOZE) and not row.restored:
        raise InvalidState(
            f"The files of {row.name} were not proven to be back, so nothing is backed up from it. Restore it first.",
            code="not_restored",
        )


def _order(
    actor: Actor, row: Machine, kind: str, reason: str, key: str | None, cause: str, more: Mapping[str, Any]
) -> Operation:
    subject = subject_of(row)
    operation = operations.request_operation(
        actor=actor,
        kind=kind,
        resource_kind=RESOURCE,
        resource_id=row.id,
        resource_label=row.name,
        payload={"cause": cause, "subject": subject, **more},
        organization_id=row.organization_id,
        idempotency_key=key,
        reason=reason,
        subject=subject,
        deadline_seconds=DEADLINES[kind],
    )
    if kind in (WAKE, HIBERNATE, DESTROY):
        row.desired_state = {WAKE: Desired.AWAKE, HIBERNATE: Desired.ASLEEP}.get(kind, Desired.GONE)
    forget_error(row)
    settle(row, kind, clock.now())
    row.save(update_fields=ROW)
    audit.record(
        actor=actor,
        verb=VERBS[kind],
        target=row,
        detail=reason,
        operation_id=operation.id,
        organization_id=row.organization_id,
    )
    tell_pages(row)
    return operation


def subject_of(machine: Machine) -> str:
    """What learned durations are kept for: `vast/RTX 4090`."""
    return f"{machine.provider}/{machine.wanted.get('gpu_name') or 'any'}"[:120]


def disconnect_effects(*, actor: Actor, account: CloudAccount) -> list[str]:
    """What stands in the way of disconnecting an account, as a sentence for the confirmation."""
    count = Machine.objects.for_org(account.organization_id).filter(account=account, gone_at=None).count()
    if not count:
        return []
    verb = "machines live" if count != 1 else "machine lives"
    return [
        f"{count} GPU {verb} on it: destroy {'them' if count != 1 else 'it'} first, so that nothing is left behind."
    ]


def refuse_disconnect(*, actor: Actor, account: CloudAccount) -> None:
    """An account with living machines or rentals is kept: without it nobody could end, prove or restore them."""
    machines = Machine.objects.for_org(account.organization_id).filter(account=account, gone_at=None)
    rentals = Rental.objects.for_org(account.organization_id).filter(account=account).exclude(lane__in=DONE_LANES)
    if machines.exists() or rentals.exists():
        raise Conflict(
            f"GPU machines live on {account.name}. Destroy them first, so that nothing is left behind at the provider.",
            code="machines_live",
        )


def keep_awake(*, actor: Actor, machine_id: UUID | str, minutes: float = 60) -> Machine:
    """Do not put it to sleep for being idle until then. Raises InvalidInput beyond seven days."""
    actor.require(OPERATE, "keep GPU machines awake")
    machine = find_machine(actor=actor, machine_id=machine_id)
    if not 0 <= minutes * 60 <= LONGEST_KEEP.total_seconds():
        raise InvalidInput(errors={"minutes": ["Between 0 and 10080 minutes."]})
    with transaction.atomic():
        row = locked(machine.id)
        if row is None:
            raise NotFound("There is no such machine.")
        before = row.keep_awake_until
        row.keep_awake_until = clock.now() + timedelta(minutes=minutes) if minutes else None
        row.sleep_at = row.keep_awake_until if row.sleep_at else None
        row.save(update_fields=["keep_awake_until", "sleep_at"])
        audit.record(
            actor=actor,
            verb="gpu.kept_awake",
            target=row,
            organization_id=row.organization_id,
            changes={
                "keep_awake_until": [
                    before and before.isoformat(),
                    row.keep_awake_until and row.keep_awake_until.isoformat(),
                ]
            },
        )
        tell_pages(row)
    return row


def change_machine(*, actor: Actor, machine_id: UUID | str, **given: Any) -> Machine:
    """Change `auto_sleep`, `idle_minutes` (None: as the fleet) or `wanted` (for the next wake)."""
    actor.require(MANAGE, "configure GPU machines")
    machine = find_machine(actor=actor, machine_id=machine_id)
    minutes = given.get("idle_minutes")
    if minutes is not None and not 1 <= float(minutes) <= 1440:
        raise InvalidInput(errors={"idle_minutes": ["Between 1 and 1440 minutes."]})
    clean: dict[str, Any] = {name: given[name] for name in ("auto_sleep", "idle_minutes") if name in given}
    if "wanted" in given:
        clean["wanted"] = Wanted.of({**machine.wanted, **given["wanted"]}).as_json()
    with transaction.atomic():
        row = locked(machine.id)
        if row is None:
            raise NotFound("There is no such machine.")
        changes = {n: [getattr(row, n), v] for n, v in clean.items() if getattr(row, n) != v}
        for name, (_, value) in changes.items():
            setattr(row, name, value)
        if changes:
            row.save(update_fields=list(changes))
            audit.record(
                actor=actor,
                verb="gpu.machine_changed",
                target=row,
                changes=changes,
                organization_id=row.organization_id,
            )
            tell_pages(row)
    return row
