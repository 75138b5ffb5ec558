"""The operation `cluster.look`: read the cluster and say what a sleep would stop, what would stay and why, and the dollars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from clusters.models import Cluster, ClusterNode
from clusters.services import steering
from clusters.sleeping import gateway, services
from clusters.sleeping.observe import read_world
from clusters.sleeping.plan import plan
from clusters.sleeping.world import Plan, World
from core import clock
from core.actor import Actor
from core.errors import InvalidState
from core.live import publish
from operations import services as operations
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunContext

LOOK = "cluster.look"
RESOURCE = "cluster_look"  # beside the cluster's own orders, not instead of one
MOST_SHOWN = 200


def request_look(*, actor: Actor, cluster_id: UUID) -> Operation:
    """Ask for a look; the one under way is returned. Raises Forbidden, NotFound, InvalidState without a way to it."""
    actor.require(steering.OPERATE, "have clusters looked at")
    with transaction.atomic():
        row = steering.locked(actor, cluster_id)
        if not gateway.has_way(row):
            raise InvalidState(services.no_way(row), code="no_access")
        active = operations.active_operation(RESOURCE, row.id)
        if active is not None:
            return active
        return operations.request_operation(
            actor=actor,
            kind=LOOK,
            resource_kind=RESOURCE,
            resource_id=row.id,
            resource_label=row.name,
            organization_id=row.organization_id,
            reason="What would a sleep stop?",
            deadline_seconds=300,
        )


class ClusterLook(BaseExecutor):
    """Reads, plans, changes nothing."""

    kind = LOOK
    label = "Look what a sleep would stop"
    queue = "fast"
    permission = "clusters.operate"
    max_attempts = 2

    def run(self, context: RunContext) -> Mapping[str, Any]:
        rows = Cluster.objects.for_org(context.operation.organization_id).select_related("account")
        cluster = rows.filter(id=context.operation.resource_id).first()
        if cluster is None:
            raise OperationFailed("The cluster was disconnected.", code="gone")
        context.progress(step="Reading the cluster")
        with gateway.open_kube(cluster) as kube:
            world = read_world(kube, gateway.open_groups(cluster))
        found = plan(world, services.scope_of(services.rules_of(cluster)))
        prices = dict(
            ClusterNode.objects.for_org(cluster.organization_id)
            .filter(cluster=cluster, gone_at=None)
            .values_list("name", "hourly_price")
        )
        return told(world, found, prices)

    def finished(self, operation: Operation) -> None:
        publish(operation.organization_id, "clusters", [operation.resource_id])


def told(world: World, found: Plan, prices: Mapping[str, Decimal | None]) -> dict[str, Any]:
    """The plan as plain values: counts by kind, groups with sizes, what stays, and the price of the nodes that leave."""
    known = [prices[name] for name in found.leaving if prices.get(name) is not None]
    hourly = sum((price for price in known if price is not None), Decimal(0))
    workloads = [step for step in found.steps if step.phase == "workloads"]
    kept = [{"what": k.what, "why": str(k.reason.why), "words": k.reason.words} for k in found.kept]
    groups = [
        {"key": g.key, "name": g.name, "before": g.before.text(), "after": g.after.text(), "nodes": len(g.nodes)}
        for g in found.groups
    ]
    pools = Counter(claim.pool for claim in found.claims)
    return {
        "at": clock.now().isoformat(),
        "kinds": dict(Counter(step.kind for step in found.steps)),
        "pods": sum(int((s.obj.get("spec") or {}).get("replicas", 1) or 0) for s in workloads),
        "workloads": ["/".join(step.key) for step in workloads][:MOST_SHOWN],
        "groups": groups,
        "pools": dict(pools),
        "choices": sorted(
            {f"{g.kind}:{g.name}" for g in world.groups} | {f"karpenter:{_name(p)}" for p in world.of("NodePool")}
        ),
        "leaving": len(found.leaving),
        "staying": len(found.staying),
        "kept": kept[: 2 * MOST_SHOWN],
        "kept_count": len(kept),
        "notes": list(found.notes),
        "hourly": str(hourly) if known else None,
        "unpriced": len(found.leaving) - len(known),
    }


def _name(obj: Mapping[str, Any]) -> str:
    return str((obj.get("metadata") or {}).get("name") or "")
