"""Opening the credentials of a cloud account, and sealing everything anew after a key rotation."""

from __future__ import annotations

from collections.abc import Mapping

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import transaction

from accounts import sandbox
from accounts.models import CloudAccount
from accounts.providers.base import Connection, Credentials, Timeouts
from accounts.providers.registry import connect
from core import encryption, sealed
from core.providers import AuthenticationFailed
from core.sealed import Resealed

MFA_SEAL = "mfa"
_SEALED_MFA_FIELDS = ("secret", "seed")


def credentials_of(account: CloudAccount) -> Credentials:
    """The account's credentials, opened for one use.

    Addresses other than the cloud's own come from the operator's settings alone. For a sandbox account its present
    keys are asked for. Raises a ProviderError: AuthenticationFailed when there are none or the sealed text cannot be
    opened, Unreachable when the sandbox is not running.
    """
    if not account.credentials:
        raise AuthenticationFailed(
            f"{account.name} has no credentials yet.",
            code="not_connected",
            next_step="Connect the account under Settings, Cloud Integrations.",
        )
    try:
        values = encryption.unseal(account.credentials, bound_to=account.seal_name)
    except encryption.CannotDecrypt as closed:
        raise AuthenticationFailed(
            f"The stored credentials of {account.name} cannot be opened.",
            code="credentials_unreadable",
            next_step="Enter the credentials again, or give the server its earlier encryption key back.",
            detail=str(closed),
        ) from None
    if account.is_sandbox:
        values = sandbox.values_for(
            number=account.number, method=account.method, external_id=account.external_id, values=values
        )
    return build(account.provider, account.method, account.region, values, is_sandbox=account.is_sandbox)


def build(
    provider: str, method: str, region: str, values: Mapping[str, str], *, is_sandbox: bool = False
) -> Credentials:
    """Credentials with what only the operator decides: the sandbox's address and the local Docker socket."""
    known = dict(values)
    if (
        provider == "docker"
        and method == "local"
        and not known.get("socket")
        and settings.CURFEW_DOCKER_HOST.startswith("unix://")
    ):
        known["socket"] = settings.CURFEW_DOCKER_HOST.removeprefix("unix://")
    endpoints = {"aws": sandbox.address()} if is_sandbox else {}
    return Credentials(provider, method, region, known, endpoints)


def connect_with(credentials: Credentials, *, is_sandbox: bool = False, timeouts: Timeouts | None = None) -> Connection:
    """A connection made from the identity that assumes roles: the sandbox's platform keys, else the server's own."""
    platform = sandbox.facts().platform if is_sandbox and credentials.method == "role" else None
    return connect(credentials, platform=platform, timeouts=timeouts)


def connection_of(account: CloudAccount, *, timeouts: Timeouts | None = None) -> Connection:
    """A ready connection to a connected account; makes no call to a real cloud. Raises what `credentials_of` raises."""
    return connect_with(credentials_of(account), is_sandbox=account.is_sandbox, timeouts=timeouts)


def reseal_all() -> list[Resealed]:
    """Seal every stored secret under the ring's first key.

    Each row in its own transaction, and rows that are fresh are passed over: it may be stopped and run again.
    """
    return [*sealed.reseal_registered(), _reseal_mfa()]


def _reseal_mfa() -> Resealed:
    done = fresh = failed = 0
    for pk in list(Authenticator.objects.order_by("id").values_list("id", flat=True)):
        with transaction.atomic():
            row = Authenticator.objects.select_for_update().filter(id=pk).first()
            stale = _stale_mfa_fields(row.data) if row else []
            if row is None or not stale:
                fresh += 1
                continue
            try:
                row.data = {**row.data, **{name: seal_mfa(open_mfa(row.data[name])) for name in stale}}
            except encryption.CannotDecrypt:
                failed += 1
                continue
            row.save(update_fields=["data"])
            done += 1
    return Resealed("second_factor", done, fresh, failed)


def _stale_mfa_fields(data: Mapping[str, object]) -> list[str]:
    active = encryption.key_ring().active_id
    texts = {name: data[name] for name in _SEALED_MFA_FIELDS if isinstance(data.get(name), str)}
    return [name for name, text in texts.items() if encryption.key_id_of(str(text)) != active]


def seal_mfa(text: str) -> str:
    """Encrypt the secret of a second factor."""
    return encryption.key_ring().encrypt(text.encode(), MFA_SEAL)


def open_mfa(stored: str) -> str:
    """Decrypt it; a text from before encryption was switched on is returned as it is. Raises CannotDecrypt."""
    return encryption.key_ring().decrypt(stored, MFA_SEAL).decode() if encryption.key_id_of(stored) else stored
