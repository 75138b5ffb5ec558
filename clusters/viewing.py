"""What the pages of clusters show, made from rows: states as words, bytes and cores, links that keep the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django.conf import settings
from django.http import QueryDict

from clusters.analysis.activity import Activity
from clusters.analysis.eol import BUILT_IN, EolBadge, Support
from clusters.enums import HOURS_PER_MONTH, WORDS
from clusters.models import Cluster, ClusterNode, Sample, Summary
from clusters.selectors import Registry
from clusters.selectors.money import Burndown
from core import clock

GIB = 1024**3
MILLI = 1000
CLOUD_ICONS = {"aws": "brand-aws", "gcp": "brand-google", "azure": "brand-azure"}
LOW_USE = 0.3
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MOST_TABLE = 48
MOST_TOPOLOGY = 400
MOST_SQUARES = 40
GROUP_KINDS = {"eks": "EKS managed", "karpenter": "Karpenter", "gke": "GKE", "aks": "AKS", "kops": "kOps", "": "None"}


@dataclass(frozen=True, slots=True)
class Spark:
    """A line for a picture of 100 x 24: SVG paths; "" when fewer than two hours are known."""

    line: str
    fill: str
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """One cluster of the registry."""

    cluster: Cluster
    badge: str
    icon: str
    spark: Spark
    trend: str
    change: float | None
    gauge: str
    eol: EolBadge | None
    eol_short: str
    version: str


def eol_of(cluster: Cluster) -> EolBadge | None:
    """The end-of-life badge, None while the version is supported for long or nobody knows."""
    provider = cluster.distribution if cluster.distribution in ("eks", "gke", "aks") else "kubernetes"
    found = BUILT_IN.badge(provider, cluster.version, clock.now().date())
    return None if found.support in (Support.SUPPORTED, Support.UNKNOWN) else found


def short_eol(badge: EolBadge | None) -> str:
    """The badge in a word or two: what extended support costs a month, or that support ends or has ended."""
    if badge is None:
        return ""
    if badge.support is Support.EXTENDED and badge.monthly_extra:
        return f"+${badge.monthly_extra:,.0f} a month"
    return "EOL soon" if badge.support is Support.ENDING_SOON else "EOL"


def spark_of(values: Sequence[float | None], label: str) -> Spark:
    """Known values joined by lines; unknown hours are left out, never drawn as zero."""
    points = [(index, value) for index, value in enumerate(values) if value is not None]
    if len(points) < 2:
        return Spark("", "", label)
    least, most = min(v for _, v in points), max(v for _, v in points)
    height = (most - least) or 1.0
    steps = max(1, len(values) - 1)
    spots = [f"{100 * i / steps:.1f} {21 - 18 * (v - least) / height if most > least else 12:.1f}" for i, v in points]
    line = "M" + "L".join(spots)
    first, last = spots[0].split()[0], spots[-1].split()[0]
    return Spark(line, f"{line}L{last} 24L{first} 24Z", label)


def badge_of(cluster: Cluster) -> str:
    """The word of the interface, "" for connecting."""
    return WORDS.get(cluster.state, "")


def gauge_of(health: int | None) -> str:
    """The colour class of a health ring."""
    if health is None:
        return ""
    return "ring--good" if health >= 80 else "ring--mid" if health >= 50 else "ring--bad"


def row_of(cluster: Cluster) -> Row:
    """One line of the registry, without further reads."""
    change = cluster.cost_change
    eol = eol_of(cluster) if cluster.version else None
    trend = "" if change is None else "flat" if abs(change) < 0.02 else "up" if change > 0 else "down"
    return Row(
        cluster,
        badge_of(cluster),
        CLOUD_ICONS.get(cluster.cloud, "hexagons"),
        spark_of(cluster.spark, f"Nodes over 24 hours, now {cluster.node_count}"),
        trend,
        None if change is None else abs(100 * change),
        gauge_of(cluster.health),
        eol,
        short_eol(eol),
        cluster.version.partition("-")[0],
    )


def link(query: QueryDict, **changes: str) -> str:
    """The query with other values, from the first page on."""
    kept = query.copy()
    kept.pop("page", None)
    for key, value in changes.items():
        kept[key] = value
        if not value:
            del kept[key]
    return f"?{kept.urlencode()}"


def toolbar(query: QueryDict, registry: Registry, url: str) -> dict[str, Any]:
    """The registry's search and pills."""
    pills = [
        {"label": p.label, "count": p.count, "current": p.current, "url": link(query, pill=p.key)}
        for p in registry.pills
    ]
    return {
        "url": url,
        "target": "#clusters-grid",
        "search": query.get("search", ""),
        "search_label": "Name, id, tag or region",
        "filters": [{"label": "Quick filters", "options": pills}],
        "noun": "clusters",
    }


def area_chart(chart_id: str, samples: Sequence[Sample], resource: str) -> dict[str, Any] | None:
    """Capacity, requested and used in cores or GiB; None without two looks."""
    if len(samples) < 2:
        return None
    unit, size = ("vCPU", MILLI) if resource == "cpu" else ("GiB", GIB)
    field = "cpu_milli" if resource == "cpu" else "memory_bytes"

    def column(name: str) -> list[float | None]:
        values = [getattr(s, name) for s in samples]
        return [None if v is None else round(v / size, 2) for v in values]

    columns = {"Capacity": column(field), "Requested": column(f"requested_{field}"), "Used": column(f"used_{field}")}
    every = max(1, len(samples) // MOST_TABLE)
    table = [[f"{s.at:%H:%M}", *values] for s, *values in zip(samples, *columns.values(), strict=True)][::every]
    return {
        "id": chart_id,
        "kind": "area",
        "size": "l" if resource == "cpu" else "m",
        "label": f"Capacity, requested and used {unit} over 24 hours",
        "data": {
            "unit": f" {unit}",
            "x": [s.at.isoformat() for s in samples],
            "series": [{"name": name, "data": values} for name, values in columns.items()],
        },
        "table": {"head": ["Time (UTC)", f"Capacity, {unit}", "Requested", "Used"], "rows": table},
    }


def burndown_chart(month: Burndown | None) -> dict[str, Any] | None:
    """What is left of the month's budget, day by day, with the straight line and the forecast."""
    if month is None:
        return None

    def column(name: str) -> list[float | None]:
        values = [getattr(day, name) for day in month.days]
        return [None if v is None else round(float(v), 2) for v in values]

    rows = [
        [f"{d.day:%d %b}", *(None if v is None else round(float(v), 2) for v in (d.ideal, d.left, d.forecast))]
        for d in month.days
    ]
    return {
        "id": "burndown",
        "kind": "burndown",
        "size": "m",
        "label": f"Left of the month's budget of ${month.budget:,.2f}",
        "data": {
            "unit": "$",
            "x": [f"{d.day:%d %b}" for d in month.days],
            "ideal": column("ideal"),
            "left": column("left"),
            "forecast": column("forecast"),
        },
        "table": {"head": ["Day", "Budget line", "Left", "Forecast"], "rows": rows},
    }


def upgrade_commands(clusters: Sequence[Cluster], version: str) -> str:
    """One Helm command for each cluster; tokens stay as they are."""
    base = settings.CURFEW_BASE_URL
    return "\n".join(
        f"# {cluster.name}: choose its context first\n"
        f"helm upgrade curfew-agent curfew-agent --repo {base}/charts --version {version} --namespace curfew --reuse-values"
        for cluster in clusters
    )


def activity_chart(chart_id: str, found: Activity) -> dict[str, Any] | None:
    """The 24 x 7 heatmap; None before anything was observed. Hours never observed stay empty."""
    if not any(cell.heat is not None for cell in found.cells):
        return None
    heats = {(cell.weekday, cell.hour): cell for cell in found.cells}
    cells = [
        [hour, day, None if heats[day, hour].heat is None else round(100 * (heats[day, hour].heat or 0))]
        for day in range(7)
        for hour in range(24)
        if (day, hour) in heats
    ]
    rows = [
        [name, *(None if (h := heats[day, hour].heat) is None else round(100 * h) for hour in range(24))]
        for day, name in enumerate(DAYS)
    ]
    return {
        "id": chart_id,
        "kind": "heatmap",
        "size": "m",
        "label": f"Activity by hour of the week. {found.blue_hours} of 168 hours are idle.",
        "data": {"days": list(DAYS), "hours": [f"{h:02d}" for h in range(24)], "cells": cells, "unit": "%", "max": 100},
        "table": {"head": ["Day", *(f"{h:02d}" for h in range(24))], "rows": rows},
    }


def group_rows(summary: Summary | None) -> list[dict[str, Any]]:
    """Node groups for the table: what the report says of them, with what the cloud account says beside it."""
    if summary is None:
        return []
    cloud = {group["name"]: group for group in summary.cloud_groups}
    ready = summary.insights.get("spot_groups", {})
    rows = []
    for group in summary.groups:
        ours = cloud.pop(group["name"], None) if group["kind"] in ("eks", "asg", "kops") else None
        counted = ready.get(group["name"])
        rows.append(
            {
                "name": group["name"] or "No group",
                "kind": GROUP_KINDS.get(group["kind"], "Other"),
                "nodes": group["nodes"],
                "spot": group["spot"],
                "types": ", ".join(group["types"]),
                "zones": ", ".join(group["zones"]),
                "monthly": None if group["hourly"] is None else Decimal(group["hourly"]) * HOURS_PER_MONTH,
                "cloud": ours,
                "limits": ", ".join(f"{key} {value}" for key, value in group.get("limits", {}).items()),
                "pool": _pool_row(group),
                "ready": None if not counted or not counted["pods"] else 100 * counted["ready"] / counted["pods"],
            }
        )
    return rows + [_empty_group(group) for group in cloud.values()]


def _pool_row(group: dict[str, Any]) -> dict[str, Any] | None:
    """The form of a NodePool: its limits as fields, None for groups of other kinds. `spot` is None when its purchase is
    not written as one list."""
    if "capacity" not in group:
        return None
    static = group["replicas"] is not None
    shown = (("nodes", "Most nodes"),) if static else (("cpu", "CPU"), ("memory", "Memory"), ("nodes", "Nodes"))
    return {
        "replicas": group["replicas"],
        "limits": [{"key": key, "label": label, "value": group["limits"].get(key, "")} for key, label in shown],
        "spot": None if group["capacity"] is None else "spot" in group["capacity"],
    }


def _empty_group(group: dict[str, Any]) -> dict[str, Any]:
    """A group of the cloud that has no node now."""
    return {
        "name": group["name"],
        "kind": "EKS managed" if group["kind"] == "managed" else "Auto Scaling group",
        "nodes": 0,
        "spot": 0,
        "types": ", ".join(group["types"]),
        "zones": "",
        "monthly": Decimal(0),
        "cloud": group,
        "limits": "",
        "pool": None,
        "ready": None,
    }


def topology(nodes: Sequence[ClusterNode], groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups with their nodes as squares, coloured by how they are bought; the table of nodes holds them all."""
    found: dict[str, list[ClusterNode]] = {}
    for node in nodes:
        found.setdefault(node.group, []).append(node)
    counts = {group["name"]: group["nodes"] for group in groups}
    rows = []
    for name, members in found.items():
        shown = members[:MOST_SQUARES]
        rows.append(
            {
                "name": name or "No group",
                "types": ", ".join(sorted({n.instance_type for n in members} - {""})),
                "more": max(0, counts.get(name, len(members)) - len(shown)),
                "nodes": [
                    {
                        "mark": node.zone[-1:] or "?",
                        "css": "tnode--spot" if node.lifecycle == "spot" else "tnode--od",
                        "title": f"{node.name}, {node.instance_type or 'unknown type'}, {node.lifecycle}"
                        + ("" if node.ready else ", not ready"),
                    }
                    for node in shown
                ],
            }
        )
    return rows


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A namespace or workload with what it asks for and uses. `advice` is a sentence, "" when there is none."""

    name: str
    detail: str
    pods: int
    cpu: float
    used_cpu: float | None
    memory: float
    used_memory: float | None
    monthly: Any
    advice: str


def usage_rows(rows: Sequence[dict[str, Any]]) -> list[UsageRow]:
    """Rows of a summary for the page; sizes in cores and GiB, money by the month."""
    return [_usage_row(row) for row in rows]


def _half_up(value: float) -> str:
    """One place, rounded as the columns of the table are."""
    return f"{Decimal(repr(value)).quantize(Decimal('0.1'), ROUND_HALF_UP):,}"


def _usage_row(row: dict[str, Any]) -> UsageRow:
    cpu, memory = row["cpu_milli"] / MILLI, row["memory_bytes"] / GIB
    used_cpu = None if row["used_cpu_milli"] is None else row["used_cpu_milli"] / MILLI
    used_memory = None if row["used_memory_bytes"] is None else row["used_memory_bytes"] / GIB
    advice = ""
    if used_cpu is not None and cpu >= 1 and used_cpu < cpu * LOW_USE:
        advice = f"Requests {_half_up(cpu)} CPUs and uses {_half_up(used_cpu)}: right-size it."
    elif used_memory is not None and memory >= 1 and used_memory < memory * LOW_USE:
        advice = f"Requests {_half_up(memory)} GiB and uses {_half_up(used_memory)}: right-size it."
    return UsageRow(
        name=row["name"],
        detail=f"{row['kind']} in {row['namespace']}" if "kind" in row else "",
        pods=row["pods"],
        cpu=cpu,
        used_cpu=used_cpu,
        memory=memory,
        used_memory=used_memory,
        monthly=None if row["hourly"] is None else Decimal(row["hourly"]) * HOURS_PER_MONTH,
        advice=advice,
    )
