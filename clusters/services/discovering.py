"""Clusters that a cloud account has: looked for by an operation, remembered, connected with what their tags say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts import selectors as accounts
from accounts.models import CloudAccount
from accounts.providers.aws import AwsConnection, aws_regions
from clusters.enums import RESOURCE, Distribution, Method
from clusters.models import FoundCluster
from clusters.providers.eks import EksCluster, EksClusters
from clusters.services.connecting import PREFLIGHT, Connected, create_cluster, from_tags
from clusters.services.steering import MANAGE, locked
from core import clock
from core.actor import Actor
from core.errors import Conflict, InvalidInput, NotFound
from core.live import publish
from core.providers import AuthenticationFailed, ProviderError
from operations import services as operations
from operations.models import Operation

DISCOVER = "cluster.discover"
MOST_REGIONS = 40


def regions_of(account: CloudAccount) -> list[str]:
    """The account's own region and those that were added in its settings."""
    more = account.settings.get("regions", []) if isinstance(account.settings, dict) else []
    return [region for region in dict.fromkeys([account.region, *(str(r) for r in more)]) if region]


def request_discovery(*, actor: Actor, account_id: UUID, regions: Sequence[str] = ()) -> Operation:
    """Order a search of an AWS account's regions (without any: its own) for clusters and missing permissions.

    An active search or scan of the account is returned as it is. Raises Forbidden, NotFound, InvalidInput.
    """
    actor.require(MANAGE, "look for clusters")
    account = accounts.get_account(actor=actor, account_id=account_id)
    if account.provider != "aws" or not account.method:
        raise InvalidInput(errors={"account": ["Clusters are found in connected AWS accounts only."]})
    wanted = list(dict.fromkeys(regions)) or regions_of(account)
    unknown = sorted(set(wanted) - set(aws_regions()) - set(regions_of(account)))
    if unknown or len(wanted) > MOST_REGIONS:
        raise InvalidInput(errors={"regions": [f"AWS has no region {', '.join(unknown)[:100] or 'list that long'}."]})
    try:
        return operations.request_operation(
            actor=actor,
            kind=DISCOVER,
            resource_kind="cloud_account",
            resource_id=account.id,
            resource_label=account.name,
            payload={"regions": wanted},
            organization_id=account.organization_id,
            subject=account.provider,
            deadline_seconds=900,
        )
    except Conflict:
        active = operations.active_operation("cloud_account", account.id)
        if active is None:
            raise
        return active


def look(connection: AwsConnection, region: str) -> tuple[list[EksCluster], list[str]]:
    """The clusters of a region, and what could not be read, in words. Wrong credentials end it: AuthenticationFailed."""
    eks = EksClusters(connection)
    found: list[EksCluster] = []
    problems: list[str] = []
    try:
        names = eks.names(region)
    except AuthenticationFailed:
        raise
    except ProviderError as refused:
        return [], [f"{region}: {refused.message}"]
    for name in names:
        try:
            found.append(eks.describe(region, name))
        except ProviderError as refused:
            problems.append(f"{name} in {region}: {refused.message}")
    return found, problems


def remember(*, account: CloudAccount, found: Iterable[EksCluster], regions: Iterable[str], at: datetime) -> int:
    """Store what a complete look at some regions found; what is there no more is forgotten. Returns how many are new."""
    rows = FoundCluster.objects.for_org(account.organization_id)
    new = 0
    with transaction.atomic():
        for one in found:
            facts = {
                "account": account,
                "name": one.name[:120],
                "region": one.region[:60],
                "version": one.version[:60],
                "status": one.status[:30],
                "tags": dict(one.tags),
                "seen_at": at,
            }
            _, created = rows.update_or_create(
                external_id=one.arn[:300],
                defaults=facts,
                create_defaults={"organization_id": account.organization_id, **facts},
            )
            new += created
        rows.filter(account=account, region__in=list(regions), seen_at__lt=at).delete()
        publish(account.organization_id, "clusters", [])
    return new


def discover(account: CloudAccount, connection: Any) -> Mapping[str, int]:
    """What the scan of a cloud account adds: its EKS clusters."""
    total = new = 0
    for region in regions_of(account):
        at = clock.now()
        found, problems = look(connection, region)
        new += remember(account=account, found=found, regions=[] if problems else [region], at=at)
        total += len(found)
    return {"clusters": total, "new_clusters": new}


def connect_found(*, actor: Actor, found_id: UUID, way: str, **facts: Any) -> Connected:
    """Connect a found cluster: `way` agent (its token is in the answer) or eks (read through the account).

    `facts` (name, environment, team, owner) win over what its tags say. Raises Forbidden, NotFound, InvalidInput,
    Conflict when it is connected already.
    """
    actor.require(MANAGE, "connect clusters")
    row = FoundCluster.objects.visible_to(actor).select_related("account").filter(id=found_id).first()
    if row is None:
        raise NotFound("There is no such cluster.")
    if way not in ("agent", "eks"):
        raise InvalidInput(errors={"way": ["Choose the agent or the EKS API."]})
    return create_cluster(
        actor=actor,
        account_id=row.account_id,
        external_id=row.external_id,
        distribution=Distribution.EKS,
        version=row.version,
        through_eks=way == "eks",
        **{**from_tags(row.tags), "tags": row.tags, "name": row.name, "region": row.region, **facts},
    )


def request_preflight(*, actor: Actor, cluster_id: UUID) -> Operation:
    """Order a check of every permission that reading (and, through an account, scaling) a cluster needs, then a look.

    An active operation of the cluster is returned as it is. Raises Forbidden, NotFound; InvalidInput for a cluster that
    an agent reports: its own reports name what it may not read.
    """
    actor.require(MANAGE, "check permissions")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        if row.method == Method.AGENT:
            raise InvalidInput("The agent's reports say what it may not read.")
        try:
            return operations.request_operation(
                actor=actor,
                kind=PREFLIGHT,
                resource_kind=RESOURCE,
                resource_id=row.id,
                resource_label=row.name,
                organization_id=row.organization_id,
                deadline_seconds=300,
            )
        except Conflict:
            active = operations.active_operation(RESOURCE, row.id)
            if active is None:
                raise
            return active
