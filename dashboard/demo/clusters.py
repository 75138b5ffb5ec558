"""Two of the sandbox's clusters, connected two weeks ago and reporting ever since; a third is left to be found."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from accounts import vault
from accounts.models import CloudAccount
from clusters import services
from clusters.models import Cluster, FoundCluster
from clusters.services import discovering
from core import clock
from core.actor import Actor
from core.errors import CurfewError
from core.providers import ProviderError
from costs import prices
from costs.feeds import aws
from dashboard.demo.history import one_quiet_transaction

log = logging.getLogger(__name__)
DAYS = 14
REGIONS = ("us-east-1", "us-west-2")
CONNECTED = {"lark-prod": Decimal(900), "lark-dev": Decimal(120)}


def connect(owner: Actor, account: CloudAccount, end: datetime) -> int:
    """Connect them with their history up to `end`; returns how many reports that were. Safe to repeat."""
    start = end - timedelta(days=DAYS)
    reports = 0
    with one_quiet_transaction(), clock.at(start):
        found = FoundCluster.objects.for_org(account.organization_id).filter(account=account, name__in=list(CONNECTED))
        _look(account)
        _spot_prices(account, start)
        known = Cluster.objects.for_org(account.organization_id).values_list("external_id", flat=True)
        for row in found.exclude(external_id__in=list(known)).order_by("name"):
            try:
                made = services.connect_found(actor=owner, found_id=row.id, way="agent").cluster
                services.update_cluster(actor=owner, cluster_id=made.id, monthly_budget=CONNECTED[row.name])
            except CurfewError as refused:
                log.warning("demo_cluster_not_connected", extra={"reason": str(refused)})
                continue
            reports += services.play_history(cluster=made, start=start, end=end)
            with clock.at(end):
                services.plan(cluster_id=made.id)
    services.beat_sandbox()
    return reports


def _spot_prices(account: CloudAccount, start: datetime) -> None:
    """The sandbox's simulated spot market, as it was read on the day that the clusters were connected."""
    try:
        connection: Any = vault.connection_of(account)
        rows = [row for region in REGIONS for row in aws.spot_prices(connection, region)]
    except ProviderError as silent:
        log.warning("demo_prices_not_read", extra={"reason": silent.message})
        return
    told = [replace(row, as_of=start.date(), source=f"{row.source}, Sandbox") for row in rows]
    prices.import_prices(actor=Actor.system("demo"), rows=told, label="Sandbox spot prices")


def _look(account: CloudAccount) -> None:
    try:
        connection: Any = vault.connection_of(account)
        for region in REGIONS:
            found, problems = discovering.look(connection, region)
            discovering.remember(account=account, found=found, regions=[] if problems else [region], at=clock.now())
    except ProviderError as silent:
        log.warning("demo_clusters_not_found", extra={"reason": silent.message})
