"""Looks at a cluster, through its API server or at its last report, and what follows from them.

A look plans; it changes nothing in the cluster. Actions are ordered from it, one at a time, and each looks again itself.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from clusters.analysis.facts import ClusterFacts, Pod
from clusters.analysis.packing.model import StuckReason
from clusters.facts import cluster_facts
from clusters.inventory.live import tables_of
from clusters.models import Cluster, ClusterNode, Summary
from clusters.providers.groups import Group, GroupKind, NodeGroups
from clusters.providers.kube import KubeApi, Resource
from clusters.services import reports
from clusters.services.money import Quote, Quotes
from clusters.sleeping.kinds import Object, spec_of
from clusters.sleeping.observe import RESOURCES, resource_of
from clusters.sleeping.protect import local_claims
from clusters.sleeping.waiting import is_ready
from clusters.sleeping.world import World, instance_of, is_node_scaler, place_of
from core import clock
from core.providers import ProviderError
from policies.document import Exemptions, InvalidDocument
from policies.enforcing import gateway, planning, pools, services
from policies.enforcing.draining import counts, why_stays, workload_of
from policies.enforcing.enums import Engine, Kind
from policies.enforcing.models import Enforcement, NodeAction, WrittenObject
from policies.enforcing.planning import Purchase, Removal, Thought
from policies.enforcing.rules import policy_of, why_held, why_not
from policies.enums import Mode
from policies.models import PolicyAssignment
from policies.selectors import Applied

log = logging.getLogger(__name__)
HOURS_PER_MONTH = 730
MOST_SHOWN = 200
NOMINATED_FOR = timedelta(seconds=30)
KINDS = (
    "Node",
    "Pod",
    "ReplicaSet",
    "Job",
    "Deployment",
    "StatefulSet",
    "PodDisruptionBudget",
    "PersistentVolume",
    "PersistentVolumeClaim",
)
VOLUMES = ("PersistentVolume", "PersistentVolumeClaim")
DAEMONS = Resource("apps", "v1", "daemonsets")


@dataclass(slots=True)
class Look:
    """One look. `machines` maps nodes to instance ids, `groups` instance ids to the groups that hold them; `kept` says
    why nodes could not be ended, `pinned` are pods that must not be moved for what only the live objects tell."""

    facts: ClusterFacts
    machines: dict[str, str] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    not_ready: int = 0
    karpenter: bool = False
    scaler: str = ""


# reading


def facts_of(cluster: Cluster, objects: Mapping[str, Sequence[Object]], now: datetime) -> ClusterFacts:
    """Live objects as the analysis takes them, with the prices of the price book."""
    tables = tables_of(objects)
    quotes = Quotes(now)
    nodes = tables.get("nodes") or {}
    prices = {name: quotes.of(row, cloud=cluster.cloud, region=cluster.region) for name, row in nodes.items()}
    known = ClusterNode.objects.for_org(cluster.organization_id).filter(cluster=cluster, gone_at=None)
    for node in known.filter(name__in=[n for n, quote in prices.items() if quote.hourly is None]):
        prices[node.name] = Quote(node.hourly_price, node.price_source, node.price_date)
    return cluster_facts(tables, {}, prices)


def read_live(cluster: Cluster, kube: KubeApi, groups: NodeGroups | None) -> Look:
    """Everything that a removal is judged by, as it is now. Raises ProviderError."""
    objects = {RESOURCES[kind].plural: kube.list(RESOURCES[kind]) for kind in KINDS}
    objects[DAEMONS.plural] = kube.list(DAEMONS)
    now = clock.now()
    look = Look(facts_of(cluster, objects, now))
    look.not_ready = sum(1 for n in objects["nodes"] if not is_ready(n))
    look.machines = {place_of(n)[1]: instance_of(n) for n in objects["nodes"]}
    if groups is not None:
        for group in groups.list(set(look.machines.values()) - {""}):
            look.groups.update({machine.id: group for machine in group.machines})
    look.karpenter = bool(kube.list(resource_of("NodePool")))
    running = [d for d in objects["deployments"] if is_node_scaler(d) and spec_of(d).get("replicas", 1)]
    look.scaler = "/".join(place_of(running[0])) if running else ""
    _keep_without_spare(look)
    local = local_claims(World({kind: objects[RESOURCES[kind].plural] for kind in VOLUMES}))
    look.pinned = {"/".join(place_of(p)) for p in objects["pods"] if counts(p) and why_stays(p, Exemptions(), local)}
    return look


def _keep_without_spare(look: Look) -> None:
    """Nodes that could not be ended: in no group, guarded, or in a group at its minimum."""
    leaving: Counter[str] = Counter()
    for name, machine in sorted(look.machines.items()):
        group = look.groups.get(machine)
        if group is None:
            look.kept[name] = "its machine is in no group that Curfew knows"
        elif any(m.id == machine and m.guarded for m in group.machines):
            look.kept[name] = f"it is protected from scale-in in {group.name}"
        elif group.sizes.desired - leaving[group.name] <= group.sizes.low:
            look.kept[name] = f"{group.name} is at its minimum of {group.sizes.low}"


def read_stored(cluster: Cluster) -> Look | None:
    """The cluster's last report; None when it has none."""
    if cluster.reported_at is None:
        return None
    tables = reports.load(cluster)
    usage = tables.pop(reports.USAGE, {})
    nodes = ClusterNode.objects.for_org(cluster.organization_id).filter(cluster=cluster, gone_at=None)
    quotes = {node.name: Quote(node.hourly_price, node.price_source, node.price_date) for node in nodes}
    look = Look(cluster_facts(tables, usage, quotes), karpenter=bool(tables.get("node_pools")))
    look.not_ready = sum(1 for node in nodes if not node.ready)
    return look


def guarded(
    facts: ClusterFacts, exemptions: Exemptions, kept: Collection[str] = (), pinned: Collection[str] = ()
) -> ClusterFacts:
    """The facts with everything that is exempt or pinned, and nodes that must stay, marked as not to be disrupted."""

    def judged(pod: Pod) -> Pod:
        if pod.daemonset or pod.mirror or pod.do_not_disrupt or pod.node is None:
            return pod
        return replace(pod, do_not_disrupt=True) if pod.key in pinned or why_exempt(pod, exemptions) else pod

    return replace(
        facts,
        pods=tuple(judged(pod) for pod in facts.pods),
        nodes=tuple(replace(n, do_not_disrupt=True) if n.name in kept else n for n in facts.nodes),
    )


def why_exempt(pod: Pod, exemptions: Exemptions) -> str:
    """Why no policy touches the pod, "" when one may."""
    name = pod.workload.rpartition("/")[2] or workload_of(pod.name)
    return exemptions.reason(pod.namespace, pod.labels, name)


# what would be taken away


def think(cluster: Cluster, policy: Applied, look: Look, memory: Mapping[str, Any]) -> Thought:
    """What the engine makes of a look."""
    facts = guarded(look.facts, policy.document.exemptions, look.kept, look.pinned)
    thought = planning.planner().removals(
        facts,
        policy,
        region=cluster.region,
        zone=policy.document.consolidation.zone or cluster.organization.timezone,
        memory=memory,
        now=clock.now(),
        leaving=sum(1 for node in facts.nodes if node.unschedulable),
        not_ready=look.not_ready,
    )
    staying = _named(look, policy.document.exemptions, thought.staying)
    return replace(thought, staying={**staying, **{n: w for n, w in look.kept.items() if n in staying}})


def _named(look: Look, exemptions: Exemptions, staying: Mapping[str, str]) -> dict[str, str]:
    """The engine's reasons, with why a pod is exempt where the engine only knows that it must not be disturbed."""
    placed, marked = look.facts.pods_by_node(), StuckReason.DO_NOT_DISRUPT.words
    found = dict(staying)
    for name, words in staying.items():
        for pod in placed.get(name, ()):
            if f"{pod.key}: {marked}" in words and (why := why_exempt(pod, exemptions)):
                found[name] = found[name].replace(f"{pod.key}: {marked}", f"{pod.key}: {why}")
    return found


def why_changed(cluster: Cluster, policy: Applied, kube: KubeApi, action: NodeAction) -> str:
    """The second look before an action: why it is not to be done after all, "" when it is."""
    row = services.enforcement_of(cluster)
    look = read_live(cluster, kube, gateway.open_groups(cluster))
    if look.karpenter:
        return "Karpenter makes this cluster's nodes now."
    if look.scaler:
        return f"{look.scaler} runs and would fight every change."
    thought = think(cluster, policy, look, row.memory)
    again = next((r for r in thought.removals if r.nodes == tuple(action.nodes)), None)
    if again is None:
        first = action.nodes[0]
        return f"A second look would not take {first} away: {thought.staying.get(first, 'the plan has changed')}."
    return again.holds


def plan_cluster(*, cluster_id: UUID) -> str:
    """One look at a cluster under a policy: keep what would be done, and where it enforces, begin it. In words."""
    cluster = Cluster.objects.all_orgs().select_related("account", "organization").filter(id=cluster_id).first()
    if cluster is None:
        return "gone"
    try:
        policy = policy_of(cluster)
    except InvalidDocument as bad:
        services.note(cluster, problem=f"The policy cannot be read, so nothing is done: {bad}"[:500])
        return "unreadable"
    if (why := pools.to_give_back(cluster, policy)) and not why_held(cluster):
        pools.request(cluster, why)
    if policy is None or policy.mode is Mode.OFF:
        services.note(cluster, plan=[], staying=[], holds="", problem="", unmanaged={}, planned_at=clock.now())
        return "off"
    try:
        return _plan(cluster, policy)
    except ProviderError as failure:
        services.note(cluster, problem=f"{failure.message} {failure.detail}".strip()[:500])
        return "failed"


def _plan(cluster: Cluster, policy: Applied) -> str:
    held = why_held(cluster)
    live = not held and policy.mode is Mode.ENFORCE
    look: Look | None
    if live:
        with gateway.open_kube(cluster) as kube:
            look = read_live(cluster, kube, gateway.open_groups(cluster))
            if look.karpenter and (why := pools.differs(cluster, policy, kube)):
                pools.request(cluster, why)
    else:
        look = read_stored(cluster)
    if look is None:
        services.note(cluster, holds=held[:300], problem="It has not reported yet.", plan=[], staying=[])
        return "no report"
    row = services.enforcement_of(cluster)
    engine = Engine.KARPENTER if look.karpenter else Engine.DIRECT if gateway.reaches(cluster) else Engine.NONE
    if not held and look.scaler:
        held = f"{look.scaler} runs in {cluster.name} and would fight every change: scale it to zero to let Curfew act."
    thought = Thought()
    if policy.document.consolidation.enabled:
        thought = think(cluster, policy, look, row.memory)
    services.note(
        cluster,
        engine=engine,
        preview=_preview(cluster, policy, look, held),
        holds=held[:300],
        problem="",
        memory=dict(thought.memory) or row.memory,
        plan=[_shown(r) for r in thought.removals[:MOST_SHOWN]],
        staying=_staying(thought),
        unmanaged=unmanaged(cluster, policy.document.exemptions),
        budget=thought.budget[:300],
        planned_at=clock.now(),
    )
    if not live or held or engine is not Engine.DIRECT:
        return "planned"
    return "begun" if _begin(cluster, policy, look, thought.removals) else "planned"


def _preview(cluster: Cluster, policy: Applied, look: Look, held: str) -> list[dict[str, Any]]:
    """Where a policy recommends: what it would write for Karpenter, asked of the API server as a dry run."""
    if held or policy.mode is not Mode.RECOMMEND or not look.karpenter or not gateway.reaches(cluster):
        return []
    with gateway.open_kube(cluster) as kube:
        return pools.preview(cluster, policy, kube)


def _begin(cluster: Cluster, policy: Applied, look: Look, removals: Sequence[Removal]) -> NodeAction | None:
    """The first removal that may begin now; one at a time."""
    for removal in removals:
        if removal.holds or not _spare(look, removal):
            continue
        launch: dict[str, Any] = {"receivers": list(removal.receivers)}
        if removal.instead is not None:
            names = sorted(
                {look.groups[look.machines[n]].asg for n in removal.nodes if look.machines[n] in look.groups}
            )
            launch |= {**launch_of(removal.instead, policy, names), "opens_after": removal.opens_after}
        return services.begin(
            cluster=cluster,
            policy=policy,
            kind=Kind.REMOVE,
            reason=removal.words,
            nodes=removal.nodes,
            machines={n: look.machines.get(n, "") for n in removal.nodes},
            moves=removal.moves,
            launch=launch,
            expected_hourly=removal.savings_hourly,
        )
    return None


def _spare(look: Look, removal: Removal) -> bool:
    """Whether every group may lose so many."""
    wanted = Counter(look.groups[look.machines[n]].name for n in removal.nodes if look.machines[n] in look.groups)
    sizes = {group.name: group.sizes for group in look.groups.values()}
    return all(sizes[name].desired - count >= sizes[name].low for name, count in wanted.items())


def launch_of(purchase: Purchase, policy: Applied, groups: Sequence[str]) -> dict[str, Any]:
    """A purchase as an action holds it."""
    return {
        "pools": [pool.key for pool in purchase.pools],
        "prices": {key: str(price) for key, price in purchase.prices.items()},
        "groups": list(groups),
        "cheapest": policy.document.autoscaling.strategy == "lowest_price",
    }


def _shown(removal: Removal) -> dict[str, Any]:
    """A removal as the page shows it: a forecast, in dollars an hour and a month of 730 hours."""
    monthly = removal.savings_hourly * HOURS_PER_MONTH
    instead = removal.instead.pools[0] if removal.instead and removal.instead.pools else None
    return {
        "nodes": list(removal.nodes),
        "pods": len(removal.moves),
        "instead": instead.instance_type if instead else "",
        "lifecycle": instead.lifecycle if instead else "",
        "hourly": f"{removal.savings_hourly:.8f}",
        "monthly": f"{monthly:.2f}",
        "words": removal.words,
        "holds": removal.holds,
    }


def _staying(thought: Thought) -> list[dict[str, str]]:
    """Why nodes stay that the plan does not take away, by name."""
    going = {name for removal in thought.removals for name in removal.nodes}
    return [{"node": n, "why": why} for n, why in sorted(thought.staying.items()) if n not in going][:MOST_SHOWN]


def unmanaged(cluster: Cluster, exemptions: Exemptions) -> dict[str, Any]:
    """Workloads that no policy touches: counted in what is spent, with nothing to be saved."""
    summary = Summary.objects.for_org(cluster.organization_id).filter(cluster=cluster).first()
    known_labels = _labels(cluster)
    rows = []
    for row in summary.workloads if summary else ():
        kind, space, name = str(row["kind"]), str(row["namespace"]), str(row["name"])
        why = exemptions.reason(space, known_labels.get((kind, space, name)), name)
        if why:
            rows.append({k: row.get(k) for k in ("namespace", "kind", "name", "pods", "hourly")} | {"why": why})
    known = [Decimal(row["hourly"]) for row in rows if row["hourly"] is not None]
    total = sum(known, Decimal(0))
    return {
        "workloads": rows[:MOST_SHOWN],
        "count": len(rows),
        "hourly": f"{total:.8f}",
        "monthly": f"{total * HOURS_PER_MONTH:.2f}",
        "unpriced": len(rows) - len(known),
        "savings_monthly": "0.00",
    }


def _labels(cluster: Cluster) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The labels of each workload of the last report and of its pods, by kind, namespace and name."""
    tables = reports.load(cluster, ("workloads", "specs"))
    specs = tables.get("specs") or {}
    return {
        (str(one.get("kind", "")), str(one.get("namespace", "")), str(one.get("name", ""))): {
            **(one.get("labels") or {}),
            **((specs.get(str(one.get("template", ""))) or {}).get("labels") or {}),
        }
        for one in (tables.get("workloads") or {}).values()
    }


# pods that wait


def unschedulable(pod: Object) -> bool:
    """Whether the scheduler has found no node for it, and it still waits."""
    if (pod.get("metadata") or {}).get("deletionTimestamp") or spec_of(pod).get("nodeName"):
        return False
    return any(
        c.get("type") == "PodScheduled" and c.get("status") == "False" and c.get("reason") == "Unschedulable"
        for c in (pod.get("status") or {}).get("conditions") or ()
    )


def anything_waits(kube: KubeApi) -> bool:
    """Whether a pod has found no node."""
    return any(unschedulable(pod) for pod in kube.list(resource_of("Pod"), fields="spec.nodeName="))


def react(*, cluster_id: UUID, kube: KubeApi | None = None) -> list[NodeAction]:
    """Look for pods that wait for a node, and order what they need, one action a node. [] when nothing may be done."""
    cluster = Cluster.objects.all_orgs().select_related("account", "organization").filter(id=cluster_id).first()
    if cluster is None:
        return []
    try:
        policy = policy_of(cluster)
        if policy is None or not policy.document.autoscaling.enabled or why_not(cluster, policy, Kind.LAUNCH):
            return []
        if kube is not None:
            return _react(cluster, policy, kube)
        with gateway.open_kube(cluster) as opened:
            return _react(cluster, policy, opened)
    except InvalidDocument as bad:
        services.note(cluster, problem=f"The policy cannot be read, so nothing is done: {bad}"[:500])
    except ProviderError as failure:
        services.note(cluster, problem=f"{failure.message} {failure.detail}".strip()[:500])
    return []


def _react(cluster: Cluster, policy: Applied, kube: KubeApi) -> list[NodeAction]:
    now = clock.now()
    nominated = _nominated(cluster, now)
    waiting = [p for p in kube.list(resource_of("Pod"), fields="spec.nodeName=") if unschedulable(p)]
    waiting = [p for p in waiting if "/".join(place_of(p)) not in nominated]
    if not waiting or _opens_soon(cluster):
        return []
    nodes = kube.list(resource_of("Node"))
    if kube.list(resource_of("NodePool")):
        services.note(cluster, engine=Engine.KARPENTER)
        return []
    scalers = [d for d in kube.list(resource_of("Deployment")) if is_node_scaler(d) and spec_of(d).get("replicas", 1)]
    if scalers:
        services.note(cluster, holds=f"{'/'.join(place_of(scalers[0]))} runs and adds nodes itself."[:300])
        return []
    objects = {"nodes": nodes, "pods": [*waiting, *_neighbours(kube, nodes, waiting)]}
    if any(spec_of(p).get("volumes") for p in waiting):
        for kind in VOLUMES:
            objects[RESOURCES[kind].plural] = kube.list(RESOURCES[kind])
    facts = facts_of(cluster, objects, now)
    full = replace(facts, nodes=tuple(replace(n, unschedulable=True) for n in facts.nodes))
    refused = services.refused_pools(cluster, now)
    found, nothing = planning.planner().purchases(full, policy, region=cluster.region, refused=refused.keys(), now=now)
    groups = _groups_that_grow(cluster, [instance_of(n) for n in nodes]) if found else []
    begun = []
    for purchase in found:
        action = services.begin(
            cluster=cluster,
            policy=policy,
            kind=Kind.LAUNCH,
            reason=purchase.words or f"{len(purchase.pods)} pods wait for a node",
            pods=purchase.pods,
            launch=launch_of(purchase, policy, groups),
            expected_hourly=None if purchase.hourly is None else -purchase.hourly,
        )
        if action is not None:
            begun.append(action)
    if nothing:
        pod, words = next(iter(nothing.items()))
        more = f" {len(nothing) - 1} more wait." if len(nothing) > 1 else ""
        services.note(cluster, problem=f"{pod} waits: {words}.{more}"[:500])
    services.note(cluster, looked_at=now)
    return begun


def _nominated(cluster: Cluster, now: datetime) -> set[str]:
    """Pods for which a node is on its way, or has just come."""
    rows = NodeAction.objects.for_org(cluster.organization_id).filter(cluster=cluster, kind=Kind.LAUNCH)
    fresh = [*rows.filter(ended_at=None), *rows.filter(outcome="done", ended_at__gt=now - NOMINATED_FOR)]
    return {pod for action in fresh for pod in action.pods}


def _opens_soon(cluster: Cluster) -> bool:
    """Whether a removal keeps the node that it bought closed: it opens within seconds because a pod waits."""
    rows = NodeAction.objects.for_org(cluster.organization_id).filter(cluster=cluster, kind=Kind.REMOVE, ended_at=None)
    return any(set(action.cordoned) - set(action.nodes) for action in rows)


def _neighbours(kube: KubeApi, nodes: Sequence[Object], waiting: Sequence[Object]) -> list[Object]:
    """Running pods that matter for new nodes: daemons, seen on two ready nodes; all of them when pods look at others."""
    looks = any(
        spec_of(p).get("topologySpreadConstraints")
        or (spec_of(p).get("affinity") or {}).keys() & {"podAffinity", "podAntiAffinity"}
        for p in waiting
    )
    if looks:
        return [p for p in kube.list(resource_of("Pod")) if spec_of(p).get("nodeName")]
    ready = [place_of(n)[1] for n in nodes if is_ready(n)][:2]
    return [p for name in ready for p in kube.list(resource_of("Pod"), fields=f"spec.nodeName={name}")]


def _groups_that_grow(cluster: Cluster, machines: Sequence[str]) -> list[str]:
    """Names of the Auto Scaling groups of the cluster that a machine may join."""
    provider = gateway.open_groups(cluster)
    if provider is None:
        return []
    found = provider.list({m for m in machines if m})
    return [g.asg for g in found if g.kind is GroupKind.ASG and g.asg and g.sizes.desired < g.sizes.high]


# sweeps


def due_for_plan(every: timedelta, when_recommending: timedelta) -> list[UUID]:
    """Clusters under a policy that were not planned for that long; those that it only recommends to, less often."""
    now = clock.now()
    planned = Enforcement.objects.all_orgs().filter(planned_at__gt=now - when_recommending)
    known = dict(planned.values_list("cluster_id", "planned_at"))
    acting = PolicyAssignment.objects.all_orgs().filter(mode=Mode.ENFORCE, cluster_id__in=list(known))
    enforced = set(acting.values_list("cluster_id", flat=True))
    return _bound({c for c, at in known.items() if c not in enforced or (at is not None and at > now - every)})


def _bound(fresh: Collection[UUID]) -> list[UUID]:
    """Clusters under a policy that is on, and those with something to give back."""
    rows = PolicyAssignment.objects.all_orgs().exclude(mode=Mode.OFF).values_list("cluster_id", flat=True)
    written = WrittenObject.objects.all_orgs().filter(restored_at=None).values_list("cluster_id", flat=True)
    return [one for one in dict.fromkeys([*rows, *written]) if one not in set(fresh)][:500]
