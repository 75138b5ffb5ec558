"""What happens to a connected cloud account: checks, scans, renames, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from accounts import vault
from accounts.enums import ACCOUNT_TRANSITIONS, AccountStatus, Method
from accounts.models import CloudAccount
from accounts.services.connecting import connect_account
from audit import services as audit
from audit.enums import Outcome
from core import clock, hooks
from core.actor import Actor
from core.errors import InvalidInput, InvalidState, NotFound
from core.live import publish
from core.providers import ProviderError

SCANNER = "account_scanner"
NOT_CONNECTED = "This account is not connected yet. Enter its credentials first."

blast_radius = hooks.Hook("cloud_account_blast_radius")  # actor, account -> list of sentences; upper apps subscribe


def verify_account(*, actor: Actor, account_id: UUID) -> CloudAccount:
    """Ask the cloud whether the stored credentials still work.

    A prepared role that was not connected yet is connected. A good answer mends an account in error by scanning it
    again; a final refusal puts it into error with the reason; a transient one changes nothing. Raises the ProviderError.
    """
    actor.require("accounts.manage", "check cloud accounts")
    row = _get(actor, account_id)
    if not row.credentials:
        return _connect_prepared(actor, row)
    try:
        identity = vault.connection_of(row).verify()
    except ProviderError as refused:
        _record_refusal(actor, row, refused)
        raise
    with transaction.atomic():
        row.principal = identity.principal[:300]
        row.save(update_fields=["principal"])
        audit.record(actor=actor, verb="cloud_account.verified", target=row)
        publish(row.organization_id, "accounts", [row.id])
        if row.status == AccountStatus.ERROR:
            hooks.cloud_account_resync.emit(actor=actor, account=row)
    return row


def _connect_prepared(actor: Actor, row: CloudAccount) -> CloudAccount:
    number = row.settings.get("aws_account_id", "")
    if not (row.external_id and number):
        raise InvalidState(NOT_CONNECTED, code="not_connected")
    return connect_account(
        actor=actor,
        provider=row.provider,
        method=Method.ROLE,
        region=row.region,
        values={"aws_account_id": number},
        account_id=row.id,
    )


def _record_refusal(actor: Actor, row: CloudAccount, refused: ProviderError) -> None:
    with transaction.atomic():
        if not refused.transient:
            _move(row, AccountStatus.ERROR, status_reason=refused.message[:500], next_step=refused.next_step[:300])
        audit.record(
            actor=actor,
            verb="cloud_account.verified",
            target=row,
            outcome=Outcome.FAILED,
            detail=f"{refused.message} ({refused.code})",
        )
        publish(row.organization_id, "accounts", [row.id])


def resync_account(*, actor: Actor, account_id: UUID) -> tuple[CloudAccount, Any]:
    """Order a fresh scan. Returns the account and the operation that does it (one under way is returned as it is)."""
    actor.require("accounts.manage", "scan cloud accounts")
    with transaction.atomic():
        row = _get(actor, account_id, lock=True)
        if not row.credentials:
            raise InvalidState(NOT_CONNECTED, code="not_connected")
        audit.record(actor=actor, verb="cloud_account.resync_requested", target=row)
        ordered = [o for o in hooks.cloud_account_resync.emit(actor=actor, account=row) if o is not None]
        publish(row.organization_id, "accounts", [row.id])
    return row, ordered[0] if ordered else None


def rename_account(*, actor: Actor, account_id: UUID, name: str) -> CloudAccount:
    """Give an account another name within the organization."""
    actor.require("accounts.manage", "rename cloud accounts")
    clean = name.strip()
    if not 0 < len(clean) <= 120:
        raise InvalidInput(errors={"name": ["A name has 1 to 120 characters."]})
    with transaction.atomic():
        row = _get(actor, account_id, lock=True)
        if row.name != clean:
            before, row.name = row.name, clean
            row.save(update_fields=["name"])
            audit.record(actor=actor, verb="cloud_account.renamed", target=row, changes={"name": [before, clean]})
            publish(row.organization_id, "accounts", [row.id])
    return row


def disconnect_effects(*, actor: Actor, account: CloudAccount) -> list[str]:
    """What disconnecting would do, as sentences for the confirmation: ours, then those of the apps that use the account."""
    told = [words for more in blast_radius.emit(actor=actor, account=account) for words in more]
    found = {kind.replace("_", " "): count for kind, count in account.found.items() if count}
    if found and not told:
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        told = [f"The last scan found {counted}; they leave every page here."]
    return [
        f"Curfew forgets the credentials of {account.name} and stops watching it.",
        *told,
        "Nothing is switched off or deleted in the cloud: what is awake stays awake and goes on costing money.",
        "The audit log and the money already counted stay.",
    ]


def disconnect_account(*, actor: Actor, account_id: UUID) -> None:
    """Forget an account and its credentials. Apps that use it are told first and may raise Conflict to refuse."""
    actor.require("accounts.manage", "disconnect cloud accounts")
    with transaction.atomic():
        row = _get(actor, account_id, lock=True)
        hooks.cloud_account_disconnecting.emit(actor=actor, account=row)
        audit.record(
            actor=actor,
            verb="cloud_account.disconnected",
            target=row,
            changes={"number": [row.masked_number, None], "method": [row.method, None]},
        )
        publish(row.organization_id, "accounts", [row.id])
        row.delete()


def mark_scanning(*, account: CloudAccount) -> bool:
    """A scan was ordered. False when the account is gone or may not be scanned in its state."""
    return _mark(account, AccountStatus.SCANNING, "cloud_account.scan_started", status_reason="", next_step="")


def mark_scanned(*, account: CloudAccount, found: Mapping[str, int]) -> bool:
    """The scan ended well; `found` is what it counted."""
    return _mark(
        account,
        AccountStatus.ACTIVE,
        "cloud_account.scanned",
        status_reason="",
        next_step="",
        found=dict(found),
        scanned_at=clock.now(),
    )


def mark_scan_failed(*, account: CloudAccount, reason: str, next_step: str = "") -> bool:
    """The scan ended badly; the account shows why and what to do next."""
    return _mark(
        account, AccountStatus.ERROR, "cloud_account.scan_failed", status_reason=reason[:500], next_step=next_step[:300]
    )


def _mark(account: CloudAccount, status: AccountStatus, verb: str, **fields: Any) -> bool:
    before = account.status
    with transaction.atomic():
        if not _move(account, status, **fields):
            return False
        if before != status or status != AccountStatus.SCANNING:
            failed = status == AccountStatus.ERROR
            audit.record(
                actor=Actor.system(SCANNER, account.organization_id),
                verb=verb,
                target=account,
                outcome=Outcome.FAILED if failed else Outcome.SUCCESS,
                changes={
                    "status": [str(before), str(status)],
                    **({"found": [None, fields["found"]]} if fields.get("found") else {}),
                },
                detail=account.status_reason,
            )
            if failed and before != status:
                hooks.notice.emit(
                    event="account.error",
                    subject=f"The cloud account {account.name} cannot be read",
                    body=f"{account.status_reason} {account.next_step}".strip(),
                    url=settings.CURFEW_BASE_URL + reverse("accounts:cloud-account", args=[account.id]),
                    organization_id=account.organization_id,
                )
        publish(account.organization_id, "accounts", [account.id])
    return True


def _move(account: CloudAccount, status: AccountStatus, **fields: Any) -> bool:
    """The conditional transition; the instance follows the row."""
    allowed = [old for old, targets in ACCOUNT_TRANSITIONS.items() if status in targets]
    rows = CloudAccount.objects.for_org(account.organization_id).filter(id=account.id, status__in=allowed)
    if not rows.update(status=status, **fields):
        return False
    for name, value in {"status": status, **fields}.items():
        setattr(account, name, value)
    return True


def _get(actor: Actor, account_id: UUID, *, lock: bool = False) -> CloudAccount:
    rows = CloudAccount.objects.visible_to(actor)
    row: CloudAccount | None = (rows.select_for_update() if lock else rows).filter(id=account_id).first()
    if row is None:
        raise NotFound("There is no such cloud account.")
    return row
