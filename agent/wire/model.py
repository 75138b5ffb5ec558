"""The records of a snapshot, format 1. Field names are the names on the wire.

Units: `cpu` in millicores, `memory` and `ephemeral-storage` in bytes, everything else (pods, GPUs) in pieces; usage in
nanocores and bytes. An amount that is not known is absent; it is never zero and never guessed. Times are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

FORMAT = 1
Amounts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster itself. `uid` is that of the namespace kube-system: it lives as long as the cluster."""

    uid: str
    name: str = ""
    version: str = ""
    platform: str = ""
    distribution: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """How the last look at one kind of object went: `state` is ok, absent, forbidden, unauthorized or error."""

    state: str
    detail: str = ""
    since: datetime | None = None
    synced_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller of an object."""

    kind: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a node, pod or claim; without the heartbeat time, which changes all day."""

    type: str
    status: str
    reason: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `lifecycle` is spot, on-demand, reserved or unknown; `group_kind` eks, karpenter, gke, aks, kops or ""."""

    name: str
    uid: str = ""
    created_at: datetime | None = None
    deleting_at: datetime | None = None
    provider_id: str = ""
    instance_type: str = ""
    region: str = ""
    zone: str = ""
    lifecycle: str = "unknown"
    group_kind: str = ""
    group: str = ""
    ready: bool = False
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    capacity: Amounts = field(default_factory=dict)
    allocatable: Amounts = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    architecture: str = ""
    os: str = ""
    os_image: str = ""
    kernel: str = ""
    runtime: str = ""
    kubelet: str = ""


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """`kind` is app, init or sidecar (an init container that keeps running)."""

    name: str
    image: str = ""
    kind: str = "app"
    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What pods of one template share; stored once under its content hash.

    `requests` is what the scheduler reserves: apps and sidecars, init containers, overhead, pod-level resources.
    Affinities and spread constraints are kept as the API has them. `security` holds facts for benchmark checks.
    """

    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()
    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)
    qos: str = "BestEffort"
    node_selector: dict[str, str] = field(default_factory=dict)
    node_affinity: dict[str, Any] = field(default_factory=dict)
    pod_affinity: dict[str, Any] = field(default_factory=dict)
    pod_anti_affinity: dict[str, Any] = field(default_factory=dict)
    spread: tuple[Any, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    host_ports: tuple[int, ...] = ()
    claims: tuple[str, ...] = ()
    volume_kinds: tuple[str, ...] = ()
    security: tuple[str, ...] = ()
    priority: int = 0
    priority_class: str = ""
    runtime_class: str = ""
    service_account: str = ""
    scheduler: str = ""
    restart_policy: str = "Always"
    grace_seconds: int = 30


@dataclass(frozen=True, slots=True)
class ContainerState:
    """Told only of containers that are not simply running without a restart."""

    name: str
    restarts: int = 0
    ready: bool = False
    waiting: str = ""
    exit_reason: str = ""
    exit_code: int | None = None
    exited_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod; `spec` is a key of the collection `specs`."""

    namespace: str
    name: str
    spec: str
    uid: str = ""
    created_at: datetime | None = None
    deleting_at: datetime | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    node: str = ""
    nominated_node: str = ""
    phase: str = "Pending"
    ready: bool = False
    reason: str = ""
    detail: str = ""
    owner: Owner | None = None
    states: tuple[ContainerState, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Workload:
    """Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob.

    `replicas` is the wanted number, None when the field is unset. `template` is a key of `specs`, "" when not kept
    (ReplicaSets and Jobs with an owner).
    """

    kind: str
    namespace: str
    name: str
    uid: str = ""
    created_at: datetime | None = None
    replicas: int | None = None
    ready: int = 0
    available: int = 0
    current: int = 0
    paused: bool = False
    suspended: bool = False
    owner: Owner | None = None
    template: str = ""
    selector: dict[str, Any] = field(default_factory=dict)
    strategy: str = ""
    claim_templates: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    schedule: str = ""
    time_zone: str = ""
    deadline_seconds: int | None = None
    last_run_at: datetime | None = None
    parallelism: int | None = None
    completions: int | None = None
    finished_at: datetime | None = None

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget; the wanted figures as written ("1", "50%"), "" when unset."""

    namespace: str
    name: str
    uid: str = ""
    selector: dict[str, Any] = field(default_factory=dict)
    min_available: str = ""
    max_unavailable: str = ""
    unhealthy_policy: str = ""
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0


@dataclass(frozen=True, slots=True)
class Metric:
    """One target of an autoscaler, e.g. Resource cpu Utilization "80"."""

    type: str
    name: str = ""
    target_type: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """A HorizontalPodAutoscaler."""

    namespace: str
    name: str
    uid: str = ""
    target_kind: str = ""
    target_name: str = ""
    min: int | None = None
    max: int = 0
    current: int = 0
    desired: int = 0
    metrics: tuple[Metric, ...] = ()
    conditions: tuple[Condition, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    uid: str = ""
    created_at: datetime | None = None
    phase: str = "Active"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Pressure, out of memory, eviction, interruption, failed scheduling; key is the event's uid. Kept for an hour."""

    uid: str
    type: str = ""
    reason: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    object_uid: str = ""
    message: str = ""
    reporter: str = ""
    count: int = 1
    first_at: datetime | None = None
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NodePool:
    """A Karpenter NodePool; requirements, limits and disruption rules as the API has them."""

    name: str
    uid: str = ""
    generation: int = 0
    replicas: int | None = None
    weight: int = 0
    limits: dict[str, str] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    node_class: str = ""
    expire_after: str = ""
    requirements: tuple[Any, ...] = ()
    disruption: dict[str, Any] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    ready: bool = False


@dataclass(frozen=True, slots=True)
class NodeClaim:
    """A Karpenter NodeClaim: a node wanted, being made or there."""

    name: str
    uid: str = ""
    pool: str = ""
    node: str = ""
    provider_id: str = ""
    instance_type: str = ""
    zone: str = ""
    lifecycle: str = "unknown"
    created_at: datetime | None = None
    deleting_at: datetime | None = None
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A PersistentVolumeClaim and the volume it is bound to."""

    namespace: str
    name: str
    phase: str = ""
    volume: str = ""
    storage_class: str = ""
    bytes: int | None = None
    modes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Volume:
    """A PersistentVolume. `zones` and `nodes` say where it can be attached; empty: anywhere."""

    name: str
    phase: str = ""
    storage_class: str = ""
    bytes: int | None = None
    reclaim: str = ""
    kind: str = ""
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


COLLECTIONS: dict[str, type] = {
    "nodes": Node,
    "specs": PodSpec,
    "pods": Pod,
    "workloads": Workload,
    "budgets": Budget,
    "autoscalers": Autoscaler,
    "namespaces": Namespace,
    "events": Event,
    "node_pools": NodePool,
    "node_claims": NodeClaim,
    "claims": Claim,
    "volumes": Volume,
}
