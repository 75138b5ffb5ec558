"""What sleeps, in which order, what stays and why; and the order of waking. Pure: the same world gives the same plan.

Nodes are planned twice: for the preview, and again when the workloads are down, from what then runs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from clusters.providers.groups import Group, GroupKind, Sizes
from clusters.sleeping.kinds import (
    KINDS,
    PHASES,
    WAKE_AFTER,
    WAKE_ORDER,
    WORKLOAD_KINDS,
    Object,
    Phase,
    annotations_of,
    labels_of,
    spec_of,
)
from clusters.sleeping.objects import fields_of, rests
from clusters.sleeping.protect import Protection, local_claims, pod_reason, protect
from clusters.sleeping.world import (
    NODE_GROUP_LABEL,
    NODE_POOL_LABEL,
    ClaimStep,
    GroupStep,
    Kept,
    Key,
    Plan,
    Reason,
    Scope,
    Step,
    Why,
    World,
    foreign_group,
    group_key,
    instance_of,
    is_node_scaler,
    place_of,
    uid_of,
    unslept,
)

STATEFUL_ORDER, USUAL_ORDER = 0, 10


def plan(world: World, scope: Scope) -> Plan:
    """The whole plan of a sleep."""
    found = protect(world, scope)
    homes = node_groups(world)
    still = _kept_groups(world, scope)
    going = _workloads(world, found, homes, still)
    steps = _steps(world, found, going, scope)
    sleeping = {step.key: step for step in steps if step.kind in WORKLOAD_KINDS}
    groups, claims, leaving, staying = plan_nodes(world, scope, found, homes, still, {**sleeping, **_asleep(world)})
    scalers = [s for s in _node_scalers(world) if groups]
    pools = pool_steps(world, scope)
    paused = {step.key for step in scalers}
    kept = [
        *(Kept("/".join(key), reason) for key, reason in sorted(found.workloads.items()) if key not in paused),
        *(Kept(f"group/{key}", reason) for key, reason in sorted(still.items())),
        *(Kept(f"node/{name}", reason) for name, reason in sorted(staying.items())),
    ]
    return Plan(
        steps=tuple(sorted([*steps, *scalers, *pools], key=_order)),
        groups=tuple(groups),
        claims=tuple(claims),
        kept=tuple(kept),
        leaving=frozenset(leaving),
        staying=staying,
        notes=tuple(_notes(world, homes)),
    )


def _order(step: Step) -> tuple[int, int, str, str, str]:
    """Phases in order; later waves fall asleep first, as they wake last."""
    return PHASES.index(Phase(step.phase)), -step.wave, step.kind, step.namespace, step.name


def node_groups(world: World) -> dict[str, str]:
    """The group key of every node that belongs to a group; nodes elsewhere are left out."""
    machines = {m.id: group_key(g.kind, g.name) for g in world.groups for m in g.machines}
    managed = {g.name for g in world.groups if g.kind is GroupKind.MANAGED}
    pools = {place_of(p)[1] for p in world.of("NodePool")}
    homes: dict[str, str] = {}
    for node in world.of("Node"):
        name, labels = place_of(node)[1], labels_of(node)
        pool, group = labels.get(NODE_POOL_LABEL, ""), labels.get(NODE_GROUP_LABEL, "")
        machine = machines.get(instance_of(node))
        if pool in pools and pool:
            homes[name] = group_key("karpenter", pool)
        elif machine:
            homes[name] = machine
        elif group in managed:
            homes[name] = group_key(GroupKind.MANAGED, group)
    return homes


def _marks_of(thing: Group | Object) -> Mapping[str, str]:
    if isinstance(thing, Group):
        return thing.tags
    template = (spec_of(thing).get("template") or {}).get("metadata") or {}
    return {**labels_of(thing), **annotations_of(thing), **(template.get("labels") or {})}


def _kept_groups(world: World, scope: Scope) -> dict[str, Reason]:
    """Groups that do not shrink, by key."""
    found: dict[str, Reason] = {}
    known: list[tuple[str, Group | Object]] = [(group_key(g.kind, g.name), g) for g in world.groups]
    known += [(group_key("karpenter", place_of(p)[1]), p) for p in world.of("NodePool")]
    for key, thing in known:
        if mark := scope.keeps(_marks_of(thing)):
            found[key] = Reason(Why.EXCLUDED, f"the group carries {mark}")
        elif str(_marks_of(thing).get("curfew.dev/keep") or _marks_of(thing).get("curfew:keep") or "") not in (
            "",
            "false",
        ):
            found[key] = Reason(Why.EXCLUDED, "the group is marked to be kept")
        elif scope.groups is not None and key not in scope.groups:
            found[key] = Reason(Why.SCOPE, "you chose to keep this group running")
    return found


def _workloads(
    world: World, found: Protection, homes: Mapping[str, str], still: Mapping[str, Reason]
) -> dict[Key, Object]:
    """Workloads that sleep: not protected, and none of their pods on a group that stays."""
    on_kept: dict[Key, str] = {}
    for pod in found.pods:
        owner = found.owners[place_of(pod)]
        group = homes.get(str(spec_of(pod).get("nodeName") or ""), "")
        if owner is not None and group in still:
            on_kept.setdefault(owner, group)
    going: dict[Key, Object] = {}
    for kind in WORKLOAD_KINDS:
        for obj in world.of(kind):
            key: Key = (kind, *place_of(obj))
            if key in found.workloads or (kind == "Deployment" and is_node_scaler(obj)):
                continue
            if key in on_kept:
                found.workloads[key] = Reason(Why.GROUP, f"it runs on {on_kept[key].partition(':')[2]}, which stays")
                continue
            going[key] = obj
    return going


def _steps(world: World, found: Protection, going: Mapping[Key, Object], scope: Scope) -> list[Step]:
    waves = wake_waves(going)
    steps = [
        Step(Phase.WORKLOADS, *key, obj=obj, wave=waves[key])
        for key, obj in going.items()
        if fields_of(key[0], obj) and not rests(obj, key[0])
    ]
    for kind in (
        "HorizontalPodAutoscaler",
        "ScaledObject",
        "ScaledJob",
        "CronJob",
        "Application",
        "Kustomization",
        "HelmRelease",
    ):
        steps += [
            Step(KINDS[kind].phase, kind, *place_of(obj), obj=obj)
            for obj in world.of(kind)
            if not rests(obj, kind) and fields_of(kind, obj) and _follows(kind, obj, found, going, scope)
        ]
    return steps


def _follows(kind: str, obj: Object, found: Protection, going: Mapping[Key, Object], scope: Scope) -> bool:
    """Whether something beside the workloads sleeps with them."""
    namespace, _ = place_of(obj)
    held = {**annotations_of(obj), **labels_of(obj)}
    if "curfew.dev/keep" in held or scope.keeps(held):
        return False
    if kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        target = spec_of(obj).get("scaleTargetRef") or {}
        return (str(target.get("kind") or "Deployment"), namespace, str(target.get("name"))) in going
    if kind in ("CronJob", "ScaledJob"):
        template = ((spec_of(obj).get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
        return namespace not in found.namespaces and not scope.keeps(labels_of(template))
    return _deploys(kind, obj, found, going)


def _deploys(kind: str, obj: Object, found: Protection, going: Mapping[Key, Object]) -> bool:
    """Whether a GitOps object keeps something alive that sleeps; one that does not tell what it keeps, may."""
    status = obj.get("status") or {}
    if kind == "Application":
        listed = [
            (str(r.get("kind")), str(r.get("namespace") or ""), str(r.get("name")))
            for r in status.get("resources") or ()
        ]
        place = str((spec_of(obj).get("destination") or {}).get("namespace") or "")
    elif kind == "Kustomization":
        parts = [str(e.get("id")).split("_") for e in (status.get("inventory") or {}).get("entries") or ()]
        listed = [(p[3], p[0], p[1]) for p in parts if len(p) == 4]
        place = str(spec_of(obj).get("targetNamespace") or "")
    else:
        listed, place = [], str(spec_of(obj).get("targetNamespace") or place_of(obj)[0])
    if any(row[0] in WORKLOAD_KINDS for row in listed):
        return any(row in going for row in listed)
    return place not in found.namespaces


def _asleep(world: World) -> dict[Key, Object]:
    """Workloads that sleep by our hand already."""
    return {(kind, *place_of(obj)): obj for kind in WORKLOAD_KINDS for obj in world.of(kind) if rests(obj, kind)}


def _node_scalers(world: World) -> list[Step]:
    return [
        Step(Phase.NODE_SCALER, "Deployment", *place_of(obj), obj=obj)
        for obj in world.of("Deployment")
        if is_node_scaler(obj) and fields_of("Deployment", obj) and not rests(obj, "Deployment")
    ]


def resting(world: World) -> list[Step]:
    """Objects that sleep by our hand already, of a sleep whose record was lost: they are taken over, never remembered anew."""
    return [
        Step(KINDS[kind].phase, kind, *place_of(obj), obj=obj)
        for kind in KINDS
        for obj in world.of(kind)
        if rests(obj, kind)
    ]


def plan_nodes(
    world: World,
    scope: Scope,
    found: Protection,
    homes: Mapping[str, str],
    still: Mapping[str, Reason],
    going: Mapping[Key, object],
) -> tuple[list[GroupStep], list[ClaimStep], set[str], dict[str, Reason]]:
    """(groups that shrink, claims that end, nodes that leave, nodes that stay with the reason)."""
    staying = dict(found.nodes)
    local = local_claims(world)
    scalers = {("Deployment", *place_of(d)): d for d in world.of("Deployment") if is_node_scaler(d)}
    for pod in found.pods:
        node = str(spec_of(pod).get("nodeName") or "")
        if node and node not in staying:
            reason = pod_reason(pod, found, scope, {**going, **scalers}, local)
            if reason is not None:
                staying[node] = reason
    members: dict[str, list[Object]] = defaultdict(list)
    for machine in world.of("Node"):
        name = place_of(machine)[1]
        group = homes.get(name)
        if group is None:
            staying.setdefault(name, Reason(Why.UNKNOWN, unslept(machine)))
        elif group in still:
            staying.setdefault(name, still[group])
        else:
            members[group].append(machine)
    steps = [s for g in world.groups if (s := _shrink(g, members, staying, still)) is not None]
    claims = _claims(world, staying, still)
    leaving = {n for step in steps for n in step.nodes} | {c.node for c in claims if c.node}
    return steps, claims, leaving, staying


def _shrink(
    group: Group, members: Mapping[str, list[Object]], staying: dict[str, Reason], still: Mapping[str, Reason]
) -> GroupStep | None:
    """How far a group shrinks: to the nodes that stay, which are guarded; a machine without a node is not waited for."""
    key = group_key(group.kind, group.name)
    if key in still:
        return None
    nodes = members.get(key, [])
    stay = [n for n in nodes if place_of(n)[1] in staying]
    ids = {m.id for m in group.machines}
    if stay and (not group.asg or any(instance_of(n) not in ids for n in stay)):
        words = "the group runs something that stays, and which of its nodes would go cannot be chosen"
        for node in nodes:
            staying.setdefault(place_of(node)[1], Reason(Why.GROUP, words))
        return None
    count = len(stay)
    after = Sizes(count, count, count if group.kind is GroupKind.ASG else max(1, group.sizes.high))
    if count > group.sizes.desired or after == group.sizes:
        return None
    guard = tuple(sorted(instance_of(n) for n in stay))
    going = tuple(sorted(place_of(n)[1] for n in nodes if place_of(n)[1] not in staying))
    return GroupStep(key, group.kind, group.name, group.sizes, after, guard, going)


def _claims(world: World, staying: Mapping[str, Reason], still: Mapping[str, Reason]) -> list[ClaimStep]:
    """NodeClaims of pools that sleep whose node holds nothing that stays."""
    found = []
    for claim in world.of("NodeClaim"):
        pool = labels_of(claim).get(NODE_POOL_LABEL, "")
        node = str((claim.get("status") or {}).get("nodeName") or "")
        marked = str(annotations_of(claim).get("karpenter.sh/do-not-disrupt", "")).lower() == "true"
        if not pool or group_key("karpenter", pool) in still or node in staying or marked:
            continue
        found.append(ClaimStep(place_of(claim)[1], uid_of(claim), pool, node))
    return sorted(found, key=lambda c: c.name)


def pool_steps(world: World, scope: Scope) -> list[Step]:
    """Karpenter pools that stop making nodes."""
    still = _kept_groups(world, scope)
    return [
        Step(Phase.NODES, "NodePool", *place_of(obj), obj=obj)
        for obj in world.of("NodePool")
        if group_key("karpenter", place_of(obj)[1]) not in still
        and fields_of("NodePool", obj)
        and not rests(obj, "NodePool")
    ]


def replan_nodes(world: World, scope: Scope) -> tuple[list[GroupStep], list[ClaimStep], dict[str, Reason]]:
    """The nodes' part, from a fresh look, when the workloads are down."""
    found = protect(world, scope)
    homes, still = node_groups(world), _kept_groups(world, scope)
    groups, claims, _, staying = plan_nodes(world, scope, found, homes, still, _asleep(world))
    return groups, claims, staying


def wake_waves(workloads: Mapping[Key, Object]) -> dict[Key, int]:
    """The wave in which each workload wakes, lowest first.

    `curfew.dev/wake-order` is a number (StatefulSets 0, others 10 without it); `curfew.dev/wake-after` names workloads
    ("web", "Deployment/web" or "Deployment/shop/web", separated by commas) that wake in an earlier wave. A circle is
    cut where it closes.
    """
    base = {key: _wake_order(key, obj) for key, obj in workloads.items()}
    after = {key: _wake_after(key, obj, workloads) for key, obj in workloads.items()}
    found: dict[Key, int] = {}

    def wave(key: Key, path: frozenset[Key]) -> int:
        if key not in found:
            before = [wave(one, path | {key}) + 1 for one in after[key] if one not in path and one != key]
            value = max([base[key], *before])
            if path and any(one in path for one in after[key]):
                return value
            found[key] = value
        return found[key]

    for key in sorted(workloads):
        found[key] = wave(key, frozenset())
    return found


def _wake_order(key: Key, obj: Object) -> int:
    try:
        return max(-1000, min(1000, int(annotations_of(obj).get(WAKE_ORDER, ""))))
    except ValueError:
        return STATEFUL_ORDER if key[0] == "StatefulSet" else USUAL_ORDER


def _wake_after(key: Key, obj: Object, workloads: Mapping[Key, Object]) -> list[Key]:
    found: list[Key] = []
    for word in str(annotations_of(obj).get(WAKE_AFTER, "")).split(","):
        parts = [p.strip() for p in word.split("/") if p.strip()]
        if not parts:
            continue
        kinds: Sequence[str] = WORKLOAD_KINDS if len(parts) == 1 else (parts[0],)
        place = parts[1] if len(parts) == 3 else key[1]
        found += [(kind, place, parts[-1]) for kind in kinds if (kind, place, parts[-1]) in workloads]
    return found


def _notes(world: World, homes: Mapping[str, str]) -> Iterable[str]:
    homeless = [n for n in world.of("Node") if place_of(n)[1] not in homes]
    foreign = Counter(group for n in homeless if (group := foreign_group(n)))
    for group, count in sorted(foreign.items()):
        yield (
            f"{count} node{'s' if count != 1 else ''} of {group} {'keep' if count != 1 else 'keeps'} running and "
            "costing money: Curfew resizes Auto Scaling groups, EKS node groups and Karpenter's pools, not AKS and GKE "
            "pools. What runs there sleeps all the same; where the pool has an autoscaler, that removes its empty nodes."
        )
    loose = len(homeless) - foreign.total()
    if loose:
        yield (
            f"{loose} node{'s belong' if loose != 1 else ' belongs'} to no group that Curfew can change: "
            "connect the cloud account, or they keep running."
        )
    if any(str(spec_of(c).get("startingDeadlineSeconds") or "") == "" for c in world.of("CronJob")):
        yield "Cron jobs without startingDeadlineSeconds run once on waking when they missed a time."
