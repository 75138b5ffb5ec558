"""The registry: search, pills with counts, sorting and paging, in a fixed number of queries for any number of clusters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, FloatField, Q, Sum

from clusters.analysis.efficiency import grade_of
from clusters.enums import HOURS_PER_MONTH, Distribution, Environment, State
from clusters.models import Alert, Cluster
from clusters.selectors.detail import VIEW
from core.actor import Actor

HEALTHY = 80
TOP_SHARE = 10
MOST_URGENT = 3
# The ticker's words for kinds of alerts, the most urgent first: for one cluster, and for several.
TICKER = {
    "lost": ("cluster is lost", "clusters are lost"),
    "unreadable": ("cluster cannot be read", "clusters cannot be read"),
    "not_ready": ("cluster has nodes that are not ready", "clusters have nodes that are not ready"),
    "pressure": ("cluster is under pressure", "clusters are under pressure"),
    "slow_api": ("cluster has a slow API server", "clusters have a slow API server"),
    "interruption": ("cluster loses spot capacity", "clusters lose spot capacity"),
    "waiting": ("cluster has pods that wait for a node", "clusters have pods that wait for a node"),
    "drift": ("cluster has drifted", "clusters have drifted"),
}
LONGEST_SEARCH = 120
SORTS: dict[str, str] = {
    "name": "name",
    "state": "state",
    "region": "region",
    "version": "version",
    "nodes": "node_count",
    "cost": "hourly_cost",
    "saved": "saved_percent",
    "grade": "efficiency",
    "health": "health",
    "cis": "violations",
}
DEFERRED = (
    "credentials",
    "sources",
    "former_sessions",
    "digest",
    "digest_total",
    "session",
    "price_source",
    "tag_text",
)
DEGRADED = Q(state__in=[State.LOST, State.ERROR]) | Q(health__lt=HEALTHY)
PILLS: dict[str, tuple[str, Q]] = {
    "prod": (Environment.PRODUCTION.label, Q(environment=Environment.PRODUCTION)),
    "staging": (Environment.STAGING.label, Q(environment=Environment.STAGING)),
    "dev": (Environment.DEVELOPMENT.label, Q(environment=Environment.DEVELOPMENT)),
    "healthy": ("Healthy", Q(state=State.LIVE) & ~DEGRADED),
    "degraded": ("Degraded", DEGRADED & ~Q(state=State.ASLEEP)),
    "lost": ("Lost", Q(state=State.LOST)),
    "asleep": ("Asleep", Q(state=State.ASLEEP)),
    "maintenance": ("Maintenance", Q(maintenance_since__isnull=False)),
    "eks": ("EKS", Q(distribution=Distribution.EKS)),
    "gke": ("GKE", Q(distribution=Distribution.GKE)),
    "aks": ("AKS", Q(distribution=Distribution.AKS)),
}
HIGH_COST = "cost"


@dataclass(frozen=True, slots=True)
class Filters:
    """What was asked of the registry; `sort` is a key of SORTS, with "-" descending."""

    search: str = ""
    pill: str = ""
    sort: str = "-cost"


@dataclass(frozen=True, slots=True)
class Pill:
    """One quick filter; `key` is "" for all."""

    key: str
    label: str
    count: int
    current: bool


@dataclass(frozen=True, slots=True)
class HeadsUp:
    """All clusters of the organization in sums. `hourly` is None when no cluster has a price."""

    clusters: int
    awake: int
    asleep: int
    lost: int
    troubled: int
    nodes: int
    cpu_milli: int
    memory_bytes: int
    hourly: Decimal | None
    unpriced_nodes: int
    efficiency: float | None
    alerts: int
    urgent: tuple[str, ...] = ()

    @property
    def monthly(self) -> Decimal | None:
        return None if self.hourly is None else self.hourly * HOURS_PER_MONTH

    @property
    def grade(self) -> str:
        return "" if self.efficiency is None else grade_of(self.efficiency)

    @property
    def vcpus(self) -> int:
        return round(self.cpu_milli / 1000)


@dataclass(frozen=True, slots=True)
class Registry:
    """One page of clusters, the pills with their counts, and the sums over everything."""

    page: Page[Any]
    pills: list[Pill]
    heads_up: HeadsUp


def _urgent(kind: str, count: int) -> str:
    """A line of the ticker: "3 clusters have a slow API server"."""
    one, many = TICKER.get(kind, ("cluster has an alert", "clusters have alerts"))
    return f"{count:,} {one if count == 1 else many}"


def _searched(actor: Actor, search: str) -> Any:
    rows = Cluster.objects.visible_to(actor)
    for word in search[:LONGEST_SEARCH].split():
        rows = rows.filter(
            Q(name__icontains=word)
            | Q(region__icontains=word)
            | Q(tag_text__icontains=word)
            | Q(external_id__icontains=word)
            | Q(uid__icontains=word)
            | Q(team__icontains=word)
        )
    return rows


def _dear(rows: Any) -> Decimal | None:
    """What a cluster costs at least to be among the dearest tenth; None when none has a price."""
    priced = rows.filter(hourly_cost__gt=0).order_by("-hourly_cost").values_list("hourly_cost", flat=True)
    costs: list[Decimal] = list(priced)
    return costs[max(1, len(costs) // TOP_SHARE) - 1] if costs else None


def rows(*, actor: Actor, filters: Filters) -> Any:
    """The matching clusters as an ordered queryset, for paging."""
    actor.require(VIEW, "see clusters")
    found = _searched(actor, filters.search)
    if filters.pill in PILLS:
        found = found.filter(PILLS[filters.pill][1])
    elif filters.pill == HIGH_COST:
        least = _dear(found)
        found = found.none() if least is None else found.filter(hourly_cost__gte=least)
    name = SORTS.get(filters.sort.removeprefix("-"), "hourly_cost")
    down = filters.sort.startswith("-") or filters.sort.removeprefix("-") not in SORTS
    key = F(name).desc(nulls_last=True) if down else F(name).asc(nulls_last=True)
    return found.defer(*DEFERRED).select_related("account").order_by(key, "name", "id")


def get_registry(*, actor: Actor, filters: Filters, number: int | str = 1, size: int = 50) -> Registry:
    """A page of the registry in six queries."""
    actor.require(VIEW, "see clusters")
    found = _searched(actor, filters.search)
    counts = found.aggregate(all=Count("id"), **{key: Count("id", filter=q) for key, (_, q) in PILLS.items()})
    priced = found.filter(hourly_cost__gt=0).count()
    counts[HIGH_COST] = max(1, priced // TOP_SHARE) if priced else 0
    labels = {"": "All", **{key: label for key, (label, _) in PILLS.items()}, HIGH_COST: "High cost"}
    pills = [
        Pill(key, label, counts[key or "all"], filters.pill == key)
        for key, label in labels.items()
        if counts[key or "all"] or key in ("", filters.pill, "prod", "dev", "degraded")
    ]
    page = Paginator(rows(actor=actor, filters=filters), size).get_page(number)
    page.object_list = list(page.object_list)
    return Registry(page, pills, heads_up(actor=actor))


def heads_up(*, actor: Actor) -> HeadsUp:
    """Sums over every cluster, in two queries. Efficiency is weighted by cost; asleep clusters have no capacity."""
    actor.require(VIEW, "see clusters")
    awake = ~Q(state=State.ASLEEP)
    graded = Q(efficiency__isnull=False, hourly_cost__gt=0) & awake
    sums = Cluster.objects.visible_to(actor).aggregate(
        clusters=Count("id"),
        live=Count("id", filter=Q(state=State.LIVE)),
        asleep=Count("id", filter=Q(state=State.ASLEEP)),
        lost=Count("id", filter=Q(state=State.LOST)),
        troubled=Count("id", filter=Q(state=State.ERROR)),
        nodes=Sum("node_count", filter=awake),
        cpu=Sum("cpu_milli", filter=awake),
        memory=Sum("memory_bytes", filter=awake),
        hourly=Sum("hourly_cost", filter=awake),
        unpriced=Sum("unpriced_nodes", filter=awake),
        weighed=Sum(F("efficiency") * F("hourly_cost"), filter=graded, output_field=FloatField()),
        weight=Sum("hourly_cost", filter=graded, output_field=FloatField()),
    )
    weight = sums["weight"]
    alerts = Alert.objects.visible_to(actor).filter(ended_at=None).order_by().values("kind")
    counted = alerts.annotate(alerts=Count("id"), clusters=Count("cluster", distinct=True))
    kinds = sorted(counted, key=lambda row: list(TICKER).index(row["kind"]) if row["kind"] in TICKER else 99)
    return HeadsUp(
        clusters=sums["clusters"],
        awake=sums["live"],
        asleep=sums["asleep"],
        lost=sums["lost"],
        troubled=sums["troubled"],
        nodes=sums["nodes"] or 0,
        cpu_milli=sums["cpu"] or 0,
        memory_bytes=sums["memory"] or 0,
        hourly=sums["hourly"],
        unpriced_nodes=sums["unpriced"] or 0,
        efficiency=float(sums["weighed"]) / float(weight) if weight else None,
        alerts=sum(row["alerts"] for row in kinds),
        urgent=tuple(_urgent(row["kind"], row["clusters"]) for row in kinds[:MOST_URGENT]),
    )


def find(*, actor: Actor, words: str, most: int) -> Iterable[Cluster]:
    """The first clusters that every word fits, for the search over everything."""
    if not actor.can(VIEW):
        return []
    return list(_searched(actor, words).defer(*DEFERRED).order_by("name")[:most])
