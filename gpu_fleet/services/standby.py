"""Standbys: given, changed, taken away; and what a person may order of them. Each is one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import CloudAccount
from audit import services as audit
from core import clock, encryption
from core.actor import Actor
from core.errors import Conflict, InvalidInput, InvalidState, NotFound, QuotaExceeded
from gpu_fleet.enums import FAILBACK, FAILOVER, MANAGE, OPERATE, RECOVER, RELEASE, WAKE, Side, StandbyState
from gpu_fleet.models import Machine, Standby
from gpu_fleet.providers.registry import STANDBY_PROVIDERS
from gpu_fleet.services import leases, machines
from gpu_fleet.services.settings import GRACE_BOUNDS, INTERVAL_BOUNDS, settings_of
from gpu_fleet.services.states import locked, tell_pages
from gpu_fleet.wanted import Wanted
from operations.models import Operation

CHANGEABLE = ("enabled", "auto_failover", "auto_return", "interval_seconds", "grace_seconds")


def create_standby(
    *,
    actor: Actor,
    machine_id: UUID | str,
    account_id: UUID | str,
    wanted: Mapping[str, Any] | None = None,
    **rules: Any,
) -> Standby:
    """Give a GPU machine a standby in an account. It is rented by the next look, when the machine is awake.

    Raises Forbidden without `gpu.manage`, InvalidInput, NotFound, Conflict when it has one.
    """
    actor.require(MANAGE, "rent standbys")
    machine = machines.find_machine(actor=actor, machine_id=machine_id)
    if machine.is_spare:
        raise InvalidState("A standby has no standby of its own.")
    account = CloudAccount.objects.visible_to(actor).filter(id=account_id).exclude(method="").first()
    if account is None:
        raise NotFound("There is no such cloud account.")
    if account.provider not in STANDBY_PROVIDERS:
        raise InvalidInput(errors={"account_id": ["Choose a Docker, Google Cloud or AWS account."]})
    whole = settings_of(machine.organization_id)
    values = {
        "interval_seconds": whole.standby_interval,
        "auto_failover": whole.standby_failover,
        "auto_return": whole.standby_return,
        "grace_seconds": whole.standby_grace,
        **_clean(rules),
    }
    looked_for = Wanted.of({**(wanted or {}), "paths": machine.wanted.get("paths"), "strategy": "cheapest"})
    with transaction.atomic():
        row = locked(machine.id)
        if row is None or row.gone_at is not None:
            raise NotFound("There is no such machine.")
        if Standby.objects.for_org(row.organization_id).filter(machine=row).exists():
            raise Conflict(f"{row.name} has a standby.", code="has_standby")
        spare = _spare(row, account, looked_for)
        standby = Standby(
            organization_id=row.organization_id,
            machine=row,
            spare=spare,
            account=account,
            created_at=clock.now(),
            **values,
        )
        standby.save(force_insert=True)
        audit.record(
            actor=actor,
            verb="gpu.standby_created",
            target=row,
            changes={"standby": [None, {"account": account.name, **values}]},
            organization_id=row.organization_id,
        )
        tell_pages(row)
    return standby


def _spare(machine: Machine, account: CloudAccount, wanted: Wanted) -> Machine:
    now = clock.now()
    names = set(Machine.objects.for_org(machine.organization_id).filter(gone_at=None).values_list("name", flat=True))
    base = f"{machine.name[:50]}-standby"
    name = next(n for n in (base, *(f"{base}-{i}" for i in range(2, 200))) if n not in names)
    spare = Machine(
        organization_id=machine.organization_id,
        name=name,
        account=account,
        provider=account.provider,
        wanted=wanted.as_json(),
        auto_sleep=False,
        is_spare=True,
        created_at=now,
        state_since=now,
    )
    spare.sealed = encryption.seal({"password": secrets.token_urlsafe(32)}, bound_to=spare.seal_name)
    spare.save(force_insert=True)
    return spare


def _clean(given: Mapping[str, Any]) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    clean = {name: given[name] for name in CHANGEABLE if given.get(name) is not None}
    for name, (low, high) in (("interval_seconds", INTERVAL_BOUNDS), ("grace_seconds", GRACE_BOUNDS)):
        if name in clean and not low <= float(clean[name]) <= high:
            errors[name] = [f"Between {low} and {high} seconds."]
    if errors:
        raise InvalidInput(errors=errors)
    return clean


def find_standby(*, actor: Actor, standby_id: UUID | str) -> Standby:
    """One that the actor may see. Raises NotFound."""
    actor.require("gpu.view", "see standbys")
    rows = Standby.objects.visible_to(actor).select_related("machine", "spare", "account", "machine__rental")
    found: Standby | None = rows.filter(id=standby_id, machine__gone_at=None).first()
    if found is None:
        raise NotFound("There is no such standby.")
    return found


def change_standby(*, actor: Actor, standby_id: UUID | str, **given: Any) -> Standby:
    """Change what is given of `enabled` and its rules. It cannot be turned off while it serves."""
    found = find_standby(actor=actor, standby_id=standby_id)
    actor.require(MANAGE, "configure standbys")
    clean = _clean(given)
    with transaction.atomic():
        row = leases.held(found.id)
        if row is None:
            raise NotFound("There is no such standby.")
        if clean.get("enabled") is False and row.holder == Side.CPU:
            raise InvalidState("It serves. Bring the GPU machine back first.", code="serving")
        changes = {n: [getattr(row, n), v] for n, v in clean.items() if getattr(row, n) != v}
        for name, (_, value) in changes.items():
            setattr(row, name, value)
        if "enabled" in changes and not row.enabled:
            stand_down(row)
        if changes:
            row.save()
            audit.record(
                actor=actor,
                verb="gpu.standby_changed",
                target=found.machine,
                changes=changes,
                organization_id=row.organization_id,
            )
            tell_pages(found.machine)
    return find_standby(actor=actor, standby_id=standby_id)


def stand_down(row: Standby) -> None:
    """Without a standby nobody holds a lease; agents end what they ran under one. The epoch stays, so that no old
    lease can be taken for a new one. The caller saves."""
    row.state, row.holder, row.holder_rental = StandbyState.OFF, Side.NOBODY, None
    row.pushed_snapshot = row.pulled_snapshot = ""
    row.pushed_through = row.pulled_through = row.pulled_rental = row.asked_at = row.lost_at = None
    row.releasing = row.serving = row.final = False


def remove_standby(*, actor: Actor, standby_id: UUID | str) -> None:
    """Take a standby away: what is rented for it is destroyed by an operation of its own. Not while it serves."""
    found = find_standby(actor=actor, standby_id=standby_id)
    actor.require(MANAGE, "take standbys away")
    change_standby(actor=actor, standby_id=standby_id, enabled=False)
    spare = found.spare
    with transaction.atomic():
        if spare is not None:
            machines.request_destroy(actor=actor, machine_id=spare.id, name=spare.name, reason="Its standby ended")
        Standby.objects.visible_to(actor).filter(id=found.id).delete()
        audit.record(
            actor=actor, verb="gpu.standby_removed", target=found.machine, organization_id=found.organization_id
        )
        tell_pages(found.machine)


def request_failover(
    *,
    actor: Actor,
    machine_id: UUID | str,
    reason: str = "",
    idempotency_key: str | None = None,
    cause: str = "hand",
) -> Operation:
    """Ask for the standby to serve in place of its machine. Raises InvalidState when it is not ready."""
    actor.require(OPERATE, "fail machines over")
    machine, row = _with_standby(actor, machine_id)
    if row.holder == Side.CPU:
        raise InvalidState(f"The standby of {machine.name} serves already.", code="already_serving")
    if row.spare is None or row.spare.rental_id is None or not row.pushed_snapshot:
        raise InvalidState(f"The standby of {machine.name} is not ready yet.", code="standby_not_ready")
    return machines.ask(
        actor=actor, machine=machine, kind=FAILOVER, reason=reason, key=idempotency_key, cause=cause, more={}
    )


def request_failback(
    *,
    actor: Actor,
    machine_id: UUID | str,
    reason: str = "",
    idempotency_key: str | None = None,
    cause: str = "hand",
) -> Operation:
    """Ask for the GPU machine to serve again. It needs a GPU first: without one a recovery is ordered."""
    actor.require(OPERATE, "fail machines back")
    machine, row = _with_standby(actor, machine_id)
    if row.holder != Side.CPU:
        raise InvalidState(f"The standby of {machine.name} does not serve.", code="not_serving")
    here = machine.rental_id is not None and row.pulled_rental == machine.rental_id
    kind = FAILBACK if here else RECOVER
    return machines.ask(
        actor=actor, machine=machine, kind=kind, reason=reason, key=idempotency_key, cause=cause, more={}
    )


def request_recover(*, actor: Actor, machine_id: UUID | str, reason: str = "", cause: str = "hand") -> Operation:
    """Ask for a GPU again for a machine whose standby serves: the old one if it came back, else a new race."""
    actor.require(OPERATE, "bring machines back")
    machine, row = _with_standby(actor, machine_id)
    if row.holder != Side.CPU:
        raise InvalidState(f"The standby of {machine.name} does not serve.", code="not_serving")
    return machines.ask(actor=actor, machine=machine, kind=RECOVER, reason=reason, key=None, cause=cause, more={})


def _with_standby(actor: Actor, machine_id: UUID | str) -> tuple[Machine, Standby]:
    machine = machines.find_machine(actor=actor, machine_id=machine_id)
    rows = Standby.objects.visible_to(actor).select_related("spare")
    row = rows.filter(machine=machine, enabled=True).first()
    if row is None:
        raise InvalidState(f"{machine.name} has no standby that is on.", code="no_standby")
    return machine, row


def request_spare(*, actor: Actor, standby: Standby) -> Operation | None:
    """Rent the standby's machine. None, with the reason on the standby, while a used-up budget refuses starts."""
    if standby.spare is None:
        return None
    mine = Standby.objects.for_org(standby.organization_id).filter(id=standby.id)
    try:
        with transaction.atomic():
            mine.update(state=StandbyState.PREPARING, error="")
            return machines.ask(
                actor=actor, machine=standby.spare, kind=WAKE, reason=f"Stands by for {standby.machine.name}",
                key=None, cause="standby", more={},
            )  # fmt: skip
    except QuotaExceeded as refused:
        mine.update(state=StandbyState.TROUBLE, error=refused.message[:500])
        return None


def request_release(*, actor: Actor, standby: Standby, reason: str) -> Operation | None:
    """Give the standby's machine up: nobody needs it now. Its files are those of its machine, so nothing is saved."""
    if standby.spare is None:
        return None
    return machines.ask(
        actor=actor, machine=standby.spare, kind=RELEASE, reason=reason, key=None, cause="standby", more={}
    )
