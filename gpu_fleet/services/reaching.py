"""Machines that reach their repository through this server, as their remote's key is for this server alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from core import clock
from core.errors import Forbidden, NotSignedIn
from gpu_fleet import gateway, passes
from gpu_fleet.enums import StorageKind
from gpu_fleet.models import FleetSettings, Machine, Standby
from gpu_fleet.providers import rclone
from operations.enums import ACTIVE
from operations.models import Operation


@dataclass(frozen=True, slots=True)
class Way:
    """Where to pass a request on to: `serve` starts what serves the remote, `remove` deletes a damaged file of it."""

    who: str
    folder: str
    serve: Callable[[], rclone.Served]
    remove: Callable[[str], None]


def admit(*, authorization: str, owner_id: UUID) -> Way:
    """The way to the repository of `owner_id`. Raises NotSignedIn without a pass, Forbidden with one that is over, is
    for another machine or order, or whose machine has gone meanwhile; ProviderError when the remote cannot be used."""
    text = passes.of_header(authorization)
    if text is None:
        raise NotSignedIn("Send the pass of an order.")
    told = passes.read(text)
    if told is None or told.owner != owner_id or told.until <= clock.now():
        raise Forbidden("This pass is not for this repository, or is over.", code="no_pass")
    machine = Machine.objects.all_orgs().filter(id=told.machine, rental_id=told.rental, gone_at=None).first()
    if machine is None or _owner(machine) != owner_id or not _asked_for(told):
        raise Forbidden("What this pass was for is over.", code="no_pass")
    rules = FleetSettings.objects.for_org(machine.organization_id).first()
    if rules is None or rules.storage != StorageKind.RCLONE:
        raise Forbidden("The snapshots of this organization are kept elsewhere.", code="no_pass")
    remote, folder = gateway.remote_of(rules), gateway.FOLDER.format(owner_id)
    return Way(
        who=str(machine.id),
        folder=folder,
        serve=lambda: rclone.served(str(rules.organization_id), remote),
        remove=lambda path: rclone.remove(remote, gateway.stored_path(path)),
    )


def _owner(machine: Machine) -> UUID | None:
    try:
        return gateway.owner_of(machine).id
    except Standby.DoesNotExist:
        return None


def _asked_for(told: passes.Pass) -> bool:
    if told.operation is None:
        return True
    return Operation.objects.all_orgs().filter(id=told.operation, status__in=ACTIVE).exists()
