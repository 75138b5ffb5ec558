"""Reading accounts: one poll per account at a time, however many pages look and however many workers there are."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from accounts import services as accounts
from accounts.enums import AccountStatus
from accounts.models import CloudAccount
from cloudnodes import gateway, viewing
from cloudnodes.enums import CREDENTIALS_REFUSED, PERMISSION_MISSING, RESOURCE
from cloudnodes.models import AccountPoll, CloudNode
from cloudnodes.providers.base import Instance
from cloudnodes.services.observe import mark_unreadable, observe_many
from core import clock
from core.actor import Actor
from core.live import publish
from core.providers import AuthenticationFailed, PermissionDenied, ProviderError
from core.tasks import send_on_commit
from operations.enums import ACTIVE
from operations.models import Operation

log = logging.getLogger(__name__)

BUSY_SECONDS = 2.0
VIEWED_SECONDS = 5.0
QUIET_SECONDS = 60.0
# Beat's ticks come two seconds apart, give or take.
SLACK = timedelta(milliseconds=400)
# A poll that has not come back by then died with its worker.
HOLD = timedelta(seconds=120)
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 300.0
# So many failures in a row make the nodes Lost; refused credentials do at once.
LOST_AFTER = 3
REFRESH_GAP = timedelta(seconds=1)
AGAIN = " Curfew asks again by itself."


def due_accounts() -> list[UUID]:
    """Claim every account whose nodes should be read now, by one conditional UPDATE each; returns their ids.

    Two seconds while an operation on one of its nodes is active, five while somebody of the organization looks, sixty
    otherwise; later while it fails.
    """
    now = clock.now()
    free = Q(held_until=None) | Q(held_until__lt=now)
    polls = list(
        AccountPoll.objects.all_orgs()
        .filter(free)
        .exclude(account__status=AccountStatus.PENDING)
        .filter(Q(polled_at=None) | Q(polled_at__lte=now - timedelta(seconds=BUSY_SECONDS) + SLACK))
    )
    if not polls:
        return []
    busy = _busy_accounts()
    seen = viewing.viewed({p.organization_id for p in polls})
    chosen = []
    for poll in polls:
        every = (
            BUSY_SECONDS
            if poll.account_id in busy
            else VIEWED_SECONDS
            if poll.organization_id in seen
            else QUIET_SECONDS
        )
        if _is_due(poll, every, now) and _claim(poll, now):
            chosen.append(poll.account_id)
    return chosen


def _is_due(poll: AccountPoll, every: float, now: datetime) -> bool:
    if poll.retry_at is not None:
        return poll.retry_at <= now
    return poll.polled_at is None or poll.polled_at + timedelta(seconds=every) - SLACK <= now


def _claim(poll: AccountPoll, now: datetime) -> bool:
    same = AccountPoll.objects.all_orgs().filter(id=poll.pk, polled_at=poll.polled_at)
    free = same.filter(Q(held_until=None) | Q(held_until__lt=now))
    return bool(free.update(polled_at=now, held_until=now + HOLD))


def _busy_accounts() -> set[UUID]:
    active = Operation.objects.all_orgs().filter(resource_kind=RESOURCE, status__in=ACTIVE).values("resource_id")
    return set(CloudNode.objects.all_orgs().filter(id__in=active).values_list("account_id", flat=True))


def poll_account(*, account_id: UUID | str) -> int:
    """Read all nodes of one account in one batch per region and commit what they do; returns how many changed.

    Calls the provider outside any transaction. A failure is recorded with its words and postpones the next look; it
    never ends an interval.
    """
    account = CloudAccount.objects.all_orgs().filter(id=account_id).first()
    if account is None:
        return 0
    rows = CloudNode.objects.for_org(account.organization_id).filter(account=account, gone_at=None)
    regions: dict[str, list[CloudNode]] = defaultdict(list)
    for node in rows.select_related("node_type"):
        regions[node.region if node.provider == "aws" else ""].append(node)
    changed = 0
    try:
        for region, nodes in regions.items():
            at = clock.now()
            found = _read(account, region, nodes)
            changed += observe_many(nodes=nodes, found=found, at=at)
    except ProviderError as failure:
        _record_failure(account, failure)
        return changed
    finally:
        # whatever happened, the next poll must not wait for the hold to run out
        AccountPoll.objects.all_orgs().filter(account=account).update(held_until=None)
    _record_success(account)
    return changed


def _read(account: CloudAccount, region: str, nodes: list[CloudNode]) -> dict[str, Instance]:
    return gateway.open_provider(account, region).describe([node.provider_id for node in nodes])


def _record_success(account: CloudAccount) -> None:
    poll = AccountPoll.objects.for_org(account.organization_id).filter(account=account)
    refused = poll.filter(failures__gt=0).values_list("error", flat=True).first()
    had_failed = refused is not None
    with transaction.atomic():
        poll.update(ok_at=clock.now(), retry_at=None, failures=0, error_code="", error="", next_step="")
        if had_failed:
            log.info("account_poll_recovered", extra={"account_id": str(account.id)})
            if account.status == AccountStatus.ERROR and account.status_reason == refused:
                accounts.mark_scanned(account=account, found=account.found)
            publish(account.organization_id, "nodes", [])


def _record_failure(account: CloudAccount, failure: ProviderError) -> None:
    now = clock.now()
    poll = AccountPoll.objects.for_org(account.organization_id).filter(account=account)
    poll.update(failures=F("failures") + 1)
    failures = poll.values_list("failures", flat=True).first() or 1
    with transaction.atomic():
        poll.update(
            retry_at=now + timedelta(seconds=_pause(failures, failure)),
            error_code=account_code(failure)[:60],
            error=failure.message[:1000],
            next_step=f"{failure.next_step}{AGAIN if failure.transient else ''}".strip()[:300],
        )
        if failures in (1, LOST_AFTER):
            publish(account.organization_id, "nodes", [])
    log.warning(
        "account_poll_failed", extra={"account_id": str(account.id), "code": failure.code, "failures": failures}
    )
    refused = isinstance(failure, (AuthenticationFailed, PermissionDenied))
    if refused and account.status == AccountStatus.ACTIVE:
        accounts.mark_scan_failed(account=account, reason=failure.message, next_step=failure.next_step)
    if refused or failures >= LOST_AFTER:
        mark_unreadable(account_id=account.id, error=failure, at=now)


def account_code(failure: ProviderError) -> str:
    """The code of a failure as rows keep it: one for refused credentials, one for missing rights, else its own."""
    if isinstance(failure, AuthenticationFailed):
        return CREDENTIALS_REFUSED
    return PERMISSION_MISSING if isinstance(failure, PermissionDenied) else failure.code


def _pause(failures: int, failure: ProviderError) -> float:
    told: Any = getattr(failure, "retry_after", None)
    first = FIRST_RETRY_SECONDS if failure.transient else QUIET_SECONDS
    return min(LAST_RETRY_SECONDS, max(float(told or 0), first * 2.0 ** min(failures - 1, 8)))


def request_refresh(*, actor: Actor, account_id: UUID | None = None) -> int:
    """Somebody asks to look again: every account of theirs (or the one) is read as soon as a worker is free.

    Reads change nothing, so they are not audited. Accounts that were read within the last second, or are being read,
    are left alone. Returns how many will be read.
    """
    actor.require("nodes.view", "see cloud nodes")
    now = clock.now()
    viewing.touch(actor.org_id)
    polls = AccountPoll.objects.visible_to(actor).filter(Q(held_until=None) | Q(held_until__lt=now))
    if account_id is not None:
        polls = polls.filter(account_id=account_id)
    asked = 0
    with transaction.atomic():
        for poll in list(polls.exclude(polled_at__gt=now - REFRESH_GAP)):
            if _claim(poll, now):
                asked += 1
                send_on_commit("cloudnodes.poll_account", account_id=str(poll.account_id))
    return asked
