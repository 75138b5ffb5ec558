"""Reads of one cluster."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from clusters.enums import Span
from clusters.models import Alert, Cluster, ClusterNode, Sample, Summary
from core.actor import Actor
from core.errors import NotFound

VIEW = "clusters.view"
MOST_ALERTS = 100
NODE_SORTS = ("name", "instance_type", "zone", "lifecycle", "group", "hourly_price", "pods", "created_at")


def get_cluster(*, actor: Actor, cluster_id: UUID) -> Cluster:
    """One cluster with its account; NotFound for another organization's."""
    actor.require(VIEW, "see clusters")
    row = Cluster.objects.visible_to(actor).select_related("account").filter(id=cluster_id).first()
    if row is None:
        raise NotFound("There is no such cluster.")
    found: Cluster = row
    return found


def chosen(*, actor: Actor, ids: Sequence[UUID]) -> list[Cluster]:
    """Several clusters by name; NotFound when one of them is not the actor's."""
    actor.require(VIEW, "see clusters")
    rows = list(Cluster.objects.visible_to(actor).filter(id__in=list(ids)).order_by("name"))
    if len(rows) != len(set(ids)):
        raise NotFound("There is no such cluster.")
    return rows


def summary_of(*, actor: Actor, cluster: Cluster) -> Summary | None:
    """Groups, namespaces and workloads; None before the first report was worked out."""
    found: Summary | None = Summary.objects.visible_to(actor).filter(cluster=cluster).first()
    return found


def nodes_of(*, actor: Actor, cluster: Cluster, search: str = "", sort: str = "name") -> Any:
    """Living nodes as an ordered queryset, for paging."""
    rows = ClusterNode.objects.visible_to(actor).filter(cluster=cluster, gone_at=None)
    if search:
        rows = rows.filter(name__icontains=search[:120])
    key = sort.removeprefix("-")
    return rows.order_by(sort if key in NODE_SORTS else "name", "name")


def alerts_of(*, actor: Actor, cluster: Cluster, ended: bool = False) -> list[Alert]:
    """Open alerts, newest first; with `ended` the last hundred of all."""
    rows = Alert.objects.visible_to(actor).filter(cluster=cluster)
    if not ended:
        rows = rows.filter(ended_at=None)
    return list(rows.order_by("-since")[:MOST_ALERTS])


def open_alerts(*, actor: Actor, most: int = 20) -> list[Alert]:
    """Open alerts of every cluster with it, the critical ones first."""
    actor.require(VIEW, "see clusters")
    rows = Alert.objects.visible_to(actor).filter(ended_at=None).select_related("cluster")
    return list(rows.order_by("severity", "-since")[:most])


def samples_of(*, actor: Actor, cluster: Cluster, span: str, since: datetime) -> list[Sample]:
    """History from a moment on, oldest first."""
    rows = Sample.objects.visible_to(actor).filter(cluster=cluster, span=Span(span), at__gte=since)
    return list(rows.order_by("at"))
