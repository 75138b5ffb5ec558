"""Which API resources make a snapshot, and which permissions that takes. One table for agent, poll, RBAC and pre-flight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.wire import build
from agent.wire.build.workloads import pod_template, worth_keeping
from agent.wire.codec import to_wire


@dataclass(frozen=True, slots=True)
class Built:
    """What one API object becomes: its key and record (None: not kept), and the pod spec that it refers to."""

    key: str
    record: dict[str, Any] | None
    spec_key: str = ""
    spec: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """One API resource: `name` names the source, `path` lists it. Optional ones may be absent from a cluster."""

    name: str
    group: str
    version: str
    collection: str
    built: Callable[[dict[str, Any]], Built]
    optional: bool = False

    @property
    def path(self) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/{self.name}"


def _named(obj: dict[str, Any]) -> str:
    return str(obj["metadata"]["name"])


def _in_namespace(obj: dict[str, Any]) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _simple(make: Callable[[dict[str, Any]], Any], key: Callable[[dict[str, Any]], str]) -> Callable[..., Built]:
    return lambda obj: Built(key(obj), to_wire(make(obj)))


def _pod(obj: dict[str, Any]) -> Built:
    spec = to_wire(build.pod_spec(obj))
    key = build.spec_key(spec)
    return Built(_in_namespace(obj), to_wire(build.pod(obj, key)), key, spec)


def _event(obj: dict[str, Any]) -> Built:
    uid = str(obj["metadata"]["uid"])
    return Built(uid, to_wire(build.event(obj)) if build.event_matters(obj) else None)


def _workload(kind: str) -> Callable[[dict[str, Any]], Built]:
    def built(obj: dict[str, Any]) -> Built:
        key = f"{kind}/{_in_namespace(obj)}"
        if not worth_keeping(obj, kind):
            return Built(key, None)
        template = pod_template(obj, kind)
        if not template:
            return Built(key, to_wire(build.workload(obj, kind)))
        spec = to_wire(build.pod_spec(template))
        spec_key = build.spec_key(spec)
        return Built(key, to_wire(build.workload(obj, kind, spec_key)), spec_key, spec)

    return built


RESOURCES: tuple[Resource, ...] = (
    Resource("namespaces", "", "v1", "namespaces", _simple(build.namespace, _named)),
    Resource("nodes", "", "v1", "nodes", _simple(build.node, _named)),
    Resource("pods", "", "v1", "pods", _pod),
    Resource("deployments", "apps", "v1", "workloads", _workload("Deployment")),
    Resource("statefulsets", "apps", "v1", "workloads", _workload("StatefulSet")),
    Resource("daemonsets", "apps", "v1", "workloads", _workload("DaemonSet")),
    Resource("replicasets", "apps", "v1", "workloads", _workload("ReplicaSet")),
    Resource("jobs", "batch", "v1", "workloads", _workload("Job")),
    Resource("cronjobs", "batch", "v1", "workloads", _workload("CronJob")),
    Resource("poddisruptionbudgets", "policy", "v1", "budgets", _simple(build.budget, _in_namespace)),
    Resource("horizontalpodautoscalers", "autoscaling", "v2", "autoscalers", _simple(build.autoscaler, _in_namespace)),
    Resource("events", "", "v1", "events", _event),
    Resource("persistentvolumeclaims", "", "v1", "claims", _simple(build.claim, _in_namespace)),
    Resource("persistentvolumes", "", "v1", "volumes", _simple(build.volume, _named)),
    Resource("nodepools", "karpenter.sh", "v1", "node_pools", _simple(build.node_pool, _named), optional=True),
    Resource("nodeclaims", "karpenter.sh", "v1", "node_claims", _simple(build.node_claim, _named), optional=True),
)
METRICS_GROUP = "metrics.k8s.io"
METRICS_VERSION = "v1beta1"
METRICS_PATH = f"/apis/{METRICS_GROUP}/{METRICS_VERSION}"
READ_VERBS = ("get", "list", "watch")


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """One right on one resource, as RBAC and SelfSubjectAccessReview name it."""

    group: str
    resource: str
    verb: str
    subresource: str = ""

    def __str__(self) -> str:
        name = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {name}.{self.group}" if self.group else f"{self.verb} {name}"


READ_PERMISSIONS: tuple[Permission, ...] = (
    *(Permission(r.group, r.name, verb) for r in RESOURCES for verb in READ_VERBS),
    *(Permission(METRICS_GROUP, name, verb) for name in ("nodes", "pods") for verb in ("get", "list")),
)
ORDER_PERMISSIONS: tuple[Permission, ...] = (
    Permission("", "nodes", "patch"),
    Permission("", "namespaces", "patch"),
    Permission("apps", "deployments", "get", "scale"),
    Permission("apps", "deployments", "patch", "scale"),
    Permission("apps", "statefulsets", "get", "scale"),
    Permission("apps", "statefulsets", "patch", "scale"),
    # Sleep: what it has to see beyond a report, and what it changes.
    *(
        Permission(group, plural, verb)
        for group, plural in (
            ("", "services"),
            ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
            ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        )
        for verb in ("get", "list")
    ),
    *(
        Permission(group, plural, "patch")
        for group, plural in (
            ("apps", "deployments"),
            ("apps", "statefulsets"),
            ("batch", "cronjobs"),
            ("autoscaling", "horizontalpodautoscalers"),
            ("karpenter.sh", "nodepools"),
        )
    ),
    Permission("karpenter.sh", "nodeclaims", "delete"),
    *(
        Permission(group, plural, verb)
        for group, plural in (
            ("keda.sh", "scaledobjects"),
            ("keda.sh", "scaledjobs"),
            ("argoproj.io", "applications"),
            ("argoproj.io", "rollouts"),
            ("kustomize.toolkit.fluxcd.io", "kustomizations"),
            ("helm.toolkit.fluxcd.io", "helmreleases"),
        )
        for verb in ("get", "list", "patch")
    ),
)
