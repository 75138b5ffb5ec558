"""The ways out of this server: providers of accounts, logins, repositories. Tests replace these functions."""

from __future__ import annotations

import hashlib
import json
import threading
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote, urlsplit
from uuid import UUID

from django.conf import settings

from accounts import vault
from accounts.models import CloudAccount
from accounts.providers.base import Connection
from core import encryption
from core.providers import AuthenticationFailed, InvalidRequest
from costs.models import CatalogPrice
from gpu_fleet import passes
from gpu_fleet.enums import StorageKind, provider_words
from gpu_fleet.models import FleetSettings, Machine, Rental, Standby
from gpu_fleet.providers import rclone, ssh
from gpu_fleet.providers.base import GpuProvider
from gpu_fleet.providers.registry import provider_for
from gpu_fleet.providers.restic import Repository
from gpu_fleet.providers.storage import Bucket

INSIDE = "/curfew/repository"
# Where a machine's repository is below a bucket or a remote's folder, and where this server passes it on.
FOLDER = "curfew/{}"
PASSED_ON = "/api/agent/machine/repository/{}/"
_lock = threading.Lock()
_kept: dict[UUID, tuple[str, Connection]] = {}


def open_provider(account: CloudAccount) -> GpuProvider:
    """The GPU provider of an account; contacts nobody by itself. Raises a ProviderError for unusable credentials."""
    credentials = vault.credentials_of(account)
    told = [credentials.method, dict(credentials.values), dict(credentials.endpoints)]
    stamp = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    with _lock:
        kept = _kept.get(account.id)
    connection = kept[1] if kept and kept[0] == stamp else vault.connect_with(credentials)
    with _lock:
        _kept[account.id] = (stamp, connection)
    rules = FleetSettings.objects.for_org(account.organization_id).first()
    return provider_for(
        connection,
        local_hourly=rules.local_hourly if rules else None,
        prices=_prices(credentials.provider, credentials.region) if credentials.provider in ("aws", "gcp") else None,
    )


def _prices(provider: str, region: str) -> dict[str, Decimal]:
    """The newest on-demand price of each type in the price book, USD an hour."""
    rows = CatalogPrice.objects.filter(provider=provider, region=region, lifecycle="on_demand", currency="USD")
    return dict(rows.order_by("as_of").values_list("instance_type", "hourly"))


def login(rental: Rental, private_key: str) -> str:
    """Log in to a rental with its pinned keys; "" when it worked."""
    return ssh.login(rental.ssh_host, rental.ssh_port, private_key, rental.host_keys)


def owner_of(machine: Machine) -> Machine:
    """Whose files a machine has: its own, or those of the machine that it stands by for."""
    if not machine.is_spare:
        return machine
    rows = Standby.objects.for_org(machine.organization_id).select_related("machine")
    found: Machine = rows.get(spare=machine).machine
    return found


def folder_of(machine: Machine) -> Path:
    """Where a machine's repository lies on this server."""
    return Path(settings.CURFEW_DATA) / "gpu" / "repositories" / str(machine.id)


def manifest_file(organization_id: UUID, snapshot_id: UUID) -> Path:
    """Where the hashes of a snapshot are kept."""
    return Path(settings.CURFEW_DATA) / "gpu" / "manifests" / str(organization_id) / f"{snapshot_id}.gz"


def bucket_of(rules: FleetSettings) -> Bucket:
    """The organization's bucket with its key. Raises AuthenticationFailed when the key cannot be opened."""
    try:
        keys = encryption.unseal(rules.sealed, bound_to=rules.seal_name) if rules.sealed else {}
    except encryption.CannotDecrypt:
        raise AuthenticationFailed("The key of the snapshot storage cannot be opened.", code="storage_key") from None
    return Bucket(
        rules.bucket,
        rules.endpoint,
        rules.region,
        str(keys.get("access_key") or ""),
        str(keys.get("secret_key") or ""),
        rules.role_arn,
    )


def remote_of(rules: FleetSettings) -> rclone.Remote:
    """The organization's remote with its keys. Raises AuthenticationFailed when they cannot be opened."""
    try:
        text = encryption.unseal(rules.rclone_sealed, bound_to=rules.seal_name) if rules.rclone_sealed else {}
    except encryption.CannotDecrypt:
        raise AuthenticationFailed("The keys of the snapshot storage cannot be opened.", code="storage_key") from None
    try:
        return rclone.parse(str(text.get("rclone") or ""), rules.rclone_folder, settings.CURFEW_RCLONE_FOLDERS)
    except ValueError as bad:
        raise InvalidRequest(
            str(bad), code="rclone", next_step="Give the remote anew under GPU Fleet, Settings."
        ) from None


def stored_path(path: str) -> str:
    """Where rclone keeps what restic's protocol calls `path`: packs lie in folders by their first two letters."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name[:2]}/{name}" if folder.endswith("/data") else path


def repository_of(machine: Machine, rules: FleetSettings) -> Repository:
    """The machine's repository as this server reaches it."""
    password = secrets_of(machine)["password"]
    cache = str(Path(settings.CURFEW_DATA) / "gpu" / "cache")
    if rules.storage == StorageKind.S3:
        bucket = bucket_of(rules)
        return Repository(bucket.location(FOLDER.format(machine.id)), password, bucket.environment(), cache)
    if rules.storage == StorageKind.RCLONE:
        remote = remote_of(rules)
        rclone.program()
        return Repository(f"rclone:{remote.location(FOLDER.format(machine.id))}", password, remote.environment(), cache)
    folder = folder_of(machine)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Repository(str(folder), password, {}, cache)


def repository_for_machine(machine: Machine, rules: FleetSettings, operation: UUID | None = None) -> Repository:
    """The same repository as the machine reaches it, with keys for this one folder alone. Raises a ProviderError.

    A standby reaches that of the machine that it stands by for. Keys for an `operation` end with it where this server
    passes the requests on.
    """
    owner = owner_of(machine)
    password = secrets_of(owner)["password"]
    if rules.storage == StorageKind.S3:
        bucket, folder = bucket_of(rules), FOLDER.format(owner.id)
        return Repository(bucket.location(folder), password, bucket.scoped(folder, f"curfew-{machine.id.hex}"))
    if rules.storage == StorageKind.RCLONE:
        if machine.rental_id is None:
            raise InvalidRequest("Nothing is rented for this machine.", code="gone")
        given = passes.issue(machine=machine.id, owner=owner.id, rental=machine.rental_id, operation=operation)
        return Repository(_passed_on(owner.id, given), password)
    if not provider_words(machine.provider).shares_folders:
        raise InvalidRequest(
            f"A machine at {provider_words(machine.provider).label} cannot reach a folder of this server.",
            code="storage_unreachable",
            next_step="Choose S3, R2 or a remote of rclone as snapshot storage under GPU Fleet, Settings.",
        )
    return Repository(INSIDE, password)


def _passed_on(owner: UUID, given: str) -> str:
    """restic's address of a repository that this server passes on; the pass is in it, as restic 0.14 knows no other way."""
    base = urlsplit(settings.CURFEW_BASE_URL)
    path = base.path.rstrip("/") + PASSED_ON.format(owner)
    return f"rest:{base.scheme}://{passes.USER}:{quote(given, safe='')}@{base.netloc}{path}"


def secrets_of(machine: Machine) -> dict[str, str]:
    """The machine's own secrets: `password` of its repository, `token` that its agent is to take on next."""
    try:
        found = encryption.unseal(machine.sealed, bound_to=machine.seal_name) if machine.sealed else {}
    except encryption.CannotDecrypt:
        raise AuthenticationFailed(
            f"The secrets of {machine.name} cannot be opened.",
            code="machine_secrets",
            next_step="Give the server its earlier encryption key back.",
        ) from None
    return {str(k): str(v) for k, v in found.items()}
