"""Interruptions of spot nodes: which were observed, for how many node-hours, and what AWS's bands say beforehand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, Sum, Value
from django.db.models.functions import Coalesce

from accounts.models import Organization
from audit import services as audit
from clusters.analysis.stability import SpotObservation
from clusters.models import Cluster, ClusterNode, SpotBand
from clusters.providers.spot_advisor import Band
from core import clock
from core.actor import Actor

OBSERVED = timedelta(days=90)
REASONS = ("SpotInterruption", "SpotInterrupted")  # a rebalance recommendation interrupts nothing
LATE = timedelta(hours=1)
HOUR = timedelta(hours=1)
Record = Mapping[str, Any]


def import_spot_bands(*, actor: Actor, bands: Sequence[Band], source: str) -> int:
    """Replace what is known of the bands' regions; returns how many bands are kept. Every organization's log tells it."""
    today = clock.now().date()
    rows = {(band.region, band.instance_type): band for band in bands}
    with transaction.atomic():
        SpotBand.objects.filter(region__in={band.region for band in bands}).delete()
        SpotBand.objects.bulk_create(
            (
                SpotBand(
                    region=one.region, instance_type=one.instance_type, band=one.band, source=source[:200], as_of=today
                )
                for one in rows.values()
            ),
            batch_size=1000,
        )
        for organization_id in Organization.objects.values_list("id", flat=True):
            audit.record(
                actor=actor,
                verb="cluster.spot_bands_imported",
                target_kind="spot_bands",
                target_label=source[:200],
                detail=f"{len(rows)} bands",
                organization_id=organization_id,
            )
    return len(rows)


def interrupted(tables: Mapping[str, Mapping[str, Record]]) -> dict[str, datetime]:
    """Nodes that the report's events say were taken back, with when."""
    claims = tables.get("node_claims") or {}
    found: dict[str, datetime] = {}
    for event in (tables.get("events") or {}).values():
        name, last = str(event.get("name", "")), event.get("last_at")
        if event.get("reason") not in REASONS or not last:
            continue
        if event.get("kind") == "NodeClaim":
            name = str((claims.get(name) or {}).get("node") or "")
        if name:
            found[name] = datetime.fromisoformat(last)
    return found


def note(cluster: Cluster, nodes: Mapping[str, datetime], now: datetime) -> None:
    """Mark node rows as interrupted, each once; the node may have left just before its event was read."""
    rows = ClusterNode.objects.for_org(cluster.organization_id).filter(
        Q(gone_at=None) | Q(gone_at__gte=now - LATE), cluster=cluster, interrupted_at=None, lifecycle="spot"
    )
    for name, at in nodes.items():
        rows.filter(name=name[:253]).update(interrupted_at=at)


def observations(cluster: Cluster, types: Iterable[str], now: datetime) -> tuple[SpotObservation, ...]:
    """Of each of the spot types that run now (once for each node): its band, and what the last 90 days showed."""
    nodes: dict[str, int] = defaultdict(int)
    for kind in types:
        nodes[kind] += 1
    if not nodes:
        return ()
    bands = dict(
        SpotBand.objects.filter(region=cluster.region, instance_type__in=nodes).values_list("instance_type", "band")
        if cluster.cloud == "aws"
        else ()
    )
    life = ExpressionWrapper(Coalesce("gone_at", Value(now)) - F("first_seen_at"), output_field=DurationField())
    rows = ClusterNode.objects.for_org(cluster.organization_id).filter(
        Q(gone_at=None) | Q(gone_at__gte=now - OBSERVED), cluster=cluster, lifecycle="spot", instance_type__in=nodes
    )
    seen = {
        kind: (lived / HOUR if lived else 0.0, count)
        for kind, lived, count in rows.order_by()
        .values("instance_type")
        .annotate(lived=Sum(life), count=Count("id", filter=~Q(interrupted_at=None)))
        .values_list("instance_type", "lived", "count")
    }
    return tuple(
        SpotObservation(kind, count, bands.get(kind), *seen.get(kind, (0.0, 0)))
        for kind, count in sorted(nodes.items())
    )
