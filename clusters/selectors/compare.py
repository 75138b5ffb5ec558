"""Clusters side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from clusters.enums import CLOUD_LABELS, WORDS
from clusters.models import Cluster
from clusters.selectors.detail import VIEW
from clusters.selectors.registry import DEFERRED
from core.actor import Actor
from core.errors import NotFound

GIB = 1024**3
NOTHING = "no data"


@dataclass(frozen=True, slots=True)
class CompareLine:
    """One fact of each cluster, as it is shown."""

    label: str
    values: tuple[str, ...]
    differs: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Clusters in the order asked for, and their facts line by line."""

    clusters: tuple[Cluster, ...]
    lines: tuple[CompareLine, ...]


def _percent(part: float | None, whole: float | None) -> str:
    return NOTHING if part is None or not whole else f"{100 * part / whole:.0f}%"


_LINES: tuple[tuple[str, Callable[[Cluster], Any]], ...] = (
    ("State", lambda c: WORDS.get(c.shown_state, c.shown_state).capitalize()),
    ("Runs on", lambda c: f"{c.get_distribution_display()}, {CLOUD_LABELS.get(c.cloud, c.cloud)}"),
    ("Region", lambda c: c.region or NOTHING),
    ("Zones", lambda c: ", ".join(c.zones) or NOTHING),
    ("Environment", lambda c: c.get_environment_display()),
    ("Team", lambda c: c.team or NOTHING),
    ("Version", lambda c: c.version or NOTHING),
    ("Agent", lambda c: c.agent_version or NOTHING),
    ("Nodes", lambda c: str(c.node_count)),
    ("Pods", lambda c: str(c.pod_count)),
    ("CPU", lambda c: f"{c.cpu_milli / 1000:,.1f} vCPU"),
    ("Memory", lambda c: f"{c.memory_bytes / GIB:,.1f} GiB"),
    ("GPUs", lambda c: str(c.gpus)),
    ("CPU requested", lambda c: _percent(c.requested_cpu_milli, c.cpu_milli)),
    ("CPU used", lambda c: _percent(c.used_cpu_milli, c.cpu_milli)),
    ("Memory requested", lambda c: _percent(c.requested_memory_bytes, c.memory_bytes)),
    ("Memory used", lambda c: _percent(c.used_memory_bytes, c.memory_bytes)),
    ("Run rate a month, projected", lambda c: NOTHING if c.monthly_cost is None else f"${c.monthly_cost:,.2f}"),
    ("Efficiency", lambda c: f"{c.grade} ({c.efficiency:.0f})" if c.efficiency is not None else NOTHING),
    ("Health", lambda c: NOTHING if c.health is None else str(c.health)),
)


def compare(*, actor: Actor, ids: Sequence[UUID]) -> Comparison:
    """The clusters' facts; NotFound when one of them is not the actor's."""
    actor.require(VIEW, "see clusters")
    rows = {row.id: row for row in Cluster.objects.visible_to(actor).defer(*DEFERRED).filter(id__in=list(ids))}
    if any(cluster_id not in rows for cluster_id in ids):
        raise NotFound("There is no such cluster.")
    clusters = tuple(rows[cluster_id] for cluster_id in dict.fromkeys(ids))
    lines = []
    for label, fact in _LINES:
        values = tuple(fact(cluster) for cluster in clusters)
        lines.append(CompareLine(label, values, len(set(values)) > 1))
    return Comparison(clusters, tuple(lines))
