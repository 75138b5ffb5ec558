"""Scanning a connected cloud account: verify the credentials, then let every discoverer look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accounts import services as accounts
from accounts import vault
from accounts.models import CloudAccount
from core import discovery
from core.actor import Actor
from core.errors import Conflict
from operations import services
from operations.enums import Status
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunContext

KIND = "account.scan"


class AccountScan(BaseExecutor):
    """Reads only, so a kill in the middle is mended by scanning again."""

    kind = KIND
    label = "Scan cloud account"
    permission = "accounts.manage"
    max_attempts = 3
    announces_failure = False  # the account itself is told of, once

    def run(self, context: RunContext) -> Mapping[str, Any]:
        account = CloudAccount.objects.all_orgs().filter(id=context.operation.resource_id).first()
        if account is None:
            raise OperationFailed("The cloud account was disconnected.", code="account_gone")
        looking = discovery.for_provider(account.provider)
        context.progress(5, "Checking the credentials", done=0, total=len(looking) + 1)
        connection = vault.connection_of(account)
        connection.verify()
        found: dict[str, int] = {}
        for number, discoverer in enumerate(looking, start=1):
            context.check_cancel()
            context.progress(
                5 + 90 * number // (len(looking) + 1),
                f"Looking for {discoverer.name}",
                done=number,
                total=len(looking) + 1,
            )
            found.update(discoverer.discover(account, connection))
        return {"found": found}

    def finished(self, operation: Operation) -> None:
        account = CloudAccount.objects.all_orgs().filter(id=operation.resource_id).first()
        if account is None:
            return
        if operation.status == Status.SUCCEEDED:
            accounts.mark_scanned(account=account, found=operation.result.get("found", {}))
        else:
            accounts.mark_scan_failed(
                account=account, reason=operation.error or "The scan was cancelled.", next_step=operation.next_step
            )

    def subject(self, operation: Operation) -> str:
        return str(operation.payload.get("provider", ""))


def request_scan(*, actor: Actor, account: CloudAccount) -> Operation | None:
    """Queue a scan in the caller's transaction; an active one is returned as it is."""
    try:
        operation = services.request_operation(
            actor=actor,
            kind=KIND,
            resource_kind="cloud_account",
            resource_id=account.id,
            resource_label=account.name,
            payload={"provider": account.provider},
            organization_id=account.organization_id,
            subject=account.provider,
            deadline_seconds=900,
        )
    except Conflict:
        return services.active_operation("cloud_account", account.id)
    accounts.mark_scanning(account=account)
    return operation
