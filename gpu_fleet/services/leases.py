"""The lease of a machine and its standby: one side may serve, by a number that only grows.

Split brain is excluded by three rules. A lease is renewed only for the rental that holds it, under the present epoch.
It is given to the other side only when the last one is over by this server's clock, was given back by its holder, or
the provider shows that the holder is gone. And the holder counts from before it asked (`agent.machine.fence`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import AgentToken
from core import clock
from core.errors import NotFound
from gpu_fleet.enums import LEASE_SECONDS, RENEW_SECONDS, Lane, Side
from gpu_fleet.models import Machine, Rental, Standby
from gpu_fleet.services.states import tell_pages

NONE = {"standby": False, "serve": False, "epoch": 0, "ttl": LEASE_SECONDS, "renew": 10.0}


def held(standby_id: UUID) -> Standby | None:
    """The row, held until the transaction ends."""
    found: Standby | None = Standby.objects.all_orgs().select_for_update().filter(id=standby_id).first()
    return found


def standby_of(machine: Machine) -> Standby | None:
    """The standby that a machine has, or that it is."""
    rows = Standby.objects.for_org(machine.organization_id)
    found: Standby | None = (
        rows.filter(spare=machine).first() if machine.is_spare else rows.filter(machine=machine).first()
    )
    return found


def side_of(machine: Machine) -> Side:
    return Side.CPU if machine.is_spare else Side.GPU


def renew(*, token: AgentToken, body: Mapping[str, Any]) -> dict[str, Any]:
    """Answer an agent that asks whether it may serve, and for how long. Raises NotFound without a machine."""
    rows = Machine.objects.for_org(token.organization_id)
    machine = rows.filter(id=token.resource_id).first() if token.resource_id else None
    if machine is None:
        raise NotFound("The machine of this token is no more.")
    standby = standby_of(machine)
    rental = rental_of(machine, str(body.get("instance_id") or "")[:120])
    if standby is None or rental is None or rental.lane != Lane.WON or machine.rental_id != rental.id:
        # an earlier rental that comes back: it may not serve, and its heartbeat tells it to go
        return {**NONE, "standby": standby is not None}
    said = body.get("serving") is True
    with transaction.atomic():
        row = held(standby.id)
        if row is None:
            return NONE
        return _renewed(row, machine, rental, said)


def _renewed(row: Standby, machine: Machine, rental: Rental, said: bool) -> dict[str, Any]:
    now, side = clock.now(), side_of(machine)
    mine = row.holder == side and row.holder_rental == rental.id
    fields = ["gpu_seen_at"] if side == Side.GPU else ["cpu_seen_at"]
    setattr(row, fields[0], now)
    may = mine and not row.releasing and row.enabled
    if may:
        began = said and not row.serving
        row.lease_until, row.renewed_at, row.serving = now + timedelta(seconds=LEASE_SECONDS), now, said
        fields += ["lease_until", "renewed_at", "serving"]
        if began:
            tell_pages(machine)
    elif mine and not said:
        row.lease_until, row.serving = now, False  # given back
        fields += ["lease_until", "serving"]
    row.save(update_fields=fields)
    return {
        "standby": row.enabled,
        "serve": may,
        "epoch": row.epoch,
        "ttl": LEASE_SECONDS,
        "renew": RENEW_SECONDS if not row.releasing else RENEW_SECONDS / 4,
    }


def rental_of(machine: Machine, instance: str) -> Rental | None:
    """By the provider's id, also as `vast_123`."""
    rows = Rental.objects.for_org(machine.organization_id).filter(machine=machine).select_related("machine")
    plain = instance.partition("_")[2] if instance.startswith(f"{machine.provider}_") else instance
    found: Rental | None = rows.filter(provider_id=plain).order_by("-intended_at").first() if plain else None
    return found


def over(row: Standby) -> bool:
    """Whether the last lease is over by this server's clock."""
    return row.holder == Side.NOBODY or row.lease_until is None or row.lease_until <= clock.now()


def release(*, standby: Standby) -> None:
    """Renew no more; the holder ends its program and gives the lease back, or it runs out."""
    with transaction.atomic():
        Standby.objects.for_org(standby.organization_id).filter(id=standby.id).update(releasing=True)
    standby.releasing = True


def keep(*, standby: Standby) -> None:
    """The change of sides is off: whoever held it goes on."""
    with transaction.atomic():
        rows = Standby.objects.for_org(standby.organization_id).filter(id=standby.id)
        rows.update(releasing=False, final=False)
    standby.releasing = standby.final = False


def grant(*, standby_id: UUID, side: Side, rental_id: UUID, proven_gone: UUID | None = None) -> bool:
    """Give the lease to a side; False while the last one is not over. `proven_gone` is a rental that its provider
    has shown to be gone: it can serve no more, whatever its lease says."""
    with transaction.atomic():
        row = held(standby_id)
        if row is None or not row.enabled:
            return False
        if row.holder == side and row.holder_rental == rental_id and not row.releasing:
            return True
        if not over(row) and (proven_gone is None or row.holder_rental != proven_gone):
            return False
        now = clock.now()
        row.agreed_snapshot = row.pushed_snapshot
        row.epoch, row.holder, row.holder_rental = row.epoch + 1, side, rental_id
        row.lease_until, row.renewed_at, row.releasing, row.serving = now, now, False, False
        row.final, row.asked_at, row.probed_at, row.switched_at = False, None, None, now
        row.save()
    return True
