"""The observability dashboard and the analysis endpoints: read-only, every figure potential or projected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Count, F, FloatField, Q, Sum, Value
from django.db.models.functions import Greatest

from accounts import selectors as accounts
from clusters.analysis.activity import Activity, ActivitySample, activity
from clusters.analysis.composition import Slice, composition
from clusters.analysis.facts import Lifecycle, Node, Resources
from clusters.analysis.stability import ORANGE_BELOW, level_of
from clusters.analysis.waste import CapacitySample, Waste, waste
from clusters.enums import HOURS_PER_MONTH, Span, State
from clusters.models import Cluster, ClusterNode, Sample, Summary
from clusters.selectors.detail import VIEW
from clusters.selectors.registry import DEFERRED
from core import clock
from core.actor import Actor

DAYS = 7
MOST_LISTED = 200
LIFECYCLES = set(Lifecycle)
ACTIVITY_DAYS = 84
MOST_WEAK = 5


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


@dataclass(frozen=True, slots=True)
class Stressed:
    """A cluster whose stability is below 80."""

    id: UUID
    name: str
    index: float


@dataclass(frozen=True, slots=True)
class Potential:
    """What the analyses of a scope's clusters come to. Dollars a month, potential, of the clusters for which they are
    known; None when of none. `spot_ready` is percent of pods; `stability` the mean by nodes, `level` its colour."""

    packing: Decimal | None
    nodes_now: int
    nodes_planned: int
    spot: Decimal | None
    spot_ready: float | None
    stability: float | None
    level: str
    weakest: tuple[Stressed, ...]


def potential_of(*, actor: Actor, account_id: UUID | None = None) -> Potential:
    """Packing, spot and stability of the clusters that are not asleep, in two queries."""
    actor.require(VIEW, "see clusters")
    rows = Summary.objects.visible_to(actor).exclude(cluster__state=State.ASLEEP)
    if account_id is not None:
        rows = rows.filter(cluster__account_id=account_id)
    steady, nodes = rows.filter(stability__isnull=False), Greatest("cluster__node_count", Value(1))
    found = rows.aggregate(
        packing=Sum("packing_savings"),
        nodes_now=Sum("packing_nodes"),
        nodes_planned=Sum("packing_nodes_after"),
        spot=Sum("spot_savings"),
        pods=Sum("spot_pods"),
        ready=Sum("spot_ready_pods"),
        weight=Sum(nodes, filter=Q(stability__isnull=False)),
        whole=Sum(F("stability") * nodes, filter=Q(stability__isnull=False), output_field=FloatField()),
    )
    mean = found["whole"] / found["weight"] if found["weight"] else None
    weak = steady.filter(stability__lt=ORANGE_BELOW).order_by("stability", "cluster__name")
    return Potential(
        packing=found["packing"],
        nodes_now=found["nodes_now"] or 0,
        nodes_planned=found["nodes_planned"] or 0,
        spot=found["spot"],
        spot_ready=100 * (found["ready"] or 0) / found["pods"] if found["pods"] else None,
        stability=mean,
        level="unknown" if mean is None else level_of(mean),
        weakest=tuple(
            Stressed(key, name, index or 0.0)
            for key, name, index in weak.values_list("cluster_id", "cluster__name", "stability")[:MOST_WEAK]
        ),
    )


def zone_of(actor: Actor) -> str:
    """The zone in which the hours of activity are told: the organization's."""
    return str(accounts.get_organization(actor=actor).timezone)


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


def fleet_of(*, actor: Actor, cluster: Cluster) -> Slice:
    """What one cluster's fleet is made of."""
    nodes = ClusterNode.objects.visible_to(actor).filter(cluster=cluster, gone_at=None)
    return composition([_node(row) for row in nodes.values_list("name", "instance_type", "lifecycle", "hourly_price")])


def activity_of(*, actor: Actor, cluster: Cluster) -> Activity:
    """When a cluster was used during the last twelve weeks: changes of its objects, and CPU in use.

    An hour with looks but without changes was quiet; an hour without looks is not known.
    """
    rows = Sample.objects.visible_to(actor).filter(
        cluster=cluster, span=Span.HOUR, at__gte=clock.now() - timedelta(days=ACTIVITY_DAYS), cpu_milli__gt=0
    )
    samples = [
        ActivitySample(at, changes or 0.0, None if used is None else used / capacity)
        for at, changes, used, capacity in rows.values_list("at", "changes", "used_cpu_milli", "cpu_milli")
    ]
    return activity(samples, ZoneInfo(accounts.get_organization(actor=actor).timezone))


def activity_together(*, actor: Actor, account_id: UUID | None) -> Activity:
    """The same for every cluster of a scope, added up by hour."""
    rows = Sample.objects.visible_to(actor).filter(
        span=Span.HOUR, at__gte=clock.now() - timedelta(days=ACTIVITY_DAYS), cpu_milli__gt=0
    )
    if account_id is not None:
        rows = rows.filter(cluster__account_id=account_id)
    hours = rows.values("at").annotate(
        changed=Sum("changes"),
        used=Sum("used_cpu_milli"),
        capacity=Sum("cpu_milli"),
        blind=Count("id", filter=Q(used_cpu_milli=None)),
    )
    samples = [
        ActivitySample(h["at"], h["changed"] or 0.0, None if h["blind"] else h["used"] / h["capacity"]) for h in hours
    ]
    return activity(samples, ZoneInfo(accounts.get_organization(actor=actor).timezone))
