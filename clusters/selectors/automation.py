"""May automated actions touch this cluster? Whoever acts by itself (schedules, policies, budgets) asks here first."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from clusters.models import Cluster
from core.actor import Actor


def paused(*, actor: Actor, ids: Collection[UUID] | None = None) -> dict[UUID, str]:
    """Clusters in maintenance, with the reason in words; of `ids`, or of everything that the actor may see."""
    rows = Cluster.objects.visible_to(actor).filter(maintenance_since__isnull=False)
    if ids is not None:
        rows = rows.filter(id__in=list(ids))
    return {row.id: why_paused(row) for row in rows.only("id", "name", "maintenance_since", "maintenance_reason")}


def why_paused(cluster: Cluster) -> str:
    """Why automated actions must leave this cluster alone; "" when they need not."""
    if cluster.maintenance_since is None:
        return ""
    reason = f" ({cluster.maintenance_reason})" if cluster.maintenance_reason else ""
    since = cluster.maintenance_since
    return f"{cluster.name} is in maintenance since {since:%Y-%m-%d %H:%M} UTC{reason}: automated actions are paused."
