"""Budgets, autoscalers, namespaces, events and volumes."""

from __future__ import annotations

import re
from typing import Any

from agent.wire.build.common import (
    at,
    conditions,
    items,
    kept_annotations,
    mapping,
    maybe_number,
    number,
    number_or_percent,
    shared,
    strings,
    text,
    texts,
    time,
)
from agent.wire.model import Autoscaler, Budget, Claim, Cluster, Event, Metric, Namespace, Volume
from agent.wire.quantities import BadQuantity, units

_LONGEST_MESSAGE = 300
_MATTERS = re.compile(
    r"OOM|Evict|Pressure|Preempt|Interrupt|Rebalance|Disrupt|NodeNotReady|NodeNotSchedulable|NodeReady|Rebooted"
    r"|RemovingNode|Terminating|FailedScheduling|FailedAttachVolume|FailedMount|BackOff|FailedCreate|ScalingReplicaSet"
    r"|ScaleDown|ScaleUp|ScaledUpGroup|TriggeredScaleUp|NotTriggerScaleUp|Unconsolidatable|InsufficientCapacity"
    r"|SuccessfulRescale|FailedGetResourceMetric|Drain|Cordon"
)
_ZONE_LABELS = frozenset(
    {
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/zone",
        "topology.ebs.csi.aws.com/zone",
        "topology.gke.io/zone",
        "topology.disk.csi.azure.com/zone",
    }
)
_KINDS = ("csi", "local", "hostPath", "nfs", "awsElasticBlockStore", "gcePersistentDisk", "azureDisk")


def budget(obj: dict[str, Any]) -> Budget:
    """Return the record of a PodDisruptionBudget."""
    status = mapping(obj, "status")
    return Budget(
        namespace=shared(obj, "metadata", "namespace"),
        name=text(obj, "metadata", "name"),
        uid=text(obj, "metadata", "uid"),
        selector=mapping(obj, "spec", "selector"),
        min_available=number_or_percent(obj, "spec", "minAvailable"),
        max_unavailable=number_or_percent(obj, "spec", "maxUnavailable"),
        unhealthy_policy=text(obj, "spec", "unhealthyPodEvictionPolicy"),
        disruptions_allowed=number(status, "disruptionsAllowed"),
        current_healthy=number(status, "currentHealthy"),
        desired_healthy=number(status, "desiredHealthy"),
        expected_pods=number(status, "expectedPods"),
    )


def _metric(item: dict[str, Any]) -> Metric:
    kind = text(item, "type")
    body = mapping(item, kind[:1].lower() + kind[1:]) if kind else {}
    target = mapping(body, "target")
    name = text(body, "name") or text(body, "metric", "name")
    value = next((target[k] for k in ("averageUtilization", "averageValue", "value") if target.get(k) is not None), "")
    container = text(body, "container")
    return Metric(kind, (f"{container}/{name}" if container else name)[:300], text(target, "type"), str(value)[:64])


def autoscaler(obj: dict[str, Any]) -> Autoscaler:
    """Return the record of a HorizontalPodAutoscaler (autoscaling/v2)."""
    return Autoscaler(
        namespace=shared(obj, "metadata", "namespace"),
        name=text(obj, "metadata", "name"),
        uid=text(obj, "metadata", "uid"),
        target_kind=text(obj, "spec", "scaleTargetRef", "kind"),
        target_name=text(obj, "spec", "scaleTargetRef", "name"),
        min=maybe_number(obj, "spec", "minReplicas"),
        max=number(obj, "spec", "maxReplicas"),
        current=number(obj, "status", "currentReplicas"),
        desired=number(obj, "status", "desiredReplicas"),
        metrics=tuple(_metric(m) for m in items(obj, "spec", "metrics")),
        conditions=conditions(obj),
        annotations=kept_annotations(obj),
    )


def namespace(obj: dict[str, Any]) -> Namespace:
    """Return the record of a Namespace."""
    return Namespace(
        name=text(obj, "metadata", "name"),
        uid=text(obj, "metadata", "uid"),
        created_at=time(obj, "metadata", "creationTimestamp"),
        phase=text(obj, "status", "phase") or "Active",
        labels=strings(obj, "metadata", "labels"),
        annotations=kept_annotations(obj),
    )


def event_matters(obj: dict[str, Any]) -> bool:
    """Return whether an Event tells of pressure, memory, eviction, interruption, scaling or scheduling."""
    return _MATTERS.search(text(obj, "reason")) is not None


def event(obj: dict[str, Any]) -> Event:
    """Return the record of a core/v1 Event, of the old kind (count) or the new one (series)."""
    about = mapping(obj, "involvedObject")
    made = time(obj, "metadata", "creationTimestamp")
    first = time(obj, "firstTimestamp") or time(obj, "eventTime") or made
    last = time(obj, "series", "lastObservedTime") or time(obj, "lastTimestamp") or first
    return Event(
        uid=text(obj, "metadata", "uid"),
        type=shared(obj, "type"),
        reason=shared(obj, "reason"),
        kind=shared(about, "kind"),
        namespace=shared(about, "namespace"),
        name=text(about, "name"),
        object_uid=text(about, "uid"),
        message=text(obj, "message")[:_LONGEST_MESSAGE],
        reporter=shared(obj, "reportingComponent") or shared(obj, "source", "component"),
        count=number(obj, "series", "count") or number(obj, "count", default=1),
        first_at=first,
        last_at=last,
    )


def _bytes(source: Any, *path: str) -> int | None:
    quantity = at(source, *path)
    try:
        return units(quantity) if isinstance(quantity, str | int) and not isinstance(quantity, bool) else None
    except BadQuantity:
        return None


def claim(obj: dict[str, Any]) -> Claim:
    """Return the record of a PersistentVolumeClaim."""
    return Claim(
        namespace=shared(obj, "metadata", "namespace"),
        name=text(obj, "metadata", "name"),
        phase=shared(obj, "status", "phase"),
        volume=text(obj, "spec", "volumeName"),
        storage_class=shared(obj, "spec", "storageClassName"),
        bytes=_bytes(obj, "status", "capacity", "storage") or _bytes(obj, "spec", "resources", "requests", "storage"),
        modes=tuple(texts(obj, "spec", "accessModes")),
    )


def volume(obj: dict[str, Any]) -> Volume:
    """Return the record of a PersistentVolume, with the zones or nodes that its node affinity names."""
    zones: set[str] = set()
    nodes: set[str] = set()
    for term in items(obj, "spec", "nodeAffinity", "required", "nodeSelectorTerms"):
        for rule in items(term, "matchExpressions"):
            if rule.get("operator") != "In":
                continue
            values = set(texts(rule, "values"))
            if text(rule, "key") in _ZONE_LABELS:
                zones |= values
            elif rule.get("key") == "kubernetes.io/hostname":
                nodes |= values
    labels = strings(obj, "metadata", "labels")
    zones |= {zone for label in _ZONE_LABELS for zone in labels.get(label, "").split("__") if zone}
    return Volume(
        name=text(obj, "metadata", "name"),
        phase=shared(obj, "status", "phase"),
        storage_class=shared(obj, "spec", "storageClassName"),
        bytes=_bytes(obj, "spec", "capacity", "storage"),
        reclaim=shared(obj, "spec", "persistentVolumeReclaimPolicy"),
        kind=next((k for k in _KINDS if k in mapping(obj, "spec")), ""),
        zones=tuple(sorted(zones)),
        nodes=tuple(sorted(nodes)),
    )


_DISTRIBUTIONS = (("-eks-", "eks"), ("-gke.", "gke"), ("+k3s", "k3s"), ("+rke2", "rke2"), ("-aliyun", "ack"))


def cluster(version: dict[str, Any], kube_system: dict[str, Any], *, name: str = "") -> Cluster:
    """Return the record of the cluster from /version and the namespace kube-system.

    The distribution is what the version says of it, "" for others (AKS does not say; its nodes' labels do).
    """
    git = text(version, "gitVersion")
    return Cluster(
        uid=text(kube_system, "metadata", "uid"),
        name=name,
        version=git,
        platform=text(version, "platform"),
        distribution=next((word for mark, word in _DISTRIBUTIONS if mark in git), ""),
    )
