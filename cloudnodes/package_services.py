"""Asking for install packages, and deleting them. The facts of a package live in the operation that built it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID, uuid4, uuid5

from django.conf import settings
from django.db import transaction

from accounts.models import CloudAccount
from audit import services as audit
from cloudnodes import package_selectors as selectors
from cloudnodes.package_selectors import INSTALL_KIND, KIND, RESOURCE, Package
from cloudnodes.packages import catalog
from cloudnodes.packages.format import PackageProblem, check_nodes
from core.actor import Actor
from core.errors import InvalidInput, InvalidState
from operations import services as operations
from operations.models import Operation

PERMISSION = "nodes.manage"
DOWNLOAD_PERMISSION = "nodes.operate"
# Parts of builds that nobody went on with are removed after a week.
STALE_SECONDS = 7 * 24 * 3600


def request_package(
    *,
    actor: Actor,
    nodes: Sequence[str],
    images: Mapping[str, str] | None = None,
    account_id: UUID | None = None,
    title: str = "",
    base_id: UUID | None = None,
    pull: bool = False,
    sign: bool = True,
    idempotency_key: str | None = None,
) -> Operation:
    """Queue the building of a package with the named nodes on one of the organization's Docker engines.

    `images` names the image of a node where none is known; `base_id` makes it an upgrade of an earlier package. Raises
    Forbidden, InvalidInput by field, NotFound for a base of somebody else's.
    """
    actor.require(PERMISSION, "build install packages")
    account = _builder(actor, account_id)
    known = selectors.known_images(organization_id=account.organization_id, account_id=account.id)
    try:
        found = catalog.resolve(nodes, explicit=images or {}, catalog={}, known=known, allow_default=pull)
        specs = check_nodes(found)
    except PackageProblem as problem:
        raise InvalidInput(errors={"nodes": [f"{problem.message} {problem.next_step}".strip()]}) from None
    if base_id is not None:
        selectors.manifest_path(actor=actor, package_id=base_id)
    title = (title.strip() or ", ".join(n.name for n in specs))[:200]
    payload = {
        "account": str(account.id),
        "nodes": [catalog.shape(n) for n in specs],
        "title": title,
        "file_name": selectors.file_name_of(title),
        "base": str(base_id) if base_id else "",
        "pull": pull,
        "sign": sign,
    }
    discard_stale()
    return operations.request_operation(
        actor=actor,
        kind=KIND,
        resource_kind=RESOURCE,
        resource_id=_id_for(account, idempotency_key),
        resource_label=title,
        payload=payload,
        organization_id=account.organization_id,
        idempotency_key=idempotency_key,
        subject=RESOURCE,
    )


def request_install(
    *, actor: Actor, package_id: UUID, start: bool = False, idempotency_key: str | None = None
) -> Operation:
    """Queue the installation of a finished package on the machine that Curfew itself runs on.

    Only for organizations that have this machine's own Docker socket connected: InvalidState otherwise.
    """
    actor.require(PERMISSION, "install packages on this machine")
    package = selectors.get_package(actor=actor, package_id=package_id)
    if package.path is None:
        raise InvalidState("The package is not there to be installed.")
    local = local_engine(actor=actor)
    if local is None:
        raise InvalidState("The Docker engine of this machine is not connected, so nothing can be installed on it.")
    return operations.request_operation(
        actor=actor,
        kind=INSTALL_KIND,
        resource_kind="cloud_account",
        resource_id=local.id,
        resource_label=f"{package.title} on {local.name}",
        payload={"package": str(package_id), "start": start},
        organization_id=local.organization_id,
        idempotency_key=idempotency_key,
        subject=INSTALL_KIND,
    )


def local_engine(*, actor: Actor) -> CloudAccount | None:
    """The organization's account for the Docker socket of this machine, None when there is none."""
    return next((a for a in selectors.builders(actor=actor) if a.method == "local"), None)


def delete_package(*, actor: Actor, package_id: UUID) -> Package:
    """Delete the file; the record stays, and so does the manifest that upgrades build upon. Absent already is success."""
    actor.require(PERMISSION, "delete install packages")
    package = selectors.get_package(actor=actor, package_id=package_id)
    if not package.operation.is_final:
        raise InvalidState("It is being built; cancel that first.")
    with transaction.atomic():
        audit.record(
            actor=actor,
            verb="package.deleted",
            target_kind=RESOURCE,
            target_id=str(package.id),
            target_label=package.title,
            organization_id=package.operation.organization_id,
        )
    folder = selectors.folder_of(package.operation.organization_id, package.id)
    (folder / package.file_name).unlink(missing_ok=True)
    discard_parts(folder)
    return selectors.get_package(actor=actor, package_id=package_id)


def record_download(*, actor: Actor, package: Package) -> None:
    """Write down who took a package away."""
    with transaction.atomic():
        audit.record(
            actor=actor,
            verb="package.downloaded",
            target_kind=RESOURCE,
            target_id=str(package.id),
            target_label=package.title,
            organization_id=package.operation.organization_id,
        )


def discard_parts(folder: Path) -> None:
    """Remove what an unfinished build has saved."""
    for parts in folder.glob("*.parts"):
        shutil.rmtree(parts, ignore_errors=True)
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def discard_stale() -> None:
    """Remove the parts of builds that nobody has touched for a week."""
    root = Path(settings.MEDIA_ROOT) / "packages"
    for parts in root.glob("*/*/*.parts"):
        newest = max((p.stat().st_mtime for p in parts.glob("*")), default=0.0)
        if time.time() - newest > STALE_SECONDS:
            discard_parts(parts.parent)


def _id_for(account: CloudAccount, key: str | None) -> UUID:
    """The id of a new package; the same for the same idempotency key, so that repeating a request finds what it made."""
    return uuid5(account.organization_id, f"{RESOURCE} {key}") if key else uuid4()


def _builder(actor: Actor, account_id: UUID | None) -> CloudAccount:
    engines = selectors.builders(actor=actor)
    if account_id is not None:
        engines = [a for a in engines if a.id == account_id]
    if not engines:
        words = (
            "There is no such Docker engine."
            if account_id
            else "Connect a Docker engine first: packages are made from its images."
        )
        raise InvalidInput(errors={"account": [words]})
    if len(engines) > 1:
        raise InvalidInput(errors={"account": [f"Say on which engine: {', '.join(a.name for a in engines)}."]})
    return engines[0]
