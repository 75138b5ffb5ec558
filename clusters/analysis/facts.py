"""The facts that every analysis works on: nodes, pods, workloads and disruption budgets, as frozen dataclasses.

They follow the Kubernetes objects, with quantities resolved to integers. A `Pod` is one running pod with the sums over
its containers. `None` always means "not known", an empty tuple "none".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

HOURS_PER_MONTH = 730
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ARCH = "kubernetes.io/arch"
GIB = 1024**3
MIB = 1024**2

_NO_LABELS: Mapping[str, str] = {}


class Lifecycle(StrEnum):
    """How a node is bought."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"
    RESERVED = "reserved"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of CPU (thousandths of a core), memory (bytes) and whole GPUs."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_milli + other.cpu_milli, self.memory_bytes + other.memory_bytes, self.gpus + other.gpus
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_milli - other.cpu_milli, self.memory_bytes - other.memory_bytes, self.gpus - other.gpus
        )

    def at_most(self, other: Resources) -> bool:
        """Whether every amount fits into the other's."""
        return self.cpu_milli <= other.cpu_milli and self.memory_bytes <= other.memory_bytes and self.gpus <= other.gpus

    def larger_of(self, other: Resources) -> Resources:
        """The larger amount of each."""
        return Resources(
            max(self.cpu_milli, other.cpu_milli), max(self.memory_bytes, other.memory_bytes), max(self.gpus, other.gpus)
        )


NOTHING = Resources()


def add_up(amounts: list[Resources]) -> Resources:
    """The sum; `NOTHING` of an empty list."""
    return Resources(
        sum(a.cpu_milli for a in amounts), sum(a.memory_bytes for a in amounts), sum(a.gpus for a in amounts)
    )


@dataclass(frozen=True, slots=True)
class Taint:
    """A node's taint. `effect` is NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True)
class Toleration:
    """A pod's toleration: an empty key with `Exists` tolerates all, an empty effect every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """As the scheduler decides it."""
        if self.effect and self.effect != taint.effect:
            return False
        if not self.key:
            return self.operator == "Exists"
        if self.key != taint.key:
            return False
        return self.operator == "Exists" or self.value == taint.value


@dataclass(frozen=True, slots=True)
class Requirement:
    """A condition on labels. `operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt, as in node affinity."""

    key: str
    operator: str = "In"
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels satisfy it; a label that is missing satisfies NotIn and DoesNotExist."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                return self._compares(value)
        return False

    def _compares(self, value: str | None) -> bool:
        try:
            have, wanted = int(value or ""), int(self.values[0])
        except (ValueError, IndexError):
            return False
        return have > wanted if self.operator == "Gt" else have < wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold. Without requirements it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.holds(labels) for requirement in self.requirements)

    @classmethod
    def of(cls, **labels: str) -> Selector:
        """Equal labels; an underscore in a name stays one."""
        return cls(tuple(Requirement(key, "In", (value,)) for key, value in sorted(labels.items())))


@dataclass(frozen=True, slots=True)
class PodTerm:
    """A required term of pod affinity or anti-affinity. No namespaces: the pod's own; `("*",)`: all of them."""

    selector: Selector
    topology_key: str = HOSTNAME
    namespaces: tuple[str, ...] = ()

    def selects(self, owner: Pod, other: Pod) -> bool:
        """Whether `other` is what the owner's term speaks of."""
        spaces = self.namespaces or (owner.namespace,)
        return ("*" in spaces or other.namespace in spaces) and self.selector.matches(other.labels)


@dataclass(frozen=True, slots=True)
class Spread:
    """A topology spread constraint. Only hard ones (DoNotSchedule) bind a re-packing."""

    selector: Selector
    topology_key: str = ZONE
    max_skew: int = 1
    hard: bool = True

    def selects(self, owner: Pod, other: Pod) -> bool:
        return owner.namespace == other.namespace and self.selector.matches(other.labels)


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `hourly_price` is None when nobody could say; `allocatable` is what pods may request."""

    name: str
    allocatable: Resources
    max_pods: int = 110
    instance_type: str = ""
    lifecycle: Lifecycle = Lifecycle.UNKNOWN
    zone: str = ""
    hourly_price: Decimal | None = None
    price_source: str = ""
    price_date: date | None = None
    capacity: Resources | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    taints: tuple[Taint, ...] = ()
    pool: str = ""
    do_not_disrupt: bool = False
    unschedulable: bool = False
    created_at: datetime | None = None

    def topology(self) -> dict[str, str]:
        """Its labels, with the well-known ones filled in from what is known."""
        return {HOSTNAME: self.name, **({ZONE: self.zone} if self.zone else {}), **self.labels}


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod with the sums over its containers. `node` is None while it is pending; `usage` is None when unknown.

    `zones` are the zones its volumes can be attached in (None: anywhere). `owner` is "" for a bare pod, which nothing
    would create again. `node_affinity` is a choice: one of its selectors must hold.
    """

    name: str
    namespace: str = "default"
    workload: str = ""
    node: str | None = None
    requests: Resources = NOTHING
    limits: Resources | None = None
    usage: Resources | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    tolerations: tuple[Toleration, ...] = ()
    node_selector: Selector = field(default_factory=Selector)
    node_affinity: tuple[Selector, ...] = ()
    pod_affinity: tuple[PodTerm, ...] = ()
    pod_anti_affinity: tuple[PodTerm, ...] = ()
    topology_spread: tuple[Spread, ...] = ()
    daemonset: bool = False
    mirror: bool = False
    local_volume: bool = False
    zones: frozenset[str] | None = None
    owner: str = "ReplicaSet"
    owner_replicas: int | None = None
    priority: int = 0
    do_not_disrupt: bool = False
    host_ports: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """`namespace/name`, unique within a cluster."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class DisruptionBudget:
    """A PodDisruptionBudget. `disruptions_allowed` is its status (None: not reported)."""

    name: str
    namespace: str
    selector: Selector
    min_available: str | None = None
    max_unavailable: str | None = None
    disruptions_allowed: int | None = None

    def selects(self, pod: Pod) -> bool:
        return pod.namespace == self.namespace and self.selector.matches(pod.labels)

    def allowed(self, running: int, expected: int | None = None) -> int:
        """How many pods may be evicted now: the status where it is known, else worked out as the controller does."""
        if self.disruptions_allowed is not None:
            return self.disruptions_allowed
        expected = running if expected is None else expected
        if self.min_available is not None:
            return max(0, running - _share(self.min_available, expected))
        if self.max_unavailable is not None:
            return max(0, _share(self.max_unavailable, expected) - max(0, expected - running))
        return running


@dataclass(frozen=True, slots=True)
class Workload:
    """A controller of pods. `kind` is the top-level kind: Deployment, StatefulSet, DaemonSet, Job, CronJob, Pod, ..."""

    namespace: str
    kind: str
    name: str
    replicas: int | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    persistent_volumes: bool = False
    grace_seconds: int | None = None
    restarts_on_failure: bool = True

    @property
    def key(self) -> str:
        """`namespace/Kind/name`; the same as `Pod.workload` of its pods."""
        return f"{self.namespace}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """One consistent look at a cluster."""

    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    budgets: tuple[DisruptionBudget, ...] = ()
    workloads: tuple[Workload, ...] = ()

    def pods_by_node(self) -> dict[str, list[Pod]]:
        """The pods of each node, also of nodes without any."""
        placed: dict[str, list[Pod]] = {node.name: [] for node in self.nodes}
        for pod in self.pods:
            if pod.node in placed:
                placed[pod.node].append(pod)
        return placed


def tolerates_all(tolerations: tuple[Toleration, ...], taints: tuple[Taint, ...]) -> bool:
    """Whether no taint keeps the pod away; PreferNoSchedule never does."""
    return all(
        taint.effect == "PreferNoSchedule" or any(toleration.tolerates(taint) for toleration in tolerations)
        for taint in taints
    )


def _share(value: str, of: int) -> int:
    """An absolute number, or a percentage rounded up, as Kubernetes rounds both fields."""
    if value.endswith("%"):
        return -(-int(value[:-1]) * of // 100)
    return int(value)
