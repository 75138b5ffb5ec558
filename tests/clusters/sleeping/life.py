"""A fake API server whose cluster lives: nodes follow the cloud's groups, pods follow workloads, Karpenter makes nodes.

It catches up whenever nodes, pods or workloads are listed; there is no clock of its own.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any
from zlib import crc32

from tests.clusters.sleeping.aws import REGION, MotoCloud
from tests.fakes.kube import FakeKube
from tests.fakes.kube_http import Asked
from tests.fakes.kube_store import SCALABLE, Kind, Object, Refusal, Table

MORE_KINDS = (
    Kind("argoproj.io", "v1alpha1", "applications", "Application"),
    Kind("argoproj.io", "v1alpha1", "rollouts", "Rollout", True, SCALABLE),
    Kind("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization"),
    Kind("helm.toolkit.fluxcd.io", "v2", "helmreleases", "HelmRelease"),
    Kind("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject"),
    Kind("keda.sh", "v1alpha1", "scaledjobs", "ScaledJob"),
)
WORKLOADS = ("deployments", "statefulsets", "rollouts")
LIVING = {"nodes", "pods", *WORKLOADS}
MOST_PER_POOL = 3


class LivingKube(FakeKube):
    """`before(line)` and `after(line)` are called around every change that a client makes. Use `start()` once filled."""

    def __init__(self, cloud: MotoCloud | None = None, **more: Any) -> None:
        super().__init__(**more)
        for kind in MORE_KINDS:
            self.store.tables[kind.id] = Table(kind)
        self.cloud = cloud
        self.before: Callable[[str], None] = lambda line: None
        self.after: Callable[[str], None] = lambda line: None
        self.writes: list[str] = []
        self.living = True

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET":
            if self.living and not asked.name and asked.kind.plural in LIVING:
                self.live()
            return super().answer(asked)
        line = f"{asked.method} {asked.path}"
        self.writes.append(line)
        self.before(line)
        found = super().answer(asked)
        self.after(line)
        return found

    # life

    def live(self) -> None:
        """Bring nodes and pods in line with what is wanted."""
        with self.store.lock:
            self._groups()
            self._claims()
            self._pods()

    def _node(self, name: str, instance: str, labels: dict[str, str]) -> None:
        self.create(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
                "spec": {"providerID": f"aws:///{REGION}a/{instance}"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
        )

    def _drop_node(self, name: str) -> None:
        for pod in self.all("pods"):
            if pod["spec"].get("nodeName") == name:
                self.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.delete("nodes", "", name)

    def _groups(self) -> None:
        if self.cloud is None:
            return
        nodes = {n["metadata"]["name"]: n for n in self.all("nodes")}
        wanted: dict[str, tuple[str, dict[str, str]]] = {}
        for instance, group in _asg_machines():
            wanted[f"ip-{instance[-8:]}"] = (instance, {"group": group})
        for name, count in _managed_sizes(self.cloud.cluster):
            for number in range(count):
                label = {"eks.amazonaws.com/nodegroup": name}
                wanted[f"{name}-{number}"] = (f"i-{name}{number}", label)
        for name, node in nodes.items():
            labels = node["metadata"].get("labels") or {}
            if name not in wanted and "karpenter.sh/nodepool" not in labels:
                self._drop_node(name)
        for name, (instance, labels) in wanted.items():
            if name not in nodes:
                self._node(name, instance, labels)

    def _claims(self) -> None:
        named = {(c.get("status") or {}).get("nodeName") for c in self.all("nodeclaims")}
        for node in self.all("nodes"):
            name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
            if "karpenter.sh/nodepool" in labels and name not in named:
                self._drop_node(name)
        pools: dict[str, int] = defaultdict(int)
        for claim in self.all("nodeclaims"):
            pools[claim["metadata"]["labels"]["karpenter.sh/nodepool"]] += 1
        pending = any(not p["spec"].get("nodeName") for p in self.all("pods"))
        for pool in self.all("nodepools"):
            spec, name = pool["spec"], pool["metadata"]["name"]
            dynamic = MOST_PER_POOL if pending and str((spec.get("limits") or {}).get("cpu", "1")) != "0" else 0
            for _ in range(spec.get("replicas", dynamic) - pools[name]):
                self._claim(name)

    def _claim(self, pool: str) -> None:
        name = f"{pool}-{uuid.uuid4().hex[:6]}"
        labels = {"karpenter.sh/nodepool": pool}
        self._node(name, f"i-{name}", labels)
        self.create(
            {
                "apiVersion": "karpenter.sh/v1",
                "kind": "NodeClaim",
                "metadata": {"name": name, "labels": labels},
                "spec": {},
                "status": {"nodeName": name},
            }
        )

    def _pods(self) -> None:
        nodes = sorted(
            n["metadata"]["name"] for n in self.all("nodes") if not (n.get("spec") or {}).get("unschedulable")
        )
        mine: dict[tuple[str, str, str], list[Object]] = defaultdict(list)
        for pod in self.all("pods"):
            owners = pod["metadata"].get("ownerReferences") or []
            if owners:
                mine[owners[0]["kind"], pod["metadata"]["namespace"], owners[0]["name"]].append(pod)
        for plural in WORKLOADS:
            for workload in self.all(plural):
                self._follow(plural, workload, mine, nodes)

    def _follow(
        self, plural: str, workload: Object, mine: dict[tuple[str, str, str], list[Object]], nodes: list[str]
    ) -> None:
        metadata = workload["metadata"]
        wanted = workload["spec"].get("replicas", 1)
        pods = mine[workload["kind"], metadata["namespace"], metadata["name"]]
        while len(pods) > wanted:
            gone = pods.pop()
            self.delete("pods", metadata["namespace"], gone["metadata"]["name"])
        while len(pods) < wanted:
            pods.append(self._pod(workload, len(pods)))
        for pod in pods:
            if not pod["spec"].get("nodeName") and nodes:
                self._place(workload, pod, nodes)
        ready = sum(bool(p["spec"].get("nodeName")) for p in pods)
        status = {"replicas": wanted, "availableReplicas": ready, "readyReplicas": ready}
        if workload.get("status") != status:
            kind = self.kind(plural)
            self.store.replace(kind, metadata["namespace"], metadata["name"], {**workload, "status": status})

    def _pod(self, workload: Object, number: int) -> Object:
        metadata = workload["metadata"]
        template = workload["spec"].get("template") or {}
        held = template.get("metadata") or {}
        owner = {"apiVersion": workload["apiVersion"], "kind": workload["kind"], "name": metadata["name"]}
        made: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{metadata['name']}-{uuid.uuid4().hex[:8]}",
                "namespace": metadata["namespace"],
                "labels": dict(held.get("labels") or {}),
                "annotations": dict(held.get("annotations") or {}),
                "ownerReferences": [{**owner, "uid": metadata["uid"], "controller": True}],
            },
            "spec": {"volumes": (template.get("spec") or {}).get("volumes") or []},
            "status": {"phase": "Pending"},
        }
        return self.create(made)

    def _place(self, workload: Object, pod: Object, nodes: list[str]) -> None:
        wanted = ((workload["spec"].get("template") or {}).get("spec") or {}).get("nodeSelector") or {}
        labels = {n["metadata"]["name"]: n["metadata"].get("labels") or {} for n in self.all("nodes")}
        fits = [n for n in nodes if all(labels[n].get(k) == v for k, v in wanted.items())]
        if not fits:
            return
        node = fits[crc32(pod["metadata"]["name"].encode()) % len(fits)]
        new = {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": {"phase": "Running"}}
        placed = self.store.replace(self.kind("pods"), pod["metadata"]["namespace"], pod["metadata"]["name"], new).obj
        pod.clear()
        pod.update(placed)

    # comparing

    def picture(self) -> dict[str, Any]:
        """Every object that a client could have changed, without what the server itself keeps."""
        found: dict[str, Any] = {}
        for table in self.store.tables.values():
            if table.kind.plural in {"pods", "nodes", "nodeclaims", "replicasets", "events"}:
                continue
            for (namespace, name), stored in table.objects.items():
                found[f"{table.kind.kind}/{namespace}/{name}"] = _bare(stored.obj)
        return found


def _bare(obj: Object) -> Object:
    metadata = {
        key: value
        for key, value in obj["metadata"].items()
        if key not in {"resourceVersion", "generation", "managedFields"}
    }
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def _asg_machines() -> Iterable[tuple[str, str]]:
    from moto.autoscaling.models import autoscaling_backends

    for account in list(autoscaling_backends):
        for group in autoscaling_backends[account][REGION].autoscaling_groups.values():
            for state in group.instance_states:
                if state.lifecycle_state == "InService":
                    yield state.instance.id, group.name


def _managed_sizes(cluster: str) -> Iterable[tuple[str, int]]:
    from moto.eks.models import eks_backends

    for account in list(eks_backends):
        found = eks_backends[account][REGION].clusters.get(cluster)
        for name, group in (found.nodegroups if found else {}).items():
            yield name, int(group.scaling_config["desiredSize"])


__all__ = ["LivingKube", "Refusal"]
