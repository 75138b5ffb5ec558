"""What an order waits for: pods that end, nodes that join, the system, workloads that are ready; and what it tries when
there is no capacity."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from clusters.providers.groups import Group, GroupKind, LaunchFailure
from clusters.sleeping.hands import Hands
from clusters.sleeping.kinds import WORKLOAD_KINDS, Object, labels_of, spec_of
from clusters.sleeping.observe import RESOURCES, read_objects
from clusters.sleeping.protect import protect
from clusters.sleeping.snapshot import STEER_TAG, Entry, GroupEntry
from clusters.sleeping.world import (
    COMES_BACK,
    NODE_GROUP_LABEL,
    Key,
    Scope,
    Why,
    World,
    instance_of,
    place_of,
)
from operations.registry import OperationFailed, RunContext

LONGEST_TAG = 256


def remaining(objects: Mapping[str, Sequence[Object]], slept: Collection[Key]) -> tuple[int, int]:
    """(pods of what was put to sleep that have not ended, pods of jobs that still run)."""
    found = protect(World(objects), Scope())
    pods = jobs = 0
    for pod in found.pods:
        owner = found.owners[place_of(pod)]
        pods += owner in slept
        jobs += owner is not None and owner[0] == "Job"
    return pods, jobs


def is_ready(node: Object) -> bool:
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return bool(condition.get("status") == "True")
    return False


def missing_nodes(hands: Hands, groups: Sequence[GroupEntry]) -> dict[str, int]:
    """By group, how many machines are wanted that have not joined as ready nodes."""
    if hands.groups is None or not groups:
        return {}
    nodes = [n for n in hands.kube.list(RESOURCES["Node"]) if is_ready(n)]
    instances = {instance_of(n) for n in nodes}
    found: dict[str, int] = {}
    for entry in groups:
        group = hands.groups.read(entry.kind, entry.name)
        if group is None:
            continue
        here = sum(1 for m in group.machines if m.id in instances)
        if not group.machines:
            here = sum(1 for n in nodes if labels_of(n).get(NODE_GROUP_LABEL) == group.name)
        if here < group.sizes.desired:
            found[entry.key] = group.sizes.desired - here
    return found


def system_down(hands: Hands) -> list[str]:
    """Names of system workloads (DNS, certificates, webhooks, node scalers) of which nothing is available yet."""
    kinds = (
        "Deployment",
        "StatefulSet",
        "Namespace",
        "Service",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    )
    world = World(read_objects(hands.kube, kinds))
    found = protect(world, Scope())
    down = []
    for kind in ("Deployment", "StatefulSet"):
        for obj in world.of(kind):
            reason = found.workloads.get((kind, *place_of(obj)))
            if reason is not None and reason.why in {*COMES_BACK, Why.DEADLOCK} and lacking(obj) and not _any(obj):
                down.append("/".join(place_of(obj)))
    return sorted(down)


def _any(obj: Object) -> bool:
    status = obj.get("status") or {}
    return bool(status.get("availableReplicas") or status.get("readyReplicas"))


def lacking(obj: Object) -> int:
    """How many replicas of a workload are wanted that are not there."""
    status = obj.get("status") or {}
    ready = status.get("availableReplicas") or status.get("readyReplicas") or 0
    return max(0, int(spec_of(obj).get("replicas", 1) or 0) - int(ready))


def unready(hands: Hands, entries: Sequence[Entry]) -> list[str]:
    """Names of workloads of a wave that are not whole yet."""
    wanted = {(e.kind, e.namespace, e.name) for e in entries}
    kinds = tuple(k for k in WORKLOAD_KINDS if any(e.kind == k for e in entries))
    objects = read_objects(hands.kube, kinds)
    return sorted(
        "/".join(place_of(obj))
        for kind, found in objects.items()
        for obj in found
        if (kind, *place_of(obj)) in wanted and lacking(obj)
    )


# capacity


def find_capacity(
    context: RunContext, hands: Hands, groups: Sequence[GroupEntry], missing: Mapping[str, int], *, may_buy: bool
) -> None:
    """Where launches fail for want of capacity: launch in the group's other zones, then on-demand where that is allowed.

    What the group had is written on it first, and given back when the cluster is awake.
    """
    if hands.groups is None:
        return
    since = datetime.fromisoformat(context.state["nodes_at"]).astimezone(UTC)
    tried: dict[str, list[str]] = dict(context.state.get("tried") or {})
    for entry in groups:
        if entry.key not in missing:
            continue
        group = hands.groups.read(entry.kind, entry.name)
        failures = [f for f in hands.groups.failures(group, since) if f.capacity] if group is not None else []
        if group is None or not failures:
            continue
        remedy = next_remedy(group, failures, tried.get(entry.key, []), may_buy=may_buy)
        tried[entry.key] = [*tried.get(entry.key, []), failures[0].words[:200]]
        context.checkpoint(tried=tried)
        if remedy is not None:
            _steer(hands, group, remedy)


def next_remedy(
    group: Group, failures: Sequence[LaunchFailure], tried: Sequence[str], *, may_buy: bool
) -> dict[str, Any] | None:
    """What to change about a group's launches next; None when nothing is left. Types are the group's own to choose."""
    if group.kind is not GroupKind.ASG:
        return None
    bad = {f.zone for f in failures if f.zone}
    good = [subnet for subnet in group.subnets if subnet not in bad and group.subnets[subnet] not in bad]
    if bad and good and len(good) < len(group.subnets):
        return {"subnets": good}
    if may_buy and group.on_demand is not None and group.on_demand < 100:
        return {"on_demand": 100}
    return None


def _steer(hands: Hands, group: Group, remedy: Mapping[str, Any]) -> None:
    assert hands.groups is not None
    if STEER_TAG not in group.tags:
        share = "-" if group.on_demand is None else str(group.on_demand)
        before = f"{'+'.join(group.subnets) or '-'} {share}"
        if len(before) > LONGEST_TAG:
            return  # what cannot be remembered is not changed
        hands.fence()
        hands.groups.remember(group, STEER_TAG, before)
    hands.fence()
    hands.groups.steer(group, **remedy)


def refuse_short(context: RunContext, hands: Hands, groups: Sequence[GroupEntry]) -> None:
    """Everything is awake that could be. Machines that the provider would not start are trouble all the same, in its
    words."""
    tried: Mapping[str, list[str]] = context.state.get("tried") or {}
    missing = missing_nodes(hands, [g for g in groups if g.key in tried])
    if not missing:
        return
    count = sum(missing.values())
    names = ", ".join(g.name for g in groups if g.key in missing)
    raise OperationFailed(
        f"{count} node{'s' if count != 1 else ''} of {names} did not join; everything else is awake. "
        f"The provider says: {tried[next(iter(missing))][-1]}",
        code="no_capacity",
        next_step="Wake it again when there is capacity, or change the group's types and zones.",
    )


def refuse_none(context: RunContext, hands: Hands, groups: Sequence[GroupEntry], missing: Mapping[str, int]) -> None:
    """The time is over. With no node at all nothing can run: say why, in the provider's words."""
    nodes = [n for n in hands.kube.list(RESOURCES["Node"]) if is_ready(n)]
    words = [words for tried in (context.state.get("tried") or {}).values() for words in tried[-1:]]
    if nodes:
        return
    names = ", ".join(g.name for g in groups if g.key in missing)
    raise OperationFailed(
        f"No node of {names} has joined. " + (f"The provider says: {words[0]}" if words else "No launch was reported."),
        code="no_capacity" if words else "no_nodes",
        next_step="Wake it again later, or change the group's types and zones; everything else waits unchanged.",
    )
