"""Reads of install packages: each is the operation that built it and a file below MEDIA_ROOT/packages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from accounts.enums import AccountStatus
from accounts.models import CloudAccount
from cloudnodes.enums import FIXED_COLUMNS
from cloudnodes.models import CloudNode, NodeType
from cloudnodes.packages.catalog import Known, default_image
from cloudnodes.packages.format import CONTAINER_PORT, slug_of
from core.actor import Actor
from core.errors import NotFound
from operations.enums import Status
from operations.models import Operation

KIND, INSTALL_KIND, RESOURCE = "package.build", "package.install", "install_package"
MANIFEST_COPY = "manifest.json"


@dataclass(frozen=True, slots=True)
class Package:
    """One package: the latest operation that builds or built it, and its file when that exists."""

    id: UUID
    operation: Operation
    title: str
    nodes: list[str]
    images: list[str]
    file_name: str
    path: Path | None
    size: int | None
    manifest_sha256: str
    public_key: str
    base: str
    omitted_layers: int
    warnings: list[str]
    created_at: datetime

    @property
    def etag(self) -> str:
        """Tells any two contents apart: the manifest names every byte but the signature's."""
        return f"{self.manifest_sha256}{self.public_key[:16]}"

    @property
    def status(self) -> str:
        """building, ready, deleted, or the operation's own failed and cancelled."""
        if not self.operation.is_final:
            return "building"
        if self.operation.status == Status.SUCCEEDED:
            return "ready" if self.path else "deleted"
        return str(self.operation.status)


@dataclass(frozen=True, slots=True)
class Choice:
    """A node that may be packaged. `image` is what an engine runs it from, "" when none does; `suggestion` the usual name."""

    name: str
    slug: str
    image: str
    suggestion: str


def folder_of(organization_id: UUID, package_id: UUID) -> Path:
    return Path(settings.MEDIA_ROOT) / "packages" / str(organization_id) / str(package_id)


def key_path() -> Path:
    """The key that this installation signs its packages with."""
    return Path(settings.CURFEW_DATA) / "package-signing-key.pem"


def file_name_of(title: str) -> str:
    return f"{slug_of(title) or 'install-package'}.zip"


def package_query(*, actor: Actor) -> QuerySet[Operation]:
    """The newest operation of each package, newest first, for paging. Retries hide what they retry."""
    rows = Operation.objects.visible_to(actor).filter(kind=KIND)
    retried = rows.exclude(retry_of=None).values("retry_of_id")
    return rows.exclude(id__in=retried).order_by("-created_at", "id")


def list_packages(*, actor: Actor, limit: int = 100) -> list[Package]:
    return [package_of(row) for row in package_query(actor=actor)[:limit]]


def get_package(*, actor: Actor, package_id: UUID) -> Package:
    """NotFound also for another organization's."""
    row = package_query(actor=actor).filter(resource_id=package_id).first()
    if row is None:
        raise NotFound("There is no such install package.")
    return package_of(row)


def package_of(operation: Operation) -> Package:
    """Without further queries."""
    told: dict[str, Any] = operation.result or {}
    asked = operation.payload
    path = folder_of(operation.organization_id, operation.resource_id) / str(asked["file_name"])
    ready = operation.status == Status.SUCCEEDED and path.is_file()
    return Package(
        id=operation.resource_id,
        operation=operation,
        title=str(asked["title"]),
        nodes=[str(n["name"]) for n in asked["nodes"]],
        images=[str(i) for i in told.get("images") or sorted({n["image"] for n in asked["nodes"]})],
        file_name=str(asked["file_name"]),
        path=path if ready else None,
        size=told.get("size"),
        manifest_sha256=str(told.get("manifest_sha256", "")),
        public_key=str(told.get("public_key", "")),
        base=str(asked.get("base") or ""),
        omitted_layers=int(told.get("omitted_layers") or 0),
        warnings=[str(w) for w in told.get("warnings", [])],
        created_at=operation.created_at,
    )


@dataclass(frozen=True, slots=True)
class Installed:
    """What became of one node on this machine: the installer's own words."""

    name: str
    result: str
    running: bool
    profile: str
    endpoint: str
    message: str
    next_step: str
    credentials_missing: list[str]

    @property
    def failed(self) -> bool:
        return self.result == "failed"


@dataclass(frozen=True, slots=True)
class Installation:
    """The newest attempt to install a package on this machine; `nodes` once the installer has reported."""

    operation: Operation
    nodes: list[Installed]
    warnings: list[str]


def last_installation(*, actor: Actor, package_id: UUID) -> Installation | None:
    """None when nobody has asked for one."""
    rows = Operation.objects.visible_to(actor).filter(kind=INSTALL_KIND, payload__package=str(package_id))
    row = rows.order_by("-created_at", "id").first()
    if row is None:
        return None
    told = row.state.get("report") or {}
    return Installation(row, [_installed(n) for n in told.get("nodes", [])], [str(w) for w in told.get("warnings", [])])


def _installed(told: dict[str, Any]) -> Installed:
    return Installed(
        name=str(told["name"]),
        result=str(told["result"]),
        running=bool(told.get("running")),
        profile=str(told.get("profile", "")),
        endpoint=str(told.get("endpoint", "")),
        message=str(told.get("message", "")),
        next_step=str(told.get("next_step", "")),
        credentials_missing=[str(c) for c in told.get("credentials_missing", [])],
    )


def builders(*, actor: Actor) -> list[CloudAccount]:
    """The Docker engines of the organization that packages can be built on."""
    rows = CloudAccount.objects.visible_to(actor).filter(provider="docker").exclude(credentials="").order_by("name")
    return list(rows)


def known_images(*, organization_id: UUID, account_id: UUID | None = None) -> dict[str, Known]:
    """Node types that a Docker container of the organization runs, with its image."""
    rows = (
        CloudNode.objects.for_org(organization_id).filter(provider="docker", gone_at=None).select_related("node_type")
    )
    if account_id is not None:
        rows = rows.filter(account_id=account_id)
    return {
        row.node_type.name: Known(row.instance_type, row.node_type.port or CONTAINER_PORT, row.node_type.health_path)
        for row in rows.order_by("created_at")
        if row.instance_type and not row.instance_type.startswith("sha256:")
    }


def choices(*, actor: Actor) -> list[Choice]:
    """Every node type of the organization."""
    if actor.org_id is None:
        return []
    known = known_images(organization_id=actor.org_id)
    names = NodeType.objects.visible_to(actor).order_by("name").values_list("name", flat=True)
    return [Choice(n, slug_of(n), known[n].image if n in known else "", default_image(n)) for n in names]


def bases(*, actor: Actor) -> list[Package]:
    """Packages that an upgrade can build upon: those whose manifest was kept."""
    return [p for p in list_packages(actor=actor) if _manifest(p).is_file()]


def manifest_path(*, actor: Actor, package_id: UUID) -> Path:
    """Where the manifest of a finished package is kept; NotFound when there is none."""
    path = _manifest(get_package(actor=actor, package_id=package_id))
    if not path.is_file():
        raise NotFound("That package was never finished, so nothing can build upon it.")
    return path


def _manifest(package: Package) -> Path:
    return folder_of(package.operation.organization_id, package.id) / MANIFEST_COPY


def endpoints_of(*, organization_id: UUID, names: Sequence[str]) -> dict[str, dict[str, list[dict[str, str]]]]:
    """Where the named nodes answer in the clouds: node -> provider -> [{url, gpu_tier}]."""
    slugs = {slug_of(name): name for name in names}
    rows = (
        CloudNode.objects.for_org(organization_id).filter(gone_at=None).exclude(endpoint="").exclude(provider="docker")
    )
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    for row in rows.select_related("node_type").order_by("node_type__name", "provider", "gpu_tier", "instance_name"):
        name = slugs.get(slug_of(row.node_type.name))
        if name is not None:
            places = found.setdefault(name, {}).setdefault(row.provider, [])
            places.append({"url": row.endpoint, "gpu_tier": row.gpu_tier})
    return found


def credentials_status(*, organization_id: UUID) -> dict[str, bool]:
    """For each cloud whether working credentials are there; never the credentials."""
    rows = CloudAccount.objects.for_org(organization_id).filter(status=AccountStatus.ACTIVE).exclude(credentials="")
    active = set(rows.values_list("provider", flat=True))
    return {provider: provider in active for provider in FIXED_COLUMNS}
