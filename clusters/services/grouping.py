"""Node groups as the cloud keeps them: read now and then, their limits and purchase changed by an operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from audit import services as audit
from clusters.enums import RESOURCE, State
from clusters.models import Cluster, Summary
from clusters.providers.groups import Group, GroupKind
from clusters.services.steering import OPERATE, locked
from core import clock
from core.actor import Actor
from core.errors import InvalidInput, InvalidState, NotFound
from core.live import publish
from core.tasks import send_on_commit
from operations import services as operations
from operations.models import Operation

CHANGE = "cluster.group"
READ = "clusters.read_groups_one"
EVERY = timedelta(minutes=5)
LARGEST = 1000
MOST_READ = 20


def request_group_change(
    *,
    actor: Actor,
    cluster_id: UUID,
    kind: str,
    name: str,
    low: int,
    high: int,
    spot: bool | None = None,
    idempotency_key: str | None = None,
) -> Operation:
    """Order new limits for a node group and, where its purchase can be changed, spot or on-demand for new machines.

    Raises Forbidden, NotFound (cluster or group), InvalidInput, InvalidState while the cluster sleeps (its groups come
    back as they were), Conflict when another operation on the cluster is active.
    """
    actor.require(OPERATE, "change node groups")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        known = _known(row, kind, name)
        _check(row, known, low, high, spot)
        changes: dict[str, list[Any]] = {"low": [known["low"], low], "high": [known["high"], high]}
        if spot is not None:
            changes["spot"] = [known["spot"], spot]
        payload = {"kind": kind, "name": name, "low": low, "high": high, "spot": spot}
        reason = f"{name}: {low} to {high} nodes"
        return order_change(actor, row, payload, changes=changes, reason=reason, idempotency_key=idempotency_key)


def order_change(
    actor: Actor,
    row: Cluster,
    payload: Mapping[str, Any],
    *,
    changes: Mapping[str, list[Any]],
    reason: str,
    idempotency_key: str | None,
) -> Operation:
    """Order what `payload` says of the node group that it names (`kind`, `name`), and record it; inside the caller's
    transaction. `changes` are before and after by field. Raises Conflict when another operation on the cluster is active.
    """
    operation = operations.request_operation(
        actor=actor,
        kind=CHANGE,
        resource_kind=RESOURCE,
        resource_id=row.id,
        resource_label=row.name,
        payload=dict(payload),
        organization_id=row.organization_id,
        reason=reason[:200],
        subject=f"{payload['kind']}/{payload['name']}"[:80],
        deadline_seconds=600,
        idempotency_key=idempotency_key,
    )
    audit.record(
        actor=actor,
        verb="cluster.group_change_requested",
        target=row,
        changes=dict(changes),
        detail=payload["name"],
        operation_id=operation.id,
    )
    publish(row.organization_id, "clusters", [row.id])
    return operation


def _known(row: Cluster, kind: str, name: str) -> dict[str, Any]:
    found = Summary.objects.for_org(row.organization_id).filter(cluster=row).values_list("cloud_groups", flat=True)
    groups = found.first() or []
    known = next((group for group in groups if (group["kind"], group["name"]) == (kind, name)), None)
    if known is None:
        raise NotFound(f"The cloud account has no node group {name[:80]} of {row.name}.")
    group: dict[str, Any] = known
    return group


def _check(row: Cluster, known: dict[str, Any], low: int, high: int, spot: bool | None) -> None:
    errors: dict[str, list[str]] = {}
    if not 0 <= low <= high:
        errors["low"] = ["The least must lie between 0 and the most."]
    least = 1 if known["kind"] == GroupKind.MANAGED.value else 0
    if not least <= high <= LARGEST:
        errors["high"] = [f"The most must lie between {least} and {LARGEST}."]
    if spot is not None and known["spot"] is None:
        errors["spot"] = ["How this group buys its machines was fixed when it was made. Make a second group instead."]
    if errors:
        raise InvalidInput(errors=errors)
    if row.state == State.ASLEEP:
        raise InvalidState(f"{row.name} is asleep: its groups come back as they were. Wake it first.")


def group_row(group: Group) -> dict[str, Any]:
    """A group as it is kept; `spot` is None where the purchase cannot be changed."""
    return {
        "kind": group.kind.value,
        "name": group.name,
        "low": group.sizes.low,
        "desired": group.sizes.desired,
        "high": group.sizes.high,
        "types": list(group.types),
        "spot": None if group.on_demand is None else group.on_demand == 0,
        "problem": group.problem[:300],
    }


def store_groups(*, cluster: Cluster, groups: Sequence[Group] | None, problem: str = "") -> None:
    """Keep what the cloud says of a cluster's groups; None keeps what was known and says why it could not be read."""
    fields: dict[str, Any] = {"groups_at": clock.now(), "groups_problem": problem[:300]}
    if groups is not None:
        fields["cloud_groups"] = [group_row(group) for group in groups]
    with transaction.atomic():
        if Summary.objects.for_org(cluster.organization_id).filter(cluster=cluster).update(**fields):
            publish(cluster.organization_id, "clusters", [cluster.id])


def groups_due() -> int:
    """Hand some clusters of AWS accounts whose groups were not read for five minutes to workers; returns how many."""
    now = clock.now()
    stale = Q(groups_at=None) | Q(groups_at__lt=now - EVERY)
    rows = Summary.objects.all_orgs().filter(
        stale, cluster__account__provider="aws", cluster__state__in=[State.LIVE, State.ERROR, State.ASLEEP]
    )
    claimed = 0
    for row in rows.order_by("groups_at").only("id", "organization_id", "cluster_id", "groups_at")[:MOST_READ]:
        mine = Summary.objects.for_org(row.organization_id).filter(id=row.id, groups_at=row.groups_at)
        if mine.update(groups_at=now):
            claimed += 1
            send_on_commit(READ, cluster_id=str(row.cluster_id))
    return claimed


def read_soon(organization_id: UUID, cluster_id: UUID) -> None:
    """Let a worker read the groups again after commit."""
    Summary.objects.for_org(organization_id).filter(cluster_id=cluster_id).update(groups_at=None)
    send_on_commit(READ, cluster_id=str(cluster_id))
    publish(organization_id, "clusters", [cluster_id])
