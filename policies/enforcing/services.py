"""Every write of the enforcers: begin an action, note what it does, end it, and let go of what it left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q

from audit import services as audit
from clusters.models import Cluster
from core import clock
from core.actor import Actor
from core.live import publish
from operations import services as operations
from operations.enums import ACTIVE, Status
from operations.models import Operation
from policies.enforcing import planning
from policies.enforcing.enums import LAUNCH, RELEASE, REMOVE, RESOURCE, Kind, Outcome
from policies.enforcing.models import Enforcement, NodeAction
from policies.enforcing.rules import ACTOR, why_not
from policies.selectors import Applied

NO_CAPACITY_FOR = timedelta(minutes=3)
MOST_OPEN_LAUNCHES = 10
TOPIC = "policies"


def enforcement_of(cluster: Cluster) -> Enforcement:
    """The cluster's row, made when it has none."""
    row, _ = Enforcement.objects.for_org(cluster.organization_id).get_or_create(
        cluster=cluster, defaults={"organization_id": cluster.organization_id}
    )
    return row


def note(cluster: Cluster, **fields: Any) -> None:
    """Change some fields of the cluster's row."""
    enforcement_of(cluster)
    Enforcement.objects.for_org(cluster.organization_id).filter(cluster=cluster).update(**fields)
    publish(cluster.organization_id, TOPIC, [cluster.id])


def begin(
    *,
    cluster: Cluster,
    policy: Applied,
    kind: Kind,
    reason: str,
    nodes: Sequence[str] = (),
    machines: Mapping[str, str] | None = None,
    moves: Sequence[str] = (),
    pods: Sequence[str] = (),
    launch: Mapping[str, Any] | None = None,
    parent: NodeAction | None = None,
    expected_hourly: Decimal | None = None,
) -> NodeAction | None:
    """Write the action down and order it; None when it may not be begun now, or one like it is under way."""
    actor = Actor.system(ACTOR, cluster.organization_id)
    with transaction.atomic():
        row = Cluster.objects.for_org(cluster.organization_id).select_for_update(of=("self",)).filter(id=cluster.id)
        locked = row.select_related(None).first()
        if locked is None or why_not(locked, policy, kind):
            return None
        if kind is Kind.LAUNCH and parent is None and not _has_room(locked, pods):
            return None
        action = NodeAction(
            organization_id=cluster.organization_id,
            cluster=locked,
            kind=kind,
            policy_name=policy.policy_name,
            policy_number=policy.number,
            reason=reason[:300],
            nodes=list(nodes),
            machines=dict(machines or {}),
            moves=list(moves),
            pods=list(pods),
            launch=dict(launch or {}),
            parent=parent,
            expected_hourly=expected_hourly,
            hourly_before=locked.hourly_cost,
            started_at=clock.now(),
        )
        try:
            with transaction.atomic():
                action.save(force_insert=True)
        except IntegrityError:
            return None
        operation = operations.request_operation(
            actor=actor,
            kind=LAUNCH if kind is Kind.LAUNCH else REMOVE,
            resource_kind=RESOURCE,
            resource_id=action.id,
            resource_label=f"{locked.name}: {title_of(action)}",
            payload={"cluster": str(locked.id)},
            organization_id=locked.organization_id,
            reason=reason,
            subject=f"{kind}/{locked.id}",
        )
        action.operation_id = operation.id
        action.save(update_fields=["operation_id"])
        audit.record(
            actor=actor,
            verb="policy.node_wanted" if kind is Kind.LAUNCH else "policy.removal_begun",
            target=locked,
            detail=f"{title_of(action)}: {reason}"[:500],
            operation_id=operation.id,
        )
        publish(locked.organization_id, TOPIC, [locked.id])
    return action


def _has_room(cluster: Cluster, pods: Sequence[str]) -> bool:
    """Whether one more launch may begin: not too many are under way, and the pods are not all waited for already."""
    open_ones = NodeAction.objects.for_org(cluster.organization_id).filter(cluster=cluster, ended_at=None)
    if open_ones.filter(kind=Kind.LAUNCH).count() >= MOST_OPEN_LAUNCHES:
        return False
    known = {pod for held in open_ones.values_list("pods", flat=True) for pod in held}
    return not (pods and known >= set(pods))


def title_of(action: NodeAction) -> str:
    """What it does, in words."""
    if action.kind == Kind.LAUNCH:
        return f"add a node for {len(action.pods)} pods" if action.pods else "add a node"
    return f"take away {', '.join(action.nodes[:3])}" + (
        f" and {len(action.nodes) - 3} more" if len(action.nodes) > 3 else ""
    )


def keep(action: NodeAction, **fields: Any) -> None:
    """Write fields of an action down, before or after the step they speak of."""
    for name, value in fields.items():
        setattr(action, name, value)
    NodeAction.objects.for_org(action.organization_id).filter(id=action.id).update(**fields)


def refuse_pools(cluster: Cluster, keys: Iterable[str], now: datetime) -> None:
    """These pools of machines have no capacity: they are not asked for again for a while."""
    with transaction.atomic():
        rows = Enforcement.objects.for_org(cluster.organization_id).select_for_update()
        row = rows.filter(cluster=cluster).first() or enforcement_of(cluster)
        until = (now + NO_CAPACITY_FOR).isoformat()
        held = {k: v for k, v in row.refused.items() if datetime.fromisoformat(v) > now}
        row.refused = {**held, **dict.fromkeys(keys, until)}
        row.save(update_fields=["refused"])


def refused_pools(cluster: Cluster, now: datetime) -> dict[str, datetime]:
    """Pools that had no capacity a moment ago, and until when they are left alone."""
    held = {k: datetime.fromisoformat(v) for k, v in enforcement_of(cluster).refused.items()}
    return {key: until for key, until in held.items() if until > now}


def finish(operation: Operation) -> None:
    """In the transaction that ends an action's operation: say what became of it, and let go of what is still held."""
    action = NodeAction.objects.for_org(operation.organization_id).filter(id=operation.resource_id).first()
    if action is None or action.operation_id != operation.id:
        return
    told = operation.result
    if operation.status == Status.SUCCEEDED:
        outcome, words = Outcome(told.get("outcome", Outcome.DONE)), str(told.get("words", ""))
    elif operation.status == Status.CANCELLED:
        outcome, words = Outcome.GIVEN_UP, "Cancelled on request."
    else:
        outcome, words = Outcome.FAILED, operation.error
    keep(action, outcome=outcome, words=words[:500], ended_at=clock.now())
    cluster = Cluster.objects.for_org(action.organization_id).filter(id=action.cluster_id).first()
    if cluster is None:
        return
    if outcome is Outcome.DONE and action.kind == Kind.REMOVE:
        _remember(action)
    if leftovers(action):
        release(action, cluster, words or "it ended on the way")
    verb = {Outcome.DONE: "policy.action_done", Outcome.GIVEN_UP: "policy.action_given_up"}.get(
        outcome, "policy.action_failed"
    )
    audit.record(
        actor=Actor.system(ACTOR, action.organization_id),
        verb=verb,
        target=cluster,
        outcome="failed" if outcome is Outcome.FAILED else "success",
        detail=f"{title_of(action)}. {words}"[:500],
        operation_id=operation.id,
    )
    publish(action.organization_id, TOPIC, [cluster.id])


def _remember(action: NodeAction) -> None:
    """The engine must know what was done: how often pods have been moved to cheaper nodes."""
    new = replacement_of(action)
    rows = Enforcement.objects.for_org(action.organization_id).filter(cluster_id=action.cluster_id)
    row = rows.select_for_update().first()
    if row is not None:
        receivers = list(action.launch.get("receivers") or ())
        memory = planning.planner().carried_out(row.memory, action.ended_nodes, receivers, new or None, clock.now())
        rows.update(memory=dict(memory))


def leftovers(action: NodeAction) -> bool:
    """Whether something of an action is still held: a closed node, or a machine that belongs to no group."""
    bought = action.launch.get("buying") and not action.launch.get("settled")
    return bool(action.cordoned) or bool(bought)


def release(action: NodeAction, cluster: Cluster, why: str) -> Operation | None:
    """Order that what the action still holds is let go; None when that is under way."""
    if operations.active_operation(RESOURCE, action.id) is not None:
        return None
    return operations.request_operation(
        actor=Actor.system(ACTOR, action.organization_id),
        kind=RELEASE,
        resource_kind=RESOURCE,
        resource_id=action.id,
        resource_label=f"{cluster.name}: let go of {', '.join(action.cordoned) or 'a machine'}",
        organization_id=action.organization_id,
        reason=why[:300],
    )


def release_forgotten() -> int:
    """Sweep: actions that have ended, or whose operation has, and that still hold something. Returns how many."""
    ordered = 0
    closed = Q(kind=Kind.REMOVE) & ~Q(cordoned=[])
    bought = Q(kind=Kind.LAUNCH, launch__buying=True) & ~Q(launch__has_key="settled")
    held = NodeAction.objects.all_orgs().filter(closed | bought).select_related("cluster")
    for action in held.order_by("started_at")[:500]:
        mine = Operation.objects.for_org(action.organization_id).filter(resource_kind=RESOURCE, resource_id=action.id)
        if mine.filter(status__in=ACTIVE).exists():
            continue
        with transaction.atomic():
            if action.ended_at is None:
                keep(action, outcome=Outcome.FAILED, ended_at=clock.now(), words="Its operation ended without it.")
            ordered += release(action, action.cluster, "found by the sweep") is not None
    return ordered


def action_of(operation: Operation) -> NodeAction | None:
    """The action that an operation carries out."""
    rows = NodeAction.objects.for_org(operation.organization_id).select_related(
        "cluster__account", "cluster__organization"
    )
    found: NodeAction | None = rows.filter(id=operation.resource_id).first()
    return found


def replacement_of(action: NodeAction) -> str:
    """The node that was bought for a removal; "" when none was."""
    child = child_of(action)
    if child is None or child.operation_id is None:
        return ""
    done = Operation.objects.for_org(action.organization_id).filter(id=child.operation_id).first()
    return str(done.result.get("node") or "") if done is not None else ""


def child_of(action: NodeAction) -> NodeAction | None:
    """The launch that a removal waits for."""
    found: NodeAction | None = (
        NodeAction.objects.for_org(action.organization_id).filter(parent=action).order_by("-started_at").first()
    )
    return found
