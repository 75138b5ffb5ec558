"""The observability dashboard and the analysis endpoints: read-only, every figure potential or projected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from accounts import selectors as accounts
from clusters.analysis.composition import Slice, composition
from clusters.analysis.efficiency import Efficiency, efficiency
from clusters.analysis.facts import ClusterFacts, Lifecycle, Node, Resources
from clusters.analysis.waste import CapacitySample, Waste, waste
from clusters.enums import HOURS_PER_MONTH, Span, State
from clusters.facts import cluster_facts
from clusters.models import Cluster, ClusterNode, Records, Sample
from clusters.packed import unpack
from clusters.selectors.detail import VIEW
from clusters.selectors.registry import DEFERRED
from core import clock
from core.actor import Actor

DAYS = 7
MOST_LISTED = 200
LIFECYCLES = set(Lifecycle)
USAGE = "usage"


@dataclass(frozen=True, slots=True)
class Overview:
    """All clusters of a scope. `monthly` is projected, `waste` potential; both None when no price is known."""

    clusters: list[Cluster]
    total: int
    fleet: Slice
    waste: Waste
    monthly: Decimal | None
    unpriced: int
    asleep: int


@dataclass(frozen=True, slots=True)
class Price:
    """What a node's row says of its price."""

    hourly: Decimal | None
    source: str
    day: Any


def overview(*, actor: Actor, account_id: UUID | None = None) -> Overview:
    """Everything, or the clusters of one cloud account, in five queries. NotFound for another organization's account."""
    actor.require(VIEW, "see clusters")
    scope = Cluster.objects.visible_to(actor)
    nodes = ClusterNode.objects.visible_to(actor).filter(gone_at=None)
    samples = Sample.objects.visible_to(actor).filter(span=Span.HOUR, at__gte=clock.now() - timedelta(days=DAYS))
    if account_id is not None:
        account = accounts.get_account(actor=actor, account_id=account_id)
        scope, nodes = scope.filter(account=account), nodes.filter(cluster__account=account)
        samples = samples.filter(cluster__account=account)
    nodes = nodes.exclude(cluster__state=State.ASLEEP)
    clusters = list(scope.defer(*DEFERRED).order_by("-hourly_cost", "name")[:MOST_LISTED])
    fleet = composition([_node(row) for row in nodes.values_list("name", "instance_type", "lifecycle", "hourly_price")])
    return Overview(
        clusters=clusters,
        total=scope.count(),
        fleet=fleet,
        waste=waste(together(samples)),
        monthly=None if fleet.hourly is None else fleet.hourly * HOURS_PER_MONTH,
        unpriced=fleet.unpriced,
        asleep=scope.filter(state=State.ASLEEP).count(),
    )


def _node(row: tuple[Any, ...]) -> Node:
    name, kind, lifecycle, price = row
    known = Lifecycle(lifecycle) if lifecycle in LIFECYCLES else Lifecycle.UNKNOWN
    return Node(name, Resources(), instance_type=kind, lifecycle=known, hourly_price=price)


def together(samples: Any) -> list[CapacitySample]:
    """Samples of several clusters added up by hour. Usage counts only in hours for which every cluster's is known."""
    fields = (
        "at",
        "cpu_milli",
        "memory_bytes",
        "requested_cpu_milli",
        "requested_memory_bytes",
        "used_cpu_milli",
        "used_memory_bytes",
        "hourly_cost",
    )
    hours: dict[datetime, list[tuple[Any, ...]]] = defaultdict(list)
    for at, *values in samples.values_list(*fields):
        hours[at].append(tuple(values))
    return [_sum_hour(at, rows) for at, rows in sorted(hours.items())]


def _sum_hour(at: datetime, rows: Sequence[tuple[Any, ...]]) -> CapacitySample:
    columns = list(zip(*rows, strict=True))
    measured = None not in columns[4] and None not in columns[5]
    costs = [cost for cost in columns[6] if cost is not None]
    return CapacitySample(
        at,
        Resources(round(sum(columns[0])), round(sum(columns[1]))),
        Resources(round(sum(columns[2])), round(sum(columns[3]))),
        Resources(round(sum(columns[4])), round(sum(columns[5]))) if measured else None,
        sum(costs, Decimal(0)) if costs else None,
    )


def waste_of(*, actor: Actor, cluster: Cluster, days: int = DAYS) -> Waste:
    """The resource gap of one cluster over some days."""
    rows = Sample.objects.visible_to(actor).filter(
        cluster=cluster, span=Span.HOUR, at__gte=clock.now() - timedelta(days=days)
    )
    return waste(together(rows))


def facts_of(*, actor: Actor, cluster: Cluster) -> ClusterFacts:
    """The facts of a cluster's last report with each node's price at the time. Seconds at 10,000 pods."""
    rows = Records.objects.visible_to(actor).filter(cluster=cluster)
    tables = {row.collection: unpack(row.packed) for row in rows.exclude(collection="events").iterator()}
    nodes = ClusterNode.objects.visible_to(actor).filter(cluster=cluster, gone_at=None)
    prices = {node.name: Price(node.hourly_price, node.price_source, node.price_date) for node in nodes}
    return cluster_facts(tables, tables.pop(USAGE, {}), prices)


def fleet_of(*, actor: Actor, cluster: Cluster) -> Slice:
    """What one cluster's fleet is made of."""
    nodes = ClusterNode.objects.visible_to(actor).filter(cluster=cluster, gone_at=None)
    return composition([_node(row) for row in nodes.values_list("name", "instance_type", "lifecycle", "hourly_price")])


def efficiency_of(*, actor: Actor, cluster: Cluster) -> Efficiency:
    """The grade of one cluster with its formula."""
    return efficiency(facts_of(actor=actor, cluster=cluster))
