"""Karpenter's NodePools as node groups: their limits and purchase changed by an operation on the cluster's API server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from clusters import extensions
from clusters.enums import State
from clusters.models import Cluster, Summary
from clusters.providers import karpenter
from clusters.providers.groups import GroupKind
from clusters.services.grouping import LARGEST, order_change
from clusters.services.steering import OPERATE, locked
from core.actor import Actor
from core.errors import InvalidInput, InvalidState, NotFound
from core.live import publish
from operations.models import Operation

NO_WAY = (
    "Curfew reads {name} and cannot change it. Install its agent with orders allowed, or connect it with a kubeconfig "
    "or through its EKS account."
)


def request_pool_change(
    *,
    actor: Actor,
    cluster_id: UUID,
    name: str,
    limits: Mapping[str, str] | None = None,
    replicas: int | None = None,
    spot: bool | None = None,
    idempotency_key: str | None = None,
) -> Operation:
    """Order other limits of a NodePool (Kubernetes quantities by `cpu`, `memory`, `nodes`; "" for none), the number of
    nodes of a static one, or whether it may buy spot. What is left out stays as it is.

    Raises Forbidden, NotFound (cluster or pool), InvalidInput, InvalidState (asleep; no way to the API server; written
    by a policy), Conflict when another operation on the cluster is active.
    """
    actor.require(OPERATE, "change node groups")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        known = _known(row, name)
        _check(known, limits, replicas, spot)
        _refuse(row, name)
        held = {"limits": known["limits"], "replicas": known.get("replicas"), "capacity": known.get("capacity")}
        changes: dict[str, list[Any]] = {}
        for resource, text in (limits or {}).items():
            if not karpenter.same(held["limits"].get(resource), text):
                changes[f"limits.{resource}"] = [held["limits"].get(resource), text or None]
        if replicas is not None:
            changes["replicas"] = [held["replicas"], replicas]
        if spot is not None:
            changes["spot"] = [karpenter.SPOT in (held["capacity"] or ()), spot]
        payload = {
            "kind": GroupKind.KARPENTER.value,
            "name": name,
            "limits": dict(limits) if limits is not None else None,
            "replicas": replicas,
            "spot": spot,
        }
        reason = f"{name}: {_asked(changes)}"
        return order_change(actor, row, payload, changes=changes, reason=reason, idempotency_key=idempotency_key)


def _asked(changes: Mapping[str, list[Any]]) -> str:
    if set(changes) == {"spot"}:
        return "spot mode on" if changes["spot"][1] else "spot mode off"
    told = [f"{key.removeprefix('limits.')} {'unlimited' if new is None else new}" for key, (_, new) in changes.items()]
    return ", ".join(told) or "as it is"


def _known(row: Cluster, name: str) -> dict[str, Any]:
    groups = Summary.objects.for_org(row.organization_id).filter(cluster=row).values_list("groups", flat=True).first()
    known = next((g for g in groups or [] if (g["kind"], g["name"]) == ("karpenter", name) and "capacity" in g), None)
    if known is None:
        raise NotFound(f"No NodePool {name[:80]} of {row.name} is reported.")
    found: dict[str, Any] = known
    return found


def _check(known: Mapping[str, Any], limits: Mapping[str, str] | None, replicas: int | None, spot: bool | None) -> None:
    static = known.get("replicas") is not None
    errors = {
        resource: [wrong]
        for resource, text in (limits or {}).items()
        if (wrong := _wrong_limit(known, resource, text, static))
    }
    if replicas is not None and not static:
        errors["replicas"] = ["Karpenter keeps no least number of nodes in this pool: it follows the pods."]
    elif replicas is not None and not 0 <= replicas <= LARGEST:
        errors["replicas"] = [f"The number of nodes must lie between 0 and {LARGEST}."]
    most = (limits or {}).get("nodes", known["limits"].get("nodes"))
    wanted = known.get("replicas") if replicas is None else replicas
    if not errors and static and most and karpenter.whole(str(most)) < int(wanted or 0):
        errors["nodes"] = ["The limit of nodes is less than the number of nodes."]
    if spot is not None and known.get("capacity") is None:
        errors["spot"] = ["Its capacity types are not one plain list: change the NodePool itself."]
    if limits is None and replicas is None and spot is None:
        errors["limits"] = ["Say what shall change."]
    if errors:
        raise InvalidInput(errors=errors)


def _wrong_limit(known: Mapping[str, Any], resource: str, text: str, static: bool) -> str:
    if resource not in karpenter.LIMITED:
        return "Only cpu, memory and nodes are limited here."
    if static and resource != "nodes" and not karpenter.same(known["limits"].get(resource), text):
        return "A pool with a fixed number of nodes has a limit of nodes only."
    return karpenter.check_limit(resource, text)


def _refuse(row: Cluster, name: str) -> None:
    if row.state == State.ASLEEP:
        raise InvalidState(f"{row.name} is asleep: its pools come back as they were. Wake it first.")
    if not can_change(row):
        raise InvalidState(NO_WAY.format(name=row.name))
    owner = extensions.pool_owner(row, name)
    if owner:
        raise InvalidState(f"{name} is written by {owner}, which would set it back. Change it there.")


def can_change(row: Cluster) -> bool:
    """Whether there is a way to the cluster's API server: Curfew's own, or an agent that carries out orders."""
    from clusters.sleeping import gateway  # it opens what services read

    return gateway.has_way(row)


def store_pool(*, cluster: Cluster, name: str, facts: Mapping[str, Any]) -> None:
    """Note what a pool is like now, ahead of the next report."""
    with transaction.atomic():
        found = Summary.objects.for_org(cluster.organization_id).select_for_update().filter(cluster=cluster).first()
        if found is None:
            return
        for group in found.groups:
            if (group["kind"], group["name"]) == ("karpenter", name):
                group.update(facts)
        found.save(update_fields=["groups"])
        publish(cluster.organization_id, "clusters", [cluster.id])
