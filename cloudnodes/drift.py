"""What happened to nodes outside Curfew: started, stopped, deleted, untagged; when, and what the provider says of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache

from accounts.models import CloudAccount
from audit.models import AuditEntry
from cloudnodes import gateway
from cloudnodes.attribution import ATTRIBUTED
from cloudnodes.enums import provider_words
from cloudnodes.models import CloudNode
from cloudnodes.providers.load import TellsWho
from core import clock
from core.actor import Actor
from core.providers import ProviderError

VERBS = ("node.changed_outside", "node.gone", "node.lost")
DAYS = 30
MOST = 200
ACCOUNTS = 20
ASK_AGAIN = 600


@dataclass(frozen=True, slots=True)
class Drift:
    """One change that Curfew noticed and did not make; `by` whom, as the cloud's own log says ("" while it does not).
    `node` is None when its account was disconnected since."""

    at: datetime
    what: str
    name: str
    detail: str
    node: CloudNode | None
    now: str
    account: str
    by: str = ""


def list_drift(*, actor: Actor) -> list[Drift]:
    """Changes from outside in the last thirty days, the newest first; Forbidden without nodes.view."""
    actor.require("nodes.view", "see what changed outside")
    rows: Any = AuditEntry.objects.visible_to(actor).filter(verb__in=VERBS, at__gt=clock.now() - timedelta(days=DAYS))
    found = list(rows.order_by("-at")[:MOST])
    ids = {entry.target_id for entry in found}
    nodes = {
        str(n.id): n
        for n in CloudNode.objects.visible_to(actor)
        .filter(id__in=[i for i in ids if i])
        .select_related("node_type", "account")
    }
    told = AuditEntry.objects.visible_to(actor).filter(
        verb=ATTRIBUTED, at__gt=clock.now() - timedelta(days=DAYS), target_id__in=ids
    )
    by = {str((e.changes or {}).get("entry", ["", ""])[1]): e.detail for e in told}
    return [_drift(entry, nodes.get(entry.target_id), by.get(str(entry.id), "")) for entry in found]


@dataclass(frozen=True, slots=True)
class Untold:
    """An account whose own log Curfew may not read, so that nobody knows who changed a node: `missing` the rights, or
    `unknown` why that could not be asked."""

    account: CloudAccount
    missing: tuple[str, ...] = ()
    unknown: str = ""

    @property
    def by_role(self) -> bool:
        return str(self.account.method) == "role"


def untold(*, actor: Actor) -> list[Untold]:
    """The accounts with nodes whose log may not be read, asked of the cloud (again after ten minutes at the earliest).
    Forbidden without nodes.manage."""
    actor.require("nodes.manage", "change what Curfew may read of an account")
    rows = CloudNode.objects.visible_to(actor).filter(gone_at=None).values("account_id").distinct()
    accounts = CloudAccount.objects.visible_to(actor).filter(id__in=rows).order_by("name")[:ACCOUNTS]
    return [found for account in accounts if (found := _untold(account)) is not None]


def _untold(account: CloudAccount) -> Untold | None:
    try:
        provider = gateway.open_provider(account)
        if not isinstance(provider, TellsWho):
            return None
        key = f"cloudnodes.untold.{account.id}.{hashlib.sha256(account.credentials.encode()).hexdigest()}"
        missing = cache.get(key)
        if missing is None:
            missing = tuple(provider.lacks_to_tell())
            cache.set(key, missing, ASK_AGAIN)
    except ProviderError as failure:
        return Untold(account, unknown=failure.message)
    return Untold(account, missing) if missing else None


def _never_found(node: CloudNode | None) -> bool:
    """It was declared, and the provider has never known it."""
    return node is not None and bool(node.declared) and not node.instance_type


def _drift(entry: Any, node: CloudNode | None, by: str) -> Drift:
    what = {
        "node.gone": "Never found" if _never_found(node) else "Deleted outside",
        "node.lost": "Cannot be seen",
    }.get(entry.verb) or (
        "Started outside" if (entry.changes or {}).get("state", ["", ""])[1] == "awake" else "Stopped outside"
    )
    return Drift(
        at=entry.at,
        what=what,
        name=entry.target_label,
        detail=entry.detail,
        node=node,
        now="" if node is None else "gone" if node.gone_at else str(node.observed_state),
        account=f"{provider_words(node.provider).label}, {node.account.name}" if node else "",
        by=by,
    )
