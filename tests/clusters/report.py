"""Reports as an agent makes them, from Kubernetes objects, through the agent's own builders."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

from agent.wire.codec import iso
from agent.wire.delta import State, diff
from agent.wire.resources import RESOURCES
from tests.fakes import kube_objects as make

PLURALS = {
    "Namespace": "namespaces",
    "Node": "nodes",
    "Pod": "pods",
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "ReplicaSet": "replicasets",
    "Job": "jobs",
    "CronJob": "cronjobs",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Event": "events",
    "NodePool": "nodepools",
    "NodeClaim": "nodeclaims",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "PersistentVolume": "persistentvolumes",
}
Tables = dict[str, dict[str, dict[str, Any]]]


def records(*objects: dict[str, Any]) -> Tables:
    """The records of Kubernetes objects."""
    by_name = {resource.name: resource for resource in RESOURCES}
    found: Tables = {}
    for obj in objects:
        if obj["kind"] not in PLURALS:
            continue
        resource = by_name[PLURALS[obj["kind"]]]
        built = resource.built(obj)
        if built.record is not None:
            found.setdefault(resource.collection, {})[built.key] = built.record
        if built.spec is not None:
            found.setdefault("specs", {})[built.spec_key] = built.spec
    return found


def cluster(nodes: int, pods: int) -> Tables:
    """A cluster of that size."""
    return records(*make.system_namespaces(), *make.cluster(nodes=nodes, pods=pods))


class Reporter:
    """Makes the messages of one agent session, as `agent.cluster.outbox` does."""

    def __init__(
        self, tables: Tables, *, uid: str = "11111111-2222-3333-4444-555555555555", session: str = "s1"
    ) -> None:
        self.tables, self.uid, self.session = tables, uid, session
        self.sequence = 0
        self.sent: Tables = {}
        self.digest = ""
        self.sample = 0

    def _head(self, kind: str) -> dict[str, Any]:
        self.sequence += 1
        return {
            "format": 1,
            "kind": kind,
            "session": self.session,
            "sequence": self.sequence,
            "at": iso(datetime.now(UTC)),
            "cluster": {"uid": self.uid, "name": "testing", "version": "v1.33.2-eks", "distribution": "eks"},
            "agent": {"version": "1.0.0"},
            "sources": {"nodes": {"state": "ok"}, "pods": {"state": "ok"}},
        }

    def full(self, **more: Any) -> bytes:
        """Everything."""
        head = self._head("full")
        self.digest = State.of({c: dict(t) for c, t in self.tables.items()}).digest
        self.sent = json.loads(json.dumps(self.tables))
        return pack({**head, "digest": self.digest, "records": self.tables, **more})

    def delta(self, **more: Any) -> bytes:
        """What changed since the last message."""
        base = {"sequence": self.sequence, "digest": self.digest}
        head = self._head("delta")
        changes = diff(self.sent, self.tables)
        self.digest = State.of({c: dict(t) for c, t in self.tables.items()}).digest
        self.sent = json.loads(json.dumps(self.tables))
        return pack({**head, "digest": self.digest, "base": base, "set": changes.set, "gone": changes.gone, **more})

    def usage(self, *, cpu: int = 500_000_000, memory: int = 200 * 1024**2, at: datetime | None = None) -> list[Any]:
        """A sample in which every container uses the same."""
        self.sample += 1
        specs = self.tables.get("specs", {})
        pods = {
            key: {box["name"]: [cpu, memory] for box in specs[pod["spec"]].get("containers", ())}
            for key, pod in self.tables.get("pods", {}).items()
        }
        nodes = {name: [cpu * 4, memory * 8] for name in self.tables.get("nodes", {})}
        return [{"n": self.sample, "at": iso(at or datetime.now(UTC)), "window": 60, "nodes": nodes, "pods": pods}]

    def beat(self, **more: Any) -> bytes:
        """A heartbeat."""
        body = {
            "format": 1,
            "session": self.session,
            "sequence": self.sequence,
            "digest": self.digest,
            "at": iso(datetime.now(UTC)),
            "cluster": {"uid": self.uid},
            "agent": {"version": "1.0.0"},
            "api_server": {"reachable": True, "milliseconds": 12},
            "counts": {"nodes": len(self.tables.get("nodes", {}))},
            "sources": {"nodes": {"state": "ok"}},
            "order_results": [],
        }
        return json.dumps({**body, **more}).encode()


def pack(message: dict[str, Any]) -> bytes:
    return gzip.compress(json.dumps(message).encode(), 1)
