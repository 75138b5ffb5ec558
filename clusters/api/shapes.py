"""Rows of clusters as the API answers them: money as decimal strings, times in UTC, null for what nobody knows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from clusters.models import Alert, Cluster, ClusterNode, Sample
from operations.api.shapes import moment

MICRO = Decimal("0.000001")


def money(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount.quantize(MICRO):f}"


def cluster_shape(row: Cluster) -> dict[str, Any]:
    """One cluster as lists and details have it."""
    return {
        "id": str(row.id),
        "name": row.name,
        "external_id": row.external_id,
        "uid": row.uid,
        "method": row.method,
        "distribution": row.distribution,
        "cloud": row.cloud,
        "account": str(row.account_id) if row.account_id else None,
        "region": row.region,
        "zones": row.zones,
        "environment": row.environment,
        "version": row.version,
        "team": row.team,
        "owner": row.owner,
        "tags": row.tags,
        "state": row.state,
        "state_since": moment(row.state_since),
        "cause": row.cause,
        "maintenance": row.maintenance_since is not None,
        "heard_at": moment(row.heard_at),
        "reported_at": moment(row.reported_at),
        "agent_version": row.agent_version,
        "api_ms": row.api_ms,
        "nodes": row.node_count,
        "pods": row.pod_count,
        "namespaces": row.namespace_count,
        "cpu_milli": row.cpu_milli,
        "memory_bytes": row.memory_bytes,
        "gpus": row.gpus,
        "requested_cpu_milli": row.requested_cpu_milli,
        "requested_memory_bytes": row.requested_memory_bytes,
        "used_cpu_milli": row.used_cpu_milli,
        "used_memory_bytes": row.used_memory_bytes,
        "hourly_cost": money(row.hourly_cost),
        "monthly_budget": None if row.monthly_budget is None else f"{row.monthly_budget:f}",
        "monthly_run_rate": money(row.monthly_cost),
        "unpriced_nodes": row.unpriced_nodes,
        "cost_change": row.cost_change,
        "saved_percent": row.saved_percent,
        "grade": row.grade or None,
        "efficiency": row.efficiency,
        "health": row.health,
        "violations": row.violations,
        "nodes_24h": row.spark,
        "currency": "USD",
    }


def node_shape(row: ClusterNode) -> dict[str, Any]:
    """One node."""
    return {
        "id": str(row.id),
        "name": row.name,
        "provider_id": row.provider_id,
        "instance_type": row.instance_type,
        "region": row.region,
        "zone": row.zone,
        "lifecycle": row.lifecycle,
        "group_kind": row.group_kind,
        "group": row.group,
        "ready": row.ready,
        "unschedulable": row.unschedulable,
        "cpu_milli": row.cpu_milli,
        "memory_bytes": row.memory_bytes,
        "gpus": row.gpus,
        "pods": row.pods,
        "pod_limit": row.pod_limit,
        "requested_cpu_milli": row.requested_cpu_milli,
        "requested_memory_bytes": row.requested_memory_bytes,
        "used_cpu_milli": row.used_cpu_milli,
        "used_memory_bytes": row.used_memory_bytes,
        "hourly_price": money(row.hourly_price),
        "price_source": row.price_source,
        "price_date": row.price_date.isoformat() if row.price_date else None,
        "created_at": moment(row.created_at),
        "first_seen_at": moment(row.first_seen_at),
    }


def alert_shape(row: Alert) -> dict[str, Any]:
    """One alert."""
    return {
        "id": str(row.id),
        "cluster": str(row.cluster_id),
        "kind": row.kind,
        "severity": row.severity,
        "title": row.title,
        "detail": row.detail,
        "since": moment(row.since),
        "ended_at": moment(row.ended_at),
    }


def sample_shape(row: Sample) -> dict[str, Any]:
    """One row of history."""
    return {
        "at": moment(row.at),
        "looks": row.n,
        "nodes": row.nodes,
        "pods": row.pods,
        "cpu_milli": row.cpu_milli,
        "memory_bytes": row.memory_bytes,
        "requested_cpu_milli": row.requested_cpu_milli,
        "requested_memory_bytes": row.requested_memory_bytes,
        "used_cpu_milli": row.used_cpu_milli,
        "used_memory_bytes": row.used_memory_bytes,
        "hourly_cost": money(row.hourly_cost),
    }
