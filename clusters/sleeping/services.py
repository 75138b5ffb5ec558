"""Ordering sleep and wake of a cluster, its snapshot and rules, and bringing its row in line when an order has ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from audit import services as audit
from clusters.enums import RESOURCE
from clusters.models import Cluster, ClusterNode
from clusters.services import steering
from clusters.sleeping import gateway
from clusters.sleeping.models import SleepRules, SleepSnapshot
from clusters.sleeping.snapshot import Decision, Entry, GroupEntry
from clusters.sleeping.world import Scope
from core import clock
from core.actor import Actor, ActorKind
from core.errors import Conflict, InvalidInput, InvalidState, NotFound
from core.live import publish
from costs import budgets
from costs import services as costs
from operations import services as operations
from operations.enums import Status
from operations.models import Operation

SLEEP, WAKE = "cluster.sleep", "cluster.wake"
SLEEP_SECONDS, WAKE_SECONDS = 3600, 5400
TOPIC = "clusters"
_DOING = {SLEEP: "put to sleep", WAKE: "woken"}


def open_snapshot(cluster: Cluster) -> SleepSnapshot | None:
    """What the cluster must get back; None when it is awake."""
    rows = SleepSnapshot.objects.for_org(cluster.organization_id).filter(restored_at=None, handed_over_at=None)
    found: SleepSnapshot | None = rows.filter(cluster_id=cluster.id).first()
    return found


def request_sleep(
    *, actor: Actor, cluster_id: UUID, reason: str = "", cause: str = "hand", idempotency_key: str | None = None
) -> Operation:
    """Order a sleep; the same order under way is returned. Raises Forbidden, NotFound, Conflict while it is being woken,
    InvalidState for a cluster that Curfew cannot reach by itself, or that is in maintenance."""
    return _order(actor, cluster_id, SLEEP, reason, cause, idempotency_key)


def request_wake(
    *, actor: Actor, cluster_id: UUID, reason: str = "", cause: str = "hand", idempotency_key: str | None = None
) -> Operation:
    """Order a wake: everything that the open snapshot remembers is restored. A sleep under way is asked to stop first
    (Conflict until it has). Raises InvalidState when there is nothing to restore, QuotaExceeded when a budget is used up."""
    return _order(actor, cluster_id, WAKE, reason, cause, idempotency_key)


def _order(actor: Actor, cluster_id: UUID, kind: str, reason: str, cause: str, key: str | None) -> Operation:
    actor.require(steering.OPERATE, f"have clusters {_DOING[kind]}")
    with transaction.atomic():
        row = steering.locked(actor, cluster_id)
        active = operations.active_operation(RESOURCE, row.id)
        if active is not None:
            return _under_way(row, active, kind)
        snapshot = open_snapshot(row)
        _refuse(row, kind, snapshot, actor)
        if kind == WAKE:
            budgets.require_room(organization_id=row.organization_id, team=row.team, person=actor.label)
        operation = operations.request_operation(
            actor=actor,
            kind=kind,
            resource_kind=RESOURCE,
            resource_id=row.id,
            resource_label=row.name,
            payload={"cause": cause, "snapshot": str(snapshot.id) if snapshot else ""},
            organization_id=row.organization_id,
            idempotency_key=key,
            reason=reason,
            subject=str(row.id),
            deadline_seconds=SLEEP_SECONDS if kind == SLEEP else WAKE_SECONDS,
        )
        if snapshot is not None and snapshot.trouble:
            SleepSnapshot.objects.for_org(row.organization_id).filter(id=snapshot.id).update(trouble="")
        audit.record(
            actor=actor,
            verb="cluster.sleep_requested" if kind == SLEEP else "cluster.wake_requested",
            target=row,
            detail=reason,
            operation_id=operation.id,
            organization_id=row.organization_id,
        )
        publish(row.organization_id, TOPIC, [row.id])
    return operation


def _under_way(row: Cluster, active: Operation, kind: str) -> Operation:
    if active.kind == kind and active.cancel_requested_at is None:
        return active
    words = "is being cancelled" if active.cancel_requested_at else f"is being {_DOING.get(active.kind, 'changed')}"
    raise Conflict(
        f"{row.name} {words}. Wait for it, or cancel it first.", code="operation_active", operation=str(active.id)
    )


def no_way(row: Cluster) -> str:
    """Why this cluster cannot be put to sleep."""
    return (
        f"Curfew only hears {row.name} through its agent. Install the agent with orders allowed, or connect the cluster "
        "with a kubeconfig or through its EKS account."
    )


def _refuse(row: Cluster, kind: str, snapshot: SleepSnapshot | None, actor: Actor) -> None:
    if not gateway.has_way(row):
        raise InvalidState(no_way(row), code="no_access")
    if row.maintenance_since is not None and actor.kind == ActorKind.SYSTEM:
        raise InvalidState(f"{row.name} is in maintenance: automated actions are paused.", code="maintenance")
    if kind == WAKE and snapshot is None:
        raise InvalidState(f"{row.name} is awake: there is nothing to restore.", code="awake")
    if kind == SLEEP and snapshot is not None and snapshot.asleep_at is not None and not snapshot.contested_at:
        raise InvalidState(f"{row.name} is asleep.", code="asleep")


# the snapshot


def take_snapshot(
    *,
    operation: Operation,
    cluster: Cluster,
    snapshot_id: UUID,
    entries: Sequence[Entry],
    groups: Sequence[GroupEntry],
    kept: list[dict[str, str]],
    notes: Sequence[str],
) -> SleepSnapshot:
    """Write down what must be restored, before anything is changed. An open snapshot is returned as it is."""
    with transaction.atomic():
        row = Cluster.objects.for_org(cluster.organization_id).select_for_update(of=("self",)).get(id=cluster.id)
        known = open_snapshot(row)
        if known is not None:
            return known
        made = SleepSnapshot(
            id=snapshot_id,
            organization_id=row.organization_id,
            cluster=row,
            cluster_name=row.name,
            cluster_uid=row.uid,
            operation_id=operation.id,
            taken_at=clock.now(),
            entries=[entry.values() for entry in entries],
            groups=[group.values() for group in groups],
            kept=kept,
            notes=list(notes),
            awake_hourly=row.hourly_cost,
            awake_source=row.price_source,
        )
        made.save(force_insert=True)
        audit.record(
            actor=Actor.system("sleeper", row.organization_id),
            verb="cluster.snapshot_taken",
            target=row,
            detail=f"{len(entries)} objects and {len(groups)} groups",
            operation_id=operation.id,
            organization_id=row.organization_id,
        )
    return made


def note_decision(snapshot: SleepSnapshot, decision: Decision, kept: list[dict[str, str]]) -> None:
    """Write down which nodes leave and what stays, before the first of them does."""
    mine = SleepSnapshot.objects.for_org(snapshot.organization_id).filter(id=snapshot.id)
    mine.update(decision=decision.values(), kept=kept)


# ends


def finish_sleep(*, operation: Operation, nodes_left: Sequence[str] | None, complete: bool) -> None:
    """In the transaction that ends a sleep. Complete: asleep from now on, at the price of the nodes that are left."""
    row = Cluster.objects.for_org(operation.organization_id).filter(id=operation.resource_id).first()
    if row is None:
        return
    snapshot = open_snapshot(row)
    if snapshot is None:
        return
    mine = SleepSnapshot.objects.for_org(row.organization_id).filter(id=snapshot.id)
    if not complete:
        mine.update(trouble=operation.error or "The sleep did not end.")
        publish(row.organization_id, TOPIC, [row.id])
        if operation.status == Status.CANCELLED:
            _undo(operation, row, snapshot)
        return
    now = clock.now()
    mine.update(asleep_at=snapshot.asleep_at or now, trouble="", contested="", contested_at=None)
    actor = Actor.system("sleeper", row.organization_id)
    if nodes_left is not None:
        _price_asleep(actor, row, snapshot, nodes_left, now)
    steering.mark_asleep(actor=actor, cluster_id=row.id, cause=str(operation.payload.get("cause", "hand")))


def _undo(operation: Operation, row: Cluster, snapshot: SleepSnapshot) -> None:
    """A cancelled sleep is undone: what slept already is woken."""
    operations.request_operation(
        actor=Actor.system("sleeper", row.organization_id, operation.request_id),
        kind=WAKE,
        resource_kind=RESOURCE,
        resource_id=row.id,
        resource_label=row.name,
        payload={"cause": "hand", "snapshot": str(snapshot.id)},
        organization_id=row.organization_id,
        reason="The sleep was cancelled",
        deadline_seconds=WAKE_SECONDS,
    )


def _price_asleep(actor: Actor, row: Cluster, snapshot: SleepSnapshot, left: Collection[str], now: datetime) -> None:
    """Asleep, the cluster costs what the remaining nodes cost; awake it would cost what it did."""
    nodes = ClusterNode.objects.for_org(row.organization_id).filter(cluster=row, gone_at=None)
    nodes.exclude(name__in=list(left)).update(gone_at=now)
    prices = list(nodes.values_list("hourly_price", flat=True))
    known = [price for price in prices if price is not None]
    remaining = sum(known, Decimal(0)) if len(known) == len(prices) else None
    source = snapshot.awake_source
    costs.set_price(
        actor=actor,
        organization_id=row.organization_id,
        resource_kind=RESOURCE,
        resource_id=row.id,
        resource_label=row.name,
        awake=snapshot.awake_hourly,
        asleep=remaining,
        source=source,
        valid_from=now,
    )
    Cluster.objects.for_org(row.organization_id).filter(id=row.id).update(
        hourly_cost=remaining, node_count=len(prices), unpriced_nodes=len(prices) - len(known)
    )


def begin_wake(*, operation: Operation, cluster: Cluster) -> None:
    """The nodes are about to come back: from now on it costs money again, and what is awake is nobody's fight. When the
    wake does not end well the cluster is half asleep, and may be woken or put to sleep again."""
    snapshots = SleepSnapshot.objects.for_org(cluster.organization_id).filter(restored_at=None, handed_over_at=None)
    snapshots.filter(cluster_id=cluster.id).update(asleep_at=None)
    actor = Actor.system("sleeper", cluster.organization_id)
    steering.mark_awake(actor=actor, cluster_id=cluster.id, cause=str(operation.payload.get("cause", "hand")))


def finish_wake(*, operation: Operation, complete: bool) -> None:
    """In the transaction that ends a wake. Complete: the snapshot is closed; otherwise it stays open, with the trouble."""
    row = Cluster.objects.for_org(operation.organization_id).filter(id=operation.resource_id).first()
    snapshot = open_snapshot(row) if row is not None else None
    if row is None or snapshot is None:
        return
    mine = SleepSnapshot.objects.for_org(row.organization_id).filter(id=snapshot.id)
    if not complete:
        mine.update(trouble=operation.error or "The wake did not end.")
    else:
        mine.update(restored_at=clock.now(), trouble="", contested="", contested_at=None)
        begin_wake(operation=operation, cluster=row)
    publish(row.organization_id, TOPIC, [row.id])


# rules


def rules_of(cluster: Cluster) -> SleepRules:
    """The cluster's rules; unsaved defaults when none were made."""
    found = SleepRules.objects.for_org(cluster.organization_id).filter(cluster=cluster).first()
    return found or SleepRules(organization_id=cluster.organization_id, cluster=cluster)


def scope_of(rules: SleepRules, agent_namespace: str = "curfew") -> Scope:
    """The rules as planning takes them."""
    return Scope(
        groups=frozenset(str(g) for g in rules.groups) if rules.selective else None,
        critical=frozenset(str(n) for n in rules.critical),
        keep=tuple((str(pair[0]), str(pair[1])) for pair in rules.keep),
        to_zero=rules.to_zero,
        agent_namespace=agent_namespace,
    )


def set_rules(
    *,
    actor: Actor,
    cluster_id: UUID,
    selective: bool,
    groups: Sequence[str],
    critical: Sequence[str],
    keep: Sequence[tuple[str, str]],
    to_zero: bool,
    on_demand: bool,
) -> SleepRules:
    """Change how a cluster may sleep; takes effect with the next sleep. Raises Forbidden, NotFound, InvalidInput."""
    actor.require(steering.MANAGE, "change how clusters sleep")
    facts = {**_clean(selective, groups, critical, keep), "to_zero": to_zero, "on_demand": on_demand}
    with transaction.atomic():
        row = steering.locked(actor, cluster_id)
        if to_zero and not gateway.reaches(row):
            words = "Curfew reaches this cluster through its agent alone, which must stay awake to wake it."
            raise InvalidInput(errors={"to_zero": [words]})
        rules = rules_of(row)
        changed = {
            name: [getattr(rules, name), value] for name, value in facts.items() if getattr(rules, name) != value
        }
        if changed:
            for name, (_, value) in changed.items():
                setattr(rules, name, value)
            rules.changed_at = clock.now()
            rules.save()
            audit.record(actor=actor, verb="cluster.sleep_rules_changed", target=row, changes=changed)
            publish(row.organization_id, TOPIC, [row.id])
    return rules


def _clean(
    selective: bool, groups: Sequence[str], critical: Sequence[str], keep: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    names = sorted({name.strip() for name in critical if name.strip()})
    if len(names) > 200 or any(len(name) > 63 for name in names):
        errors["critical"] = ["Give at most 200 namespaces of at most 63 characters."]
    pairs = [[key.strip(), value.strip()] for key, value in keep if key.strip()]
    if len(pairs) > 50 or any(len(key) > 128 or len(value) > 256 for key, value in pairs):
        errors["keep"] = ["Give at most 50 tags, with keys of 128 and values of 256 characters at most."]
    chosen = sorted({group for group in groups if group})
    if selective and not chosen:
        errors["groups"] = ["Choose at least one group that sleeps, or let all of them sleep."]
    if len(chosen) > 500 or any(len(group) > 300 for group in chosen):
        errors["groups"] = ["There are too many groups."]
    if errors:
        raise InvalidInput(errors=errors)
    return {"selective": selective, "groups": chosen, "critical": names, "keep": pairs}


# restore files


def hand_over(*, actor: Actor, snapshot_id: UUID) -> SleepSnapshot:
    """Give up an open snapshot: somebody took its restore file. Raises Forbidden, NotFound, InvalidState."""
    actor.require(steering.MANAGE, "take a restore file instead of a wake")
    with transaction.atomic():
        rows = SleepSnapshot.objects.visible_to(actor).select_for_update(of=("self",))
        row: SleepSnapshot | None = rows.filter(id=snapshot_id).first()
        if row is None:
            raise NotFound("There is no such snapshot.")
        if row.restored_at is not None:
            raise InvalidState("It was restored already.")
        if row.handed_over_at is None:
            row.handed_over_at = clock.now()
            row.save(update_fields=["handed_over_at"])
            audit.record(
                actor=actor,
                verb="cluster.restore_file_taken",
                target_kind="cluster_snapshot",
                target_id=str(row.id),
                target_label=row.cluster_name,
                organization_id=row.organization_id,
            )
    return row


__all__ = ["SLEEP", "WAKE", "request_sleep", "request_wake"]
