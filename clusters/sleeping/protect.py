"""What must not sleep, and why: critical namespaces, the system, webhook backends, budgets, local volumes, people's marks.

Pure. A pod of something that stays keeps its node; pods of DaemonSets and mirror pods go with their nodes, unless they
are marked do-not-disrupt. When in doubt, it stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clusters.sleeping.kinds import KEEP, WORKLOAD_KINDS, Object, annotations_of, labels_of, spec_of
from clusters.sleeping.world import (
    AGENT_APPS,
    COMES_BACK,
    PLATFORM_APPS,
    PLATFORM_NAMESPACES,
    SYSTEM_NAMESPACES,
    Key,
    Reason,
    Scope,
    Why,
    World,
    app_of,
    controller_of,
    matches,
    place_of,
)

MARKS = {
    "karpenter.sh/do-not-disrupt": "true",
    "karpenter.sh/do-not-evict": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}
NODE_MARKS = {
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/scale-down-disabled": "true",
}
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
OVER = ("Succeeded", "Failed")
_HOSTNAME = "kubernetes.io/hostname"


@dataclass(slots=True)
class Protection:
    """Reasons by workload, by node and by group key, and whose pods are where.

    `owners` maps a pod (namespace, name) to its top controller. A workload without a reason may sleep.
    """

    workloads: dict[Key, Reason] = field(default_factory=dict)
    namespaces: dict[str, Reason] = field(default_factory=dict)
    nodes: dict[str, Reason] = field(default_factory=dict)
    owners: dict[tuple[str, str], Key | None] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)


def marked(obj: Object, marks: Mapping[str, str] = MARKS) -> str:
    """The mark on an object that forbids disrupting it, "" when there is none."""
    held = annotations_of(obj)
    return next((key for key, value in marks.items() if str(held.get(key, "")).lower() == value), "")


def template_of(obj: Object) -> Object:
    found = spec_of(obj).get("template")
    return found if isinstance(found, dict) else {}


def protect(world: World, scope: Scope) -> Protection:
    """Judge every namespace, workload and pod."""
    found = Protection()
    found.pods = [p for p in world.of("Pod") if str((p.get("status") or {}).get("phase")) not in OVER]
    _own(world, found)
    _namespaces(world, scope, found)
    backends = _webhook_backends(world)
    local = _local_claims(world)
    by_owner: dict[Key, list[Object]] = defaultdict(list)
    for pod in found.pods:
        owner = found.owners[place_of(pod)]
        if owner is not None:
            by_owner[owner].append(pod)
    budgets = list(world.of("PodDisruptionBudget"))
    for kind in WORKLOAD_KINDS:
        for obj in world.of(kind):
            key = (kind, *place_of(obj))
            reason = _judge(obj, by_owner[key], found, scope, backends, local, budgets)
            if reason is not None:
                found.workloads[key] = reason
    _nodes(world, scope, found, local)
    return found


def _own(world: World, found: Protection) -> None:
    """Find each pod's top controller: through ReplicaSets and Jobs to what made them."""
    above: dict[Key, tuple[str, str] | None] = {}
    for kind in ("ReplicaSet", "Job"):
        for obj in world.of(kind):
            above[(kind, *place_of(obj))] = controller_of(obj)
    for pod in found.pods:
        namespace, name = place_of(pod)
        owner = controller_of(pod)
        if owner is None:
            found.owners[namespace, name] = None
            continue
        higher = above.get((owner[0], namespace, owner[1]))
        kind, title = higher if higher is not None and owner[0] == "ReplicaSet" else owner
        found.owners[namespace, name] = (kind, namespace, title)


def _namespaces(world: World, scope: Scope, found: Protection) -> None:
    names = {place_of(obj)[0] for obj in found.pods} | {place_of(n)[1] for n in world.of("Namespace")}
    labels = {place_of(n)[1]: n for n in world.of("Namespace")}
    for name in names | scope.critical:
        held = labels.get(name, {})
        if name in scope.critical:
            found.namespaces[name] = Reason(Why.CRITICAL, f"{name} is on your list of critical namespaces")
        elif name in SYSTEM_NAMESPACES:
            found.namespaces[name] = Reason(Why.SYSTEM, f"{name} belongs to Kubernetes")
        elif name and name == scope.agent_namespace:
            found.namespaces[name] = Reason(Why.AGENT, "Curfew's own agent runs there")
        elif name in PLATFORM_NAMESPACES:
            found.namespaces[name] = Reason(Why.PLATFORM, f"{name} holds the cluster together")
        elif KEEP in annotations_of(held) or KEEP in labels_of(held):
            found.namespaces[name] = Reason(Why.EXCLUDED, f"the namespace {name} is marked {KEEP}")
        elif mark := scope.keeps(labels_of(held)):
            found.namespaces[name] = Reason(Why.EXCLUDED, f"the namespace {name} carries {mark}")


def _judge(
    obj: Object,
    pods: list[Object],
    found: Protection,
    scope: Scope,
    backends: list[Backend],
    local: Mapping[tuple[str, str], str],
    budgets: list[Object],
) -> Reason | None:
    namespace, _ = place_of(obj)
    if namespace in found.namespaces:
        return found.namespaces[namespace]
    template = template_of(obj)
    labels = {**labels_of(template), **labels_of(obj)}
    apps = app_of(labels)
    if apps & AGENT_APPS:
        return Reason(Why.AGENT, "it is Curfew's own agent")
    if apps & PLATFORM_APPS:
        return Reason(Why.PLATFORM, "it holds the cluster together")
    if str({**annotations_of(obj), **labels_of(obj)}.get(KEEP, "false")).lower() not in ("false", "0", "no"):
        return Reason(Why.EXCLUDED, f"it is marked {KEEP}")
    if mark := scope.keeps({**annotations_of(obj), **labels}):
        return Reason(Why.EXCLUDED, f"it carries {mark}")
    return _judge_pods(obj, pods, backends, local, budgets)


def _judge_pods(
    obj: Object,
    pods: list[Object],
    backends: list[Backend],
    local: Mapping[tuple[str, str], str],
    budgets: list[Object],
) -> Reason | None:
    """What its pods, those that run and those that it would make, do not allow."""
    namespace, _ = place_of(obj)
    template = template_of(obj)
    for one in backends:
        if one.namespace == namespace and any(_selected(one.selector, labels_of(x)) for x in (template, *pods)):
            words = f"the webhook {one.title} refuses changes while it is down"
            return Reason(Why.DEADLOCK if one.blocks_itself else Why.WEBHOOK, words)
    if mark := next((m for m in map(marked, (obj, template, *pods)) if m), ""):
        return Reason(Why.DO_NOT_DISRUPT, f"it is marked {mark}")
    for pod in (template, *pods):
        if volume := _local_volume({**pod, "metadata": {**(pod.get("metadata") or {}), "namespace": namespace}}, local):
            return Reason(Why.LOCAL_VOLUME, f"its volume {volume} is on a node's own disk")
    for pod in (template, *pods):
        if budget := _blocking(budgets, namespace, labels_of(pod), pods):
            return Reason(Why.BUDGET, f"the budget {budget} never allows a disruption")
    return None


def _selected(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


@dataclass(frozen=True, slots=True)
class Backend:
    """Pods that a webhook with failurePolicy Fail needs; `blocks_itself`: without them it refuses these very pods."""

    namespace: str
    selector: Mapping[str, str]
    title: str
    blocks_itself: bool


def _webhook_backends(world: World) -> list[Backend]:
    labels = {place_of(n)[1]: labels_of(n) for n in world.of("Namespace")}
    services = {place_of(s): spec_of(s).get("selector") or {} for s in world.of("Service")}
    found = []
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        for config in world.of(kind):
            for hook in config.get("webhooks") or ():
                service = (hook.get("clientConfig") or {}).get("service")
                if hook.get("failurePolicy", "Fail") == "Fail" and isinstance(service, dict):
                    place = (str(service.get("namespace")), str(service.get("name")))
                    title = str(hook.get("name") or place_of(config)[1])
                    own = _takes_pods_of(hook, labels.get(place[0], {}))
                    found.append(Backend(place[0], services.get(place, {}), title, own))
    return found


def _takes_pods_of(hook: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a webhook is asked about new pods in a namespace with these labels."""
    selector = hook.get("namespaceSelector")
    if selector and not matches(selector, labels):
        return False
    for rule in hook.get("rules") or ():
        kinds, verbs = rule.get("resources") or (), rule.get("operations") or ()
        if {"pods", "*", "*/*"} & set(kinds) and {"CREATE", "*"} & set(verbs):
            return True
    return False


def _local_claims(world: World) -> dict[tuple[str, str], str]:
    """Claims that are bound to a volume on a node's own disk."""
    volumes = {
        place_of(v)[1] for v in world.of("PersistentVolume") if "local" in spec_of(v) or "hostPath" in spec_of(v)
    }
    return {
        place_of(claim): place_of(claim)[1]
        for claim in world.of("PersistentVolumeClaim")
        if str(spec_of(claim).get("volumeName") or "") in volumes
    }


def _local_volume(pod: Object, local: Mapping[tuple[str, str], str]) -> str:
    """The name of a volume of a pod (or template) that lives on its node, "" when there is none."""
    namespace, _ = place_of(pod)
    for volume in spec_of(pod).get("volumes") or ():
        claim = str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")
        if "hostPath" in volume or (namespace, claim) in local:
            return str(volume.get("name") or claim)
    return ""


def _blocking(budgets: Iterable[Object], namespace: str, labels: Mapping[str, str], pods: list[Object]) -> str:
    """The name of a budget over these labels that can never allow a disruption."""
    for budget in budgets:
        place, name = place_of(budget)
        spec = spec_of(budget)
        if place == namespace and matches(spec.get("selector"), labels) and never(budget, len(pods)):
            return name
    return ""


def never(budget: Object, pods: int) -> bool:
    """Whether a budget can never allow a disruption, whatever the health of the pods."""
    spec = spec_of(budget)
    most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
    if most is not None:
        return _amount(most) == 0
    if isinstance(least, str) and least.endswith("%"):
        return _amount(least) >= 100
    expected = (budget.get("status") or {}).get("expectedPods")
    count = expected if isinstance(expected, int) and expected > 0 else pods
    return least is not None and count > 0 and _amount(least) >= count


def _amount(value: Any) -> int:
    try:
        return int(str(value).removesuffix("%"))
    except ValueError:
        return 0


def _nodes(world: World, scope: Scope, found: Protection, local: Mapping[tuple[str, str], str]) -> None:
    """Nodes that stay for their own sake: marked, tagged, or with a bound volume on their disk."""
    for node in world.of("Node"):
        _, name = place_of(node)
        if any(role in labels_of(node) for role in CONTROL_PLANE):
            found.nodes[name] = Reason(Why.CONTROL_PLANE, "the control plane runs on it")
        elif mark := marked(node, NODE_MARKS):
            found.nodes[name] = Reason(Why.DO_NOT_DISRUPT, f"the node is marked {mark}")
        elif KEEP in annotations_of(node) or KEEP in labels_of(node):
            found.nodes[name] = Reason(Why.EXCLUDED, f"the node is marked {KEEP}")
        elif mark := scope.keeps(labels_of(node)):
            found.nodes[name] = Reason(Why.EXCLUDED, f"the node carries {mark}")
    hosts = {str(labels_of(n).get(_HOSTNAME) or place_of(n)[1]): place_of(n)[1] for n in world.of("Node")}
    for volume in world.of("PersistentVolume"):
        if "local" not in spec_of(volume) or str((volume.get("status") or {}).get("phase")) == "Available":
            continue
        for host in _hosts_of(volume):
            if host in hosts:
                words = f"the volume {place_of(volume)[1]} is on its disk"
                found.nodes.setdefault(hosts[host], Reason(Why.LOCAL_VOLUME, words))


def _hosts_of(volume: Object) -> Iterable[str]:
    terms = ((spec_of(volume).get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    for term in terms:
        for rule in term.get("matchExpressions") or ():
            if rule.get("key") == _HOSTNAME:
                yield from (str(v) for v in rule.get("values") or ())


def pod_reason(
    pod: Object, found: Protection, scope: Scope, going: Mapping[Key, object], local: Mapping[tuple[str, str], str]
) -> Reason | None:
    """Why a pod keeps its node; None when the node may go. `going` holds the workloads that sleep or are asleep."""
    namespace, name = place_of(pod)
    if mark := marked(pod):
        return Reason(Why.DO_NOT_DISRUPT, f"{namespace}/{name} is marked {mark}")
    owner = found.owners[namespace, name]
    if owner is not None and owner[0] in ("DaemonSet", "Node"):
        return None
    if "kubernetes.io/config.mirror" in annotations_of(pod) or (owner is not None and owner in going):
        return None
    reason = _owner_reason(pod, owner, found, local)
    if scope.to_zero and reason.why in COMES_BACK:
        return None
    return Reason(reason.why, f"{namespace}/{name} runs on it: {reason.words}")


def _owner_reason(pod: Object, owner: Key | None, found: Protection, local: Mapping[tuple[str, str], str]) -> Reason:
    namespace, _ = place_of(pod)
    if volume := _local_volume(pod, local):
        return Reason(Why.LOCAL_VOLUME, f"its volume {volume} is on the node's own disk")
    if namespace in found.namespaces:
        return found.namespaces[namespace]
    if owner is None:
        return Reason(Why.BARE_POD, "nothing would start it again")
    if owner in found.workloads:
        return found.workloads[owner]
    if owner[0] == "Job":
        return Reason(Why.JOB, "its job has not ended")
    return Reason(Why.CONTROLLER, f"its controller, a {owner[0]}, is not one that Curfew can put to sleep")


local_claims = _local_claims
