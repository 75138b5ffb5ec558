"""Reads of the Add-cluster wizard: what accounts have, and how the last search and pre-flight went."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from accounts import selectors as accounts
from accounts.models import CloudAccount
from clusters.models import Cluster, FoundCluster
from core.actor import Actor
from core.errors import NotFound
from operations.models import Operation

MANAGE = "clusters.manage"
MOST_FOUND = 500


def searchable_accounts(*, actor: Actor) -> list[CloudAccount]:
    """Connected AWS accounts, oldest first."""
    actor.require(MANAGE, "connect clusters")
    return [account for account in accounts.find_accounts(actor=actor, provider="aws") if account.method]


def unmanaged(*, actor: Actor, account: CloudAccount) -> list[FoundCluster]:
    """Clusters of an account that are not connected yet."""
    actor.require(MANAGE, "connect clusters")
    known = Cluster.objects.visible_to(actor).exclude(external_id="").values("external_id")
    rows = FoundCluster.objects.visible_to(actor).filter(account=account).exclude(external_id__in=known)
    return list(rows.order_by("region", "name")[:MOST_FOUND])


def get_found(*, actor: Actor, found_id: UUID) -> FoundCluster:
    """One found cluster with its account; NotFound for another organization's."""
    actor.require(MANAGE, "connect clusters")
    row: FoundCluster | None = (
        FoundCluster.objects.visible_to(actor).select_related("account").filter(id=found_id).first()
    )
    if row is None:
        raise NotFound("There is no such cluster.")
    return row


def last_operation(*, actor: Actor, kind: str, resource_id: UUID) -> Operation | None:
    """The newest operation of a kind on an account or cluster; None also for whoever may not see operations."""
    if not actor.can("operations.view"):
        return None
    rows: Any = Operation.objects.visible_to(actor).filter(kind=kind, resource_id=resource_id)
    found: Operation | None = rows.order_by("-created_at").first()
    return found
