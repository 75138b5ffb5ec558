"""A snapshot as typed records, with the joins that every reader needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.wire.codec import WireError, from_wire, to_wire
from agent.wire.model import (
    COLLECTIONS,
    Autoscaler,
    Budget,
    Claim,
    Cluster,
    Event,
    Namespace,
    Node,
    NodeClaim,
    NodePool,
    Owner,
    Pod,
    PodSpec,
    Source,
    Volume,
    Workload,
)

Records = dict[str, dict[str, dict[str, Any]]]
NOTHING = PodSpec()


@dataclass(slots=True)
class Snapshot:
    """One cluster at one moment; each collection by key (see `agent.wire.model`)."""

    cluster: Cluster
    sources: dict[str, Source] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    specs: dict[str, PodSpec] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    autoscalers: dict[str, Autoscaler] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    node_pools: dict[str, NodePool] = field(default_factory=dict)
    node_claims: dict[str, NodeClaim] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)

    @classmethod
    def from_records(
        cls,
        cluster: Mapping[str, Any],
        records: Mapping[str, Mapping[str, Any]],
        sources: Mapping[str, Any] | None = None,
    ) -> Snapshot:
        """Read the wire's records; collections of a newer agent are ignored. Raises WireError."""
        made = cls(from_wire(Cluster, dict(cluster)))
        made.sources = {name: from_wire(Source, value) for name, value in (sources or {}).items()}
        for collection, kind in COLLECTIONS.items():
            table = getattr(made, collection)
            for key, record in records.get(collection, {}).items():
                try:
                    table[key] = from_wire(kind, record)
                except WireError as bad:
                    raise WireError(f"{collection}[{key!r}]: {bad}") from None
        return made

    def to_records(self) -> Records:
        """Return the wire's records of every collection that has any."""
        tables = {c: {key: to_wire(record) for key, record in getattr(self, c).items()} for c in COLLECTIONS}
        return {collection: table for collection, table in tables.items() if table}

    def spec_of(self, pod: Pod) -> PodSpec:
        """Return the pod's spec; an empty one when the snapshot lacks it."""
        return self.specs.get(pod.spec, NOTHING)

    def workload_of(self, pod: Pod) -> Owner | None:
        """Return the outermost controller: the Deployment of a ReplicaSet, the CronJob of a Job; None for a bare pod."""
        owner, hops = pod.owner, 0
        while owner is not None and hops < 4:
            parent = self.workloads.get(f"{owner.kind}/{pod.namespace}/{owner.name}")
            if parent is None or parent.owner is None:
                return owner
            owner, hops = parent.owner, hops + 1
        return owner

    def pods_by_node(self) -> dict[str, list[Pod]]:
        """Return the pods that hold their node's resources: bound and not finished."""
        found: dict[str, list[Pod]] = {name: [] for name in self.nodes}
        for pod in self.pods.values():
            if pod.node and pod.phase not in {"Succeeded", "Failed"}:
                found.setdefault(pod.node, []).append(pod)
        return found
