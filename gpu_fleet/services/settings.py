"""How a fleet behaves: read with defaults, changed with an audit line, secrets sealed."""

from __future__ import annotations

import socket
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from audit import services as audit
from core import encryption, ssrf
from core.actor import Actor
from core.errors import InvalidInput
from core.providers import ProviderError
from gpu_fleet.enums import MANAGE, StorageKind
from gpu_fleet.models import FleetSettings
from gpu_fleet.providers import rclone, ssh
from gpu_fleet.race import Strategy

PLAIN = (
    "auto_sleep",
    "idle_minutes",
    "warn_seconds",
    "destroy_after_minutes",
    "strategy",
    "storage",
    "bucket",
    "endpoint",
    "region",
    "role_arn",
    "rclone_folder",
    "keep_last",
    "dead_man_hours",
    "local_hourly",
    "standby_interval",
    "standby_failover",
    "standby_return",
    "standby_grace",
    "login_keys",
)
MOST_KEYS = 100
INTERVAL_BOUNDS = (5, 3600)
GRACE_BOUNDS = (0, 86_400)


def settings_of(organization_id: UUID) -> FleetSettings:
    """The organization's settings, made with a fresh SSH key on first use."""
    found: FleetSettings | None = FleetSettings.objects.for_org(organization_id).first()
    if found is not None:
        return found
    private, public = ssh.new_key("curfew")
    row = FleetSettings(organization_id=organization_id, ssh_public=public)
    row.ssh_sealed = encryption.seal({"private": private}, bound_to=row.seal_name)
    with transaction.atomic():
        made, _ = FleetSettings.objects.for_org(organization_id).get_or_create(
            organization_id=organization_id, defaults={"ssh_public": row.ssh_public, "ssh_sealed": row.ssh_sealed}
        )
    fresh: FleetSettings = made
    return fresh


def private_key_of(rules: FleetSettings) -> str:
    """The key that this server logs in with. Raises CannotDecrypt."""
    return str(encryption.unseal(rules.ssh_sealed, bound_to=rules.seal_name)["private"])


def change_settings(*, actor: Actor, **given: Any) -> FleetSettings:
    """Change what is given; `access_key` and `secret_key` of the storage are stored sealed and never shown again, as is
    `rclone_config`, what `rclone config show NAME` prints.

    A remote of rclone is tried before it is kept: written to and read back, which takes 45 s at most. Raises Forbidden
    without `gpu.manage`, InvalidInput for values out of bounds and for a remote that does not work.
    """
    actor.require(MANAGE, "change the settings of the GPU fleet")
    if actor.org_id is None:
        raise InvalidInput("Settings belong to an organization.")
    clean = _clean(given)
    remote = _remote(clean, str(given.get("rclone_config") or "").strip(), settings_of(actor.org_id))
    with transaction.atomic():
        row = FleetSettings.objects.visible_to(actor).select_for_update().get()
        before = row.shown()
        for name, value in clean.items():
            setattr(row, name, value)
        if row.storage == StorageKind.S3 and not row.bucket:
            raise InvalidInput(errors={"bucket": ["Name the bucket."]})
        changed = {name: [before[name], value] for name, value in row.shown().items() if value != before[name]}
        if given.get("access_key") and given.get("secret_key"):
            keys = {"access_key": str(given["access_key"]), "secret_key": str(given["secret_key"])}
            row.sealed = encryption.seal(keys, bound_to=row.seal_name)
            changed["storage_key"] = ["…", "replaced"]
        if remote is not None:
            text, row.rclone_type = remote
            row.rclone_sealed = encryption.seal({"rclone": text}, bound_to=row.seal_name)
            changed["rclone_config"] = ["…", "replaced"]
        row.save()
        if changed:
            audit.record(
                actor=actor,
                verb="gpu.settings_changed",
                target=row,
                target_label="GPU fleet",
                changes=changed,
                organization_id=row.organization_id,
            )
    result: FleetSettings = row
    return result


def _remote(clean: dict[str, Any], given: str, before: FleetSettings) -> tuple[str, str] | None:
    """The remote to keep, its configuration and type, tried out; None when nothing of it changes. Raises InvalidInput."""
    storage = clean.get("storage", before.storage)
    if storage != StorageKind.RCLONE:
        if given:
            raise InvalidInput(errors={"storage": ["Choose the remote of rclone, or leave its configuration empty."]})
        return None
    folder = str(clean.get("rclone_folder", before.rclone_folder))
    if not given and storage == before.storage and folder == before.rclone_folder:
        return None
    text = given or _kept(before)
    try:
        remote = rclone.parse(text, folder, settings.CURFEW_RCLONE_FOLDERS)
        _reachable(remote)
        rclone.check(remote)
    except ValueError as bad:
        raise InvalidInput(errors={"rclone_config": [str(bad)]}) from None
    except ProviderError as refused:
        said = f"rclone says: {refused.detail}" if refused.detail else ""
        words = " ".join(part for part in (refused.message, refused.next_step, said) if part)
        raise InvalidInput(errors={"rclone_config": [words]}) from None
    clean["rclone_folder"] = remote.folder
    return text, remote.kind


def _kept(before: FleetSettings) -> str:
    if not before.rclone_sealed:
        raise InvalidInput(errors={"rclone_config": ["Paste what rclone config show NAME prints."]})
    try:
        return str(encryption.unseal(before.rclone_sealed, bound_to=before.seal_name)["rclone"])
    except encryption.CannotDecrypt:
        raise InvalidInput(errors={"rclone_config": ["What is stored cannot be opened. Paste it again."]}) from None


def _reachable(remote: rclone.Remote) -> None:
    """Refuse a remote whose host is a metadata service or a link-local address; private networks are for NAS and the like."""
    for host in remote.hosts():
        try:
            found = {str(row[4][0]).partition("%")[0] for row in socket.getaddrinfo(host, None)}
        except (OSError, UnicodeError):
            raise ValueError(f"The name {host[:80]} cannot be resolved.") from None
        if any(ssrf.is_forbidden_everywhere(address) for address in found):
            raise ValueError(f"{host[:80]} leads to a metadata service or a link-local address.")


def _clean(given: dict[str, Any]) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    clean: dict[str, Any] = {name: given[name] for name in PLAIN if name in given}
    bounds = {
        "idle_minutes": (1, 1440),
        "warn_seconds": (0, 3600),
        "destroy_after_minutes": (0, 10_080),
        "keep_last": (1, 100),
        "dead_man_hours": (0, 720),
        "standby_interval": INTERVAL_BOUNDS,
        "standby_grace": GRACE_BOUNDS,
    }
    for name, (low, high) in bounds.items():
        if name in clean and not low <= float(clean[name]) <= high:
            errors[name] = [f"Between {low} and {high}."]
    if "strategy" in clean and clean["strategy"] not in set(Strategy):
        errors["strategy"] = ["Choose race, cheapest or reliable."]
    if "storage" in clean and clean["storage"] not in StorageKind.values:
        errors["storage"] = ["Choose local, s3 or rclone."]
    endpoint = str(clean.get("endpoint") or "")
    if endpoint and not endpoint.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        errors["endpoint"] = ["An address that begins with https://."]
    if "local_hourly" in clean:
        clean["local_hourly"], words = _dollars(clean["local_hourly"])
        errors |= {"local_hourly": [words]} if words else {}
    if "login_keys" in clean:
        clean["login_keys"], words = _public_keys(str(clean["login_keys"] or ""))
        errors |= {"login_keys": [words]} if words else {}
    if errors:
        raise InvalidInput(errors=errors)
    return clean


def _public_keys(given: str) -> tuple[str, str]:
    """Lines of OpenSSH public keys, each once, with their comments; the second is what is wrong with them."""
    lines: dict[str, str] = {}
    for line in (row.strip() for row in given.splitlines()):
        if not line or line.startswith("#"):
            continue
        if not ssh.is_public_key(line):
            shown = line if len(line) < 40 else f"{line[:40]}…"
            return given, f"This is not a public key as in id_ed25519.pub: {shown}"
        kind, body, *comment = line.split(None, 2)
        lines.setdefault(body, " ".join([kind, body, *(c[:100] for c in comment)]))
    if len(lines) > MOST_KEYS:
        return given, f"At most {MOST_KEYS} keys."
    return "\n".join(lines.values()), ""


def _dollars(given: Any) -> tuple[Decimal | None, str]:
    """An amount between nothing and a thousand dollars; None for an empty field. The second is what is wrong with it."""
    if given in (None, ""):
        return None, ""
    try:
        amount = Decimal(str(given))
    except InvalidOperation:
        return None, "An amount in dollars."
    return (amount, "") if amount.is_finite() and 0 <= amount <= 1000 else (None, "Between 0 and 1000 dollars.")
