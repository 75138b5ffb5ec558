"""The kinds of Kubernetes objects that sleep changes: which fields, to what, in which phase. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]
ANNOTATION = "curfew.dev/restore"
KEEP = "curfew.dev/keep"
WAKE_ORDER = "curfew.dev/wake-order"
WAKE_AFTER = "curfew.dev/wake-after"
KEDA_PAUSED = "autoscaling.keda.sh/paused"
KEDA_PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
# Argo CD in the cluster manages other clusters too; only applications of this one are paused.
HERE = ("https://kubernetes.default.svc", "https://kubernetes.default.svc.cluster.local", "in-cluster", "")


class Phase(StrEnum):
    """In the order of falling asleep; waking goes the other way."""

    GITOPS = "gitops"
    SCALERS = "scalers"
    CRON = "cron"
    WORKLOADS = "workloads"
    NODE_SCALER = "node_scaler"
    NODES = "nodes"


PHASES = tuple(Phase)
PHASE_WORDS = {
    Phase.GITOPS: "Pause GitOps",
    Phase.SCALERS: "Pause autoscalers",
    Phase.CRON: "Suspend cron jobs",
    Phase.WORKLOADS: "Scale workloads to zero",
    Phase.NODE_SCALER: "Pause the node scaler",
    Phase.NODES: "Scale nodes down",
}


class Unset:
    """The field is absent; restored as absent."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()
Fields = Mapping[Path, Any]


def spec_of(obj: Object) -> Object:
    found = obj.get("spec")
    return found if isinstance(found, dict) else {}


def annotations_of(obj: Object) -> dict[str, str]:
    found = (obj.get("metadata") or {}).get("annotations")
    return found if isinstance(found, dict) else {}


def labels_of(obj: Object) -> dict[str, str]:
    found = (obj.get("metadata") or {}).get("labels")
    return found if isinstance(found, dict) else {}


def _replicas(obj: Object) -> Fields:
    return {} if spec_of(obj).get("replicas", 1) == 0 else {("spec", "replicas"): 0}


def _suspend(obj: Object) -> Fields:
    return {} if spec_of(obj).get("suspend") is True else {("spec", "suspend"): True}


def _autoscaler(obj: Object) -> Fields:
    """With replicas at 0 an autoscaler rests, unless it may scale from zero: then its minimum must be 1."""
    return {("spec", "minReplicas"): 1} if spec_of(obj).get("minReplicas") == 0 else {}


def _scaled_object(obj: Object) -> Fields:
    held = annotations_of(obj)
    if KEDA_PAUSED in held or KEDA_PAUSED_REPLICAS in held:
        return {}
    return {("metadata", "annotations", KEDA_PAUSED_REPLICAS): "0"}


def _scaled_job(obj: Object) -> Fields:
    return {} if KEDA_PAUSED in annotations_of(obj) else {("metadata", "annotations", KEDA_PAUSED): "true"}


def _application(obj: Object) -> Fields:
    place = spec_of(obj).get("destination") or {}
    if str(place.get("server") or place.get("name") or "") not in HERE:
        return {}
    automated = (spec_of(obj).get("syncPolicy") or {}).get("automated")
    return {} if automated is None else {("spec", "syncPolicy", "automated"): UNSET}


def _node_pool(obj: Object) -> Fields:
    spec = spec_of(obj)
    if "replicas" in spec:
        return {} if spec["replicas"] == 0 else {("spec", "replicas"): 0}
    limits = spec.get("limits")
    held = limits if isinstance(limits, dict) else {}
    return {} if str(held.get("cpu")) == "0" else {("spec", "limits", "cpu"): "0"}


@dataclass(frozen=True, slots=True)
class Kind:
    """`fields(obj)` gives what falling asleep sets; {} when the object rests already, which then stays as it is."""

    name: str
    group: str
    version: str
    plural: str
    phase: Phase
    fields: Callable[[Object], Fields]
    namespaced: bool = True

    @property
    def id(self) -> tuple[str, str]:
        return self.group, self.plural


_ARGO, _KEDA = "argoproj.io", "keda.sh"
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("Application", _ARGO, "v1alpha1", "applications", Phase.GITOPS, _application),
        Kind("Kustomization", "kustomize.toolkit.fluxcd.io", "v1", "kustomizations", Phase.GITOPS, _suspend),
        Kind("HelmRelease", "helm.toolkit.fluxcd.io", "v2", "helmreleases", Phase.GITOPS, _suspend),
        Kind("ScaledObject", _KEDA, "v1alpha1", "scaledobjects", Phase.SCALERS, _scaled_object),
        Kind("ScaledJob", _KEDA, "v1alpha1", "scaledjobs", Phase.SCALERS, _scaled_job),
        Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", Phase.SCALERS, _autoscaler),
        Kind("CronJob", "batch", "v1", "cronjobs", Phase.CRON, _suspend),
        Kind("Deployment", "apps", "v1", "deployments", Phase.WORKLOADS, _replicas),
        Kind("StatefulSet", "apps", "v1", "statefulsets", Phase.WORKLOADS, _replicas),
        Kind("Rollout", _ARGO, "v1alpha1", "rollouts", Phase.WORKLOADS, _replicas),
        Kind("NodePool", "karpenter.sh", "v1", "nodepools", Phase.NODES, _node_pool, namespaced=False),
    )
}
WORKLOAD_KINDS = ("Deployment", "StatefulSet", "Rollout")
