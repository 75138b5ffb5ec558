"""Closing a node, moving its pods off under the disruption budgets, and opening it again.

Every function looks first, so repeating it changes nothing. `fence` is called between the look and the change; it raises
when another worker holds the action now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from clusters.providers.kube import KubeApi, Refused
from clusters.sleeping.kinds import Object, annotations_of, labels_of, spec_of
from clusters.sleeping.objects import guarded
from clusters.sleeping.observe import resource_of
from clusters.sleeping.protect import MARKS, NODE_MARKS, OVER, local_claims, marked
from clusters.sleeping.world import World, controller_of, instance_of, place_of, uid_of
from policies.document import Exemptions
from policies.enforcing.enums import HOLD

MIRROR = "kubernetes.io/config.mirror"


class Closed(StrEnum):
    """What became of closing a node."""

    DONE = "done"
    GONE = "gone"
    FORBIDDEN = "forbidden"


@dataclass(slots=True)
class Left:
    """What is still on a node. `stop`: why it must not be emptied after all. `refused`: pods and the budgets' words."""

    waiting: list[str] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    stop: str = ""

    @property
    def empty(self) -> bool:
        return not self.stop and not self.waiting and not self.refused


@dataclass(frozen=True, slots=True)
class Drain:
    """The way to one cluster, what is exempt there, and the fence of one action."""

    kube: KubeApi
    exemptions: Exemptions
    fence: Callable[[], None]

    def close(self, name: str, action: str) -> tuple[Closed, str]:
        """Cordon a node, with the action's id in the same request; (what became of it, words)."""
        node = self.kube.get(resource_of("Node"), "", name)
        if node is None:
            return Closed.GONE, ""
        held = annotations_of(node).get(HOLD)
        if held == action and spec_of(node).get("unschedulable"):
            return Closed.DONE, ""
        if held and held != action:
            return Closed.FORBIDDEN, f"another action takes {name} away"
        if not held and spec_of(node).get("unschedulable"):
            return Closed.FORBIDDEN, f"somebody else has cordoned {name}"
        if mark := marked(node, NODE_MARKS):
            return Closed.FORBIDDEN, f"{name} is marked {mark}"
        new = {
            **node,
            "metadata": {**node["metadata"], "annotations": {**annotations_of(node), HOLD: action}},
            "spec": {**spec_of(node), "unschedulable": True},
        }
        self.fence()
        changed = self.kube.patch(resource_of("Node"), "", name, guarded(node, new))
        return (Closed.GONE, "") if changed is None else (Closed.DONE, "")

    def open(self, name: str, action: str) -> bool:
        """Take back what `close` did; False when there was nothing to take back (gone, or somebody else opened it)."""
        node = self.kube.get(resource_of("Node"), "", name)
        if node is None or annotations_of(node).get(HOLD) != action:
            return False
        notes = {k: v for k, v in annotations_of(node).items() if k != HOLD}
        metadata = {k: v for k, v in node["metadata"].items() if k != "annotations" or notes}
        new = {
            **node,
            "metadata": {**metadata, **({"annotations": notes} if notes else {})},
            "spec": {k: v for k, v in spec_of(node).items() if k != "unschedulable"},
        }
        self.fence()
        return self.kube.patch(resource_of("Node"), "", name, guarded(node, new)) is not None

    def is_here(self, name: str, machine: str) -> bool:
        """Whether the node is there and still this machine."""
        node = self.kube.get(resource_of("Node"), "", name)
        return node is not None and (not machine or instance_of(node) == machine)

    def step(
        self, name: str, order: Sequence[str] = (), most: int | None = None, only: Collection[str] | None = None
    ) -> Left:
        """Ask to evict what may be moved, in that order (`namespace/name`), at most so many; what is left afterwards. With
        `only`, nothing but these pods is moved and counted."""
        pods = [p for p in self.kube.list(resource_of("Pod"), fields=f"spec.nodeName={name}") if counts(p)]
        local = self._local() if any(spec_of(p).get("volumes") for p in pods) else {}
        left = Left()
        for pod in pods:
            if why := why_stays(pod, self.exemptions, local):
                left.stop = why
                return left
        ranks = {key: number for number, key in enumerate(order)}
        for pod in sorted(pods, key=lambda p: ranks.get("/".join(place_of(p)), len(ranks))):
            namespace, title = place_of(pod)
            key = f"{namespace}/{title}"
            if only is not None and key not in only:
                continue
            if (pod.get("metadata") or {}).get("deletionTimestamp") or (most is not None and most <= 0):
                left.waiting.append(key)
                continue
            self.fence()
            try:
                if self.kube.evict(namespace, title, uid=uid_of(pod)):
                    left.evicted.append(key)
                    left.waiting.append(key)
                    most = None if most is None else most - 1
            except Refused as budget:
                left.refused[key] = (budget.detail or budget.message)[:200]
        return left

    def _local(self) -> Mapping[tuple[str, str], str]:
        kinds = ("PersistentVolume", "PersistentVolumeClaim")
        return local_claims(World({kind: self.kube.list(resource_of(kind)) for kind in kinds}))


def counts(pod: Object) -> bool:
    """Whether a pod keeps a node from being empty: it has not ended, and does not simply go with its node."""
    if str((pod.get("status") or {}).get("phase")) in OVER or MIRROR in annotations_of(pod):
        return False
    owner = controller_of(pod)
    goes_along = owner is not None and owner[0] in ("DaemonSet", "Node")
    return not goes_along or bool(marked(pod, MARKS))


def why_stays(pod: Object, exemptions: Exemptions, local: Mapping[tuple[str, str], str]) -> str:
    """Why a pod must not be evicted, in words; "" when it may."""
    namespace, name = place_of(pod)
    title = f"{namespace}/{name}"
    if mark := marked(pod, MARKS):
        return f"{title} is marked {mark}"
    owner = controller_of(pod)
    if owner is None:
        return f"nothing would start {title} again"
    if why := exemptions.reason(namespace, labels_of(pod), workload_of(owner[1])):
        return f"{title} is exempt: {why}"
    for volume in spec_of(pod).get("volumes") or ():
        claim = str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")
        if "hostPath" in volume or (namespace, claim) in local:
            return f"{title} has the volume {volume.get('name') or claim} on the node's own disk"
    return ""


def workload_of(owner: str) -> str:
    """The Deployment behind a ReplicaSet's name, as far as the name tells."""
    head, _, tail = owner.rpartition("-")
    return head if head and tail.isalnum() and 6 <= len(tail) <= 10 and any(c.isdigit() for c in tail) else owner
