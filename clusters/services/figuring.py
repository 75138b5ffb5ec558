"""Figures of a cluster after a report: what pods hold, what each group, namespace and workload costs, health, alerts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from clusters import figures
from clusters.analysis.efficiency import Efficiency, efficiency
from clusters.analysis.trend import week_over_week
from clusters.enums import Severity, Span
from clusters.facts import cluster_facts
from clusters.models import Alert, Cluster, ClusterNode, Sample, Summary
from clusters.services import history, insights, interruptions, reports
from clusters.services.money import Quote
from clusters.services.moves import raise_alert
from core import clock
from core.actor import Actor
from core.live import publish
from costs import selectors as costs

EVENT_KINDS = {
    "pressure": ("NodeHasDiskPressure", "NodeHasInsufficientMemory", "NodeHasInsufficientPID", "EvictionThresholdMet"),
    "restarts": ("BackOff",),
    "kills": ("OOMKilling", "OOMKilled", "SystemOOM"),
    "interruptions": ("SpotInterruption", "SpotInterrupted", "RebalanceRecommendation", "SpotRebalanceRecommendation"),
}
ALERT_KINDS = ("not_ready", "pressure", "waiting", "slow_api", "interruption", "drift")
SLOW_API_MS = 1000
MOST_DIRTY = 50
SPARK_HOURS = 24
NODE_HELD = (
    "pods",
    "requested_cpu_milli",
    "requested_memory_bytes",
    "used_cpu_milli",
    "used_memory_bytes",
)


def refigure_dirty() -> list[UUID]:
    """Clusters whose report is newer than their figures, longest waiting first."""
    rows = Cluster.objects.all_orgs().filter(dirty=True).order_by("reported_at")
    return list(rows.values_list("id", flat=True)[:MOST_DIRTY])


def judge_again(*, organization_id: UUID, ids: Collection[UUID]) -> int:
    """What clusters are judged by has changed (a node template): their figures are worked out anew. Returns how many."""
    rows = Cluster.objects.for_org(organization_id).filter(id__in=list(ids), reported_at__isnull=False)
    return int(rows.update(dirty=True))


def refigure(*, cluster_id: UUID) -> bool:
    """Work out a cluster's figures from its last report. False when there is nothing to do.

    Sums are made outside the transaction; a report that arrives meanwhile marks the cluster again.
    """
    cluster = Cluster.objects.all_orgs().filter(id=cluster_id, dirty=True).first()
    if cluster is None:
        return False
    Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id).update(dirty=False)
    now = clock.now()
    tables = reports.load(cluster)
    nodes = list(ClusterNode.objects.for_org(cluster.organization_id).filter(cluster=cluster, gone_at=None))
    prices = {node.name: node.hourly_price for node in nodes}
    usage = tables.pop(reports.USAGE, {})
    known = {node.name: Quote(node.hourly_price, node.price_source, node.price_date) for node in nodes}
    facts = cluster_facts(tables, usage, known)
    found = figures.figures(tables, usage, {name for name, price in prices.items() if price is not None})
    figures.share_out(found, facts, now)
    grade = efficiency(facts)
    interruptions.note(cluster, interruptions.interrupted(tables), now)
    told = insights.insights(cluster, tables, facts, grade, now)
    counts = figures.happened((tables.get("events") or {}).values(), cluster.figured_at, EVENT_KINDS)
    pools = tables.get("node_pools") or {}
    with transaction.atomic():
        # Reports of the same cluster work looks into the same rows of history.
        Cluster.objects.for_org(cluster.organization_id).select_for_update().filter(id=cluster.id).first()
        _store_summary(cluster, found, prices, pools, told, now)
        _store_held(nodes, found)
        fields = {**_fields(cluster, found, grade, now), "violations": told["cis"]["failed"]}
        for name, value in fields.items():
            setattr(cluster, name, value)
        look = history.Look(now, {**history.standing(cluster), **_used(cluster)}, counts)
        history.add_looks(cluster, [look])
        fields["spark"] = spark(cluster, now)
        Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id).update(**fields)
        _alerts(cluster, tables.get("nodes") or {}, found, {**counts, "drift": told["drift"]}, now)
        publish(cluster.organization_id, "clusters", [cluster.id])
    return True


def _used(cluster: Cluster) -> dict[str, Any]:
    return {"used_cpu_milli": cluster.used_cpu_milli, "used_memory_bytes": cluster.used_memory_bytes}


def _store_summary(
    cluster: Cluster,
    found: figures.Figures,
    prices: Mapping[str, Decimal | None],
    pools: Mapping[str, Any],
    told: dict[str, Any],
    now: datetime,
) -> None:
    Summary.objects.for_org(cluster.organization_id).update_or_create(
        cluster=cluster,
        defaults={
            "organization_id": cluster.organization_id,
            "at": now,
            "insights": told,
            **insights.sums(told),
            "groups": figures.group_rows(found, prices, pools),
            "namespaces": figures.namespace_rows(found),
            "workloads": figures.workload_rows(found),
            "costs": {
                "nodes": f"{found.node_cost:.8f}",
                "workloads": f"{found.workload_cost:.8f}",
                "idle": f"{found.idle_cost:.8f}",
                "overhead": f"{found.overhead_cost:.8f}",
                "waiting_pods": found.waiting,
            },
        },
    )


def _store_held(nodes: list[ClusterNode], found: figures.Figures) -> None:
    changed = []
    for node in nodes:
        seen = found.nodes.get(node.name)
        if seen is None:
            continue
        held = seen.held
        values = (held.pods, held.cpu, held.memory, held.used_cpu, held.used_memory)
        if tuple(getattr(node, name) for name in NODE_HELD) != values:
            for name, value in zip(NODE_HELD, values, strict=True):
                setattr(node, name, value)
            changed.append(node)
    if changed:
        rows = ClusterNode.objects.for_org(changed[0].organization_id)
        rows.bulk_update(changed, list(NODE_HELD), batch_size=150)


def _fields(cluster: Cluster, found: figures.Figures, grade: Efficiency, now: datetime) -> dict[str, Any]:
    held = [node.held for node in found.nodes.values()]
    cpu = [amount.used_cpu for amount in held if amount.used_cpu is not None]
    memory = [amount.used_memory for amount in held if amount.used_memory is not None]
    return {
        "pod_count": found.pods,
        "requested_cpu_milli": sum(amount.cpu for amount in held),
        "requested_memory_bytes": sum(amount.memory for amount in held),
        "used_cpu_milli": sum(cpu) if cpu else None,
        "used_memory_bytes": sum(memory) if memory else None,
        "efficiency": grade.score,
        "grade": grade.grade if grade.score is not None else "",
        "health": health(cluster, found),
        "cost_change": cost_change(cluster, now),
        "saved_percent": saved_percent(cluster, now),
        "figured_at": now,
    }


def health(cluster: Cluster, found: figures.Figures) -> int | None:
    """0 to 100: ready nodes count half, places for pods and nodes without pressure a fifth each, the API's pace a tenth.

    None without nodes. A slow API loses its tenth from a quarter of a second on, all of it at two seconds.
    """
    nodes = list(found.nodes.values())
    if not nodes:
        return None
    ready = sum(bool(node.record.get("ready")) for node in nodes) / len(nodes)
    calm = sum(not insights.under_pressure(node.record) for node in nodes) / len(nodes)
    placed = 1 - found.waiting / found.pods if found.pods else 1.0
    pace = 1.0 if cluster.api_ms is None else min(1.0, max(0.0, (2000 - cluster.api_ms) / 1750))
    return round(100 * (0.5 * ready + 0.2 * calm + 0.2 * placed + 0.1 * pace))


def spark(cluster: Cluster, now: datetime) -> list[float | None]:
    """Nodes at each of the last 24 hours, oldest first; None for hours without a look."""
    last = history.start_of(Span.HOUR, now)
    first = last - timedelta(hours=SPARK_HOURS - 1)
    rows = Sample.objects.for_org(cluster.organization_id).filter(cluster=cluster, span=Span.HOUR, at__gte=first)
    seen = {row.at: round(row.nodes, 1) for row in rows}
    return [seen.get(first + timedelta(hours=hour)) for hour in range(SPARK_HOURS)]


def cost_change(cluster: Cluster, now: datetime) -> float | None:
    """Change of the mean hourly cost against last week, as a part of it; None while two weeks are not known."""
    rows = Sample.objects.for_org(cluster.organization_id).filter(
        cluster=cluster, span=Span.HOUR, at__gte=now - timedelta(days=14)
    )
    series = [(at, None if cost is None else float(cost)) for at, cost in rows.values_list("at", "hourly_cost")]
    return week_over_week(series, now).change


def saved_percent(cluster: Cluster, now: datetime) -> float | None:
    """Real savings of the last thirty days in percent of what being awake around the clock would have cost."""
    actor = Actor.system("cluster_figures", cluster.organization_id)
    start = now - timedelta(days=30)
    rows = costs.intervals_between(actor, start, now).filter(resource_id=cluster.id)
    sums = costs.sum_intervals(rows, start, now)
    whole = sums.spent + sums.saved
    return float(100 * sums.saved / whole) if whole else None


def _alerts(
    cluster: Cluster, nodes: Mapping[str, Any], found: figures.Figures, counts: Mapping[str, Any], now: datetime
) -> None:
    """Open what is the case now, close what is not any more."""
    wanted = dict(_node_alerts(nodes))
    if found.waiting:
        words = f"{found.waiting} of {found.pods} pods wait for a node."
        wanted[("waiting", "")] = (Severity.WARNING, "Pods wait for a node", words)
    if cluster.api_ms is not None and cluster.api_ms > SLOW_API_MS:
        words = f"The API server took {cluster.api_ms} ms to tell its version."
        wanted[("slow_api", "")] = (Severity.WARNING, "The API server is slow", words)
    if counts.get("interruptions"):
        words = f"{counts['interruptions']} notices since the last look."
        wanted[("interruption", "")] = (Severity.WARNING, "Spot capacity is being taken back", words)
    if counts.get("drift") and counts["drift"]["drifted_nodes"]:
        names = list(dict.fromkeys(one["node"] for one in counts["drift"]["drifted"]))
        title = f"{counts['drift']['drifted_nodes']} nodes are not what {counts['drift']['template']} allows"
        wanted[("drift", "")] = (Severity.WARNING, title, _names(names))
    rows = Alert.objects.for_org(cluster.organization_id).filter(cluster=cluster, ended_at=None, kind__in=ALERT_KINDS)
    open_now = {(row.kind, row.subject): row for row in rows}
    over = [row.id for key, row in open_now.items() if key not in wanted]
    Alert.objects.for_org(cluster.organization_id).filter(id__in=over).update(ended_at=now)
    for key, (severity, title, detail) in wanted.items():
        row = open_now.get(key)
        if row is None or (row.title, row.detail) != (title, detail):
            raise_alert(cluster, key[0], key[1], severity, title, detail, now)


def _node_alerts(nodes: Mapping[str, Any]) -> list[tuple[tuple[str, str], tuple[str, str, str]]]:
    """One alert for all nodes that are not ready, one for each kind of pressure."""
    found: list[tuple[tuple[str, str], tuple[str, str, str]]] = []
    unready = sorted(name for name, node in nodes.items() if not node.get("ready"))
    if unready:
        title = f"{len(unready)} node{'s are' if len(unready) != 1 else ' is'} not ready"
        found.append((("not_ready", ""), (Severity.WARNING, title, _names(unready))))
    for kind in insights.PRESSURES:
        under = sorted(name for name, node in nodes.items() if kind in insights.under_pressure(node))
        if under:
            title = f"{kind} on {len(under)} node{'s' if len(under) != 1 else ''}"
            found.append((("pressure", kind), (Severity.WARNING, title, _names(under))))
    return found


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
