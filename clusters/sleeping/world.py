"""A cluster as planning sees it, and what its owner decided. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from clusters.providers.groups import Group, GroupKind, Sizes
from clusters.sleeping.kinds import Object, labels_of, spec_of

Key = tuple[str, str, str]  # kind, namespace, name
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
# Networks, certificates and node scalers live in namespaces of these names.
PLATFORM_NAMESPACES = frozenset(
    {
        "cert-manager",
        "calico-system",
        "calico-apiserver",
        "tigera-operator",
        "kube-flannel",
        "cilium",
        "cilium-system",
        "karpenter",
        "metallb-system",
    }
)
PLATFORM_APPS = frozenset({"coredns", "kube-dns", "cilium", "calico", "cert-manager", "karpenter"})
AGENT_APPS = frozenset({"curfew-agent", "curfew"})
NODE_SCALERS = frozenset({"cluster-autoscaler", "aws-cluster-autoscaler"})
APP_LABELS = ("app.kubernetes.io/name", "k8s-app", "app")
NODE_GROUP_LABEL = "eks.amazonaws.com/nodegroup"
NODE_POOL_LABEL = "karpenter.sh/nodepool"
FOREIGN_GROUPS = {
    "kubernetes.azure.com/agentpool": "the AKS agent pool",
    "agentpool": "the AKS agent pool",
    "cloud.google.com/gke-nodepool": "the GKE node pool",
}


class Why(StrEnum):
    """Reasons for which something stays."""

    SYSTEM = "system"
    CONTROL_PLANE = "control_plane"
    PLATFORM = "platform"
    AGENT = "agent"
    WEBHOOK = "webhook"
    DEADLOCK = "deadlock"
    CRITICAL = "critical"
    EXCLUDED = "excluded"
    BUDGET = "budget"
    DO_NOT_DISRUPT = "do_not_disrupt"
    LOCAL_VOLUME = "local_volume"
    BARE_POD = "bare_pod"
    JOB = "job"
    CONTROLLER = "controller"
    GROUP = "group"
    SCOPE = "scope"
    UNKNOWN = "unknown"


# What "everything, to zero nodes" lets go with its node, to come first on waking.
COMES_BACK = frozenset({Why.SYSTEM, Why.PLATFORM, Why.AGENT, Why.WEBHOOK})


@dataclass(frozen=True, slots=True)
class Scope:
    """What may sleep. `groups`: keys of the groups that sleep when the scope is selective, None: all of them.

    `keep`: tags or labels (value "" is any) that keep a group, a namespace, a node or a workload awake. `to_zero` lets
    system pods and the agent go with their nodes; only for clusters that are reached without the agent.
    """

    groups: frozenset[str] | None = None
    critical: frozenset[str] = frozenset()
    keep: tuple[tuple[str, str], ...] = ()
    to_zero: bool = False
    agent_namespace: str = ""

    def keeps(self, marks: Mapping[str, str]) -> str:
        """The tag or label that keeps it awake, "" when none does."""
        for key, value in self.keep:
            if key in marks and value in ("", marks[key]):
                return f"{key}={marks[key]}" if marks[key] else key
        return ""


@dataclass(slots=True)
class World:
    """Objects by kind name, as the API server lists them, and the cloud's groups of machines."""

    objects: Mapping[str, Sequence[Object]]
    groups: Sequence[Group] = ()

    def of(self, kind: str) -> Sequence[Object]:
        return self.objects.get(kind, ())


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something stays, for programs and for people."""

    why: Why
    words: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that stays awake: `what` is "Deployment/shop/web", "node/ip-10-0-1-7" or "group/asg:workers"."""

    what: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Step:
    """One object that sleeps; the fields are read again when it does."""

    phase: str
    kind: str
    namespace: str
    name: str
    obj: Object = field(compare=False, repr=False)
    wave: int = 0

    @property
    def key(self) -> Key:
        return self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class GroupStep:
    """One group of machines that shrinks from `before` to `after`; `guard` are machines that must be the ones to stay."""

    key: str
    kind: GroupKind
    name: str
    before: Sizes
    after: Sizes
    guard: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimStep:
    """A Karpenter NodeClaim that is deleted: its node is drained by Karpenter, under the budgets, and ended."""

    name: str
    uid: str
    pool: str
    node: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What sleeps, what stays and why. Nodes are named; `staying` maps a node to its first reason."""

    steps: tuple[Step, ...] = ()
    groups: tuple[GroupStep, ...] = ()
    claims: tuple[ClaimStep, ...] = ()
    kept: tuple[Kept, ...] = ()
    leaving: frozenset[str] = frozenset()
    staying: Mapping[str, Reason] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def group_key(kind: str, name: str) -> str:
    return f"{kind}:{name}"


def place_of(obj: Object) -> tuple[str, str]:
    """Namespace and name."""
    metadata = obj.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def uid_of(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("uid") or "")


def app_of(labels: Mapping[str, str]) -> set[str]:
    """The names that an object's labels give its application."""
    return {labels[key] for key in APP_LABELS if key in labels}


def instance_of(node: Object) -> str:
    """The cloud's id of a node's machine, "" when its provider id names none."""
    return str((node.get("spec") or {}).get("providerID") or "").rpartition("/")[2]


def foreign_group(node: Object) -> str:
    """`the AKS agent pool NAME` or `the GKE node pool NAME`: groups whose size Curfew does not change; "" for others."""
    labels = labels_of(node)
    for label, words in FOREIGN_GROUPS.items():
        if labels.get(label):
            return f"{words} {labels[label]}"
    return ""


def unslept(node: Object) -> str:
    """Why a node of no group that sleeps goes on running."""
    if group := foreign_group(node):
        return (
            f"it belongs to {group}: Curfew changes the size of Auto Scaling groups, EKS node groups and Karpenter's "
            "pools only, so it runs on and costs money"
        )
    if str(spec_of(node).get("providerID") or "").startswith("aws:"):
        return "no Auto Scaling group or EKS node group of an AWS account that is connected for this cluster holds it"
    return "Curfew does not know what keeps this node at its size"


def is_node_scaler(obj: Object) -> bool:
    """Whether a Deployment is the Cluster Autoscaler."""
    _, name = place_of(obj)
    return bool(app_of(labels_of(obj)) & NODE_SCALERS) or "cluster-autoscaler" in name


def controller_of(obj: Object) -> tuple[str, str] | None:
    """Kind and name of the controller that owns an object."""
    for owner in (obj.get("metadata") or {}).get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner.get("kind")), str(owner.get("name"))
    return None


def matches(selector: Any, labels: Mapping[str, str]) -> bool:
    """A LabelSelector; None selects nothing, an empty one everything, an unknown operator everything (which protects)."""
    if not isinstance(selector, dict):
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or ():
        value, values = labels.get(str(rule.get("key"))), rule.get("values") or ()
        fits = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }.get(str(rule.get("operator")), True)
        if not fits:
            return False
    return True
