"""Clusters that run tasks, and those that could."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from clusterjobs.models import JobPool
from clusters import selectors as clusters
from clusters.models import Cluster
from clusters.sleeping import gateway
from core.actor import Actor
from core.errors import NotFound


@dataclass(frozen=True, slots=True)
class Offer:
    """A cluster, whether Curfew has a way to it, and its offer when there is one."""

    cluster: Cluster
    reachable: bool
    pool: JobPool | None

    @property
    def share(self) -> str:
        """What tasks may use, in words."""
        if self.pool is None:
            return ""
        worker = self.pool.worker
        gpus = f", {worker.gpus} GPU{'s' if worker.gpus > 1 else ''}" if worker.gpus else ""
        return f"{worker.cpu / 1000:g} cores, {worker.memory / 1024:.3g} GiB{gpus}"


def get_pool(*, actor: Actor, cluster_id: UUID) -> JobPool:
    """The offer of a cluster. NotFound when it makes none, or is another organization's."""
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    rows = JobPool.objects.visible_to(actor).select_related("worker", "cluster")
    found: JobPool | None = rows.filter(cluster=cluster).first()
    if found is None:
        raise NotFound("This cluster does not run tasks.")
    return found


def list_offers(*, actor: Actor) -> list[Offer]:
    """Every cluster of the organization with what it offers, in two queries."""
    actor.require("clusters.view", "see clusters")
    pools = {p.cluster_id: p for p in JobPool.objects.visible_to(actor).select_related("worker")}
    rows = Cluster.objects.visible_to(actor).order_by("name", "id")[:500]
    return [Offer(row, gateway.reaches(row), pools.get(row.id)) for row in rows]
