"""Nodes, NodePools and NodeClaims."""

from __future__ import annotations

from typing import Any

from agent.wire.build.common import (
    amounts,
    at,
    conditions,
    flag,
    is_true,
    items,
    kept_annotations,
    mapping,
    maybe_number,
    number,
    quantities,
    shared,
    strings,
    taints,
    text,
    time,
)
from agent.wire.model import Node, NodeClaim, NodePool

_GROUPS = (
    ("karpenter.sh/nodepool", "karpenter"),
    ("karpenter.sh/provisioner-name", "karpenter"),
    ("eks.amazonaws.com/nodegroup", "eks"),
    ("alpha.eksctl.io/nodegroup-name", "eks"),
    ("cloud.google.com/gke-nodepool", "gke"),
    ("kubernetes.azure.com/agentpool", "aks"),
    ("agentpool", "aks"),
    ("kops.k8s.io/instancegroup", "kops"),
)
_LIFECYCLE_LABELS = (
    "karpenter.sh/capacity-type",
    "eks.amazonaws.com/capacityType",
    "node.kubernetes.io/lifecycle",
    "lifecycle",
)
_LIFECYCLES = {
    "spot": "spot",
    "ec2spot": "spot",
    "on-demand": "on-demand",
    "on_demand": "on-demand",
    "ondemand": "on-demand",
    "normal": "on-demand",
    "reserved": "reserved",
    "capacity_block": "reserved",
}
_NODE_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


def lifecycle(labels: dict[str, str]) -> str:
    """Return spot, on-demand or reserved as the labels of the clouds and of Karpenter say it; else unknown."""
    for label in _LIFECYCLE_LABELS:
        known = _LIFECYCLES.get(labels.get(label, "").lower())
        if known:
            return known
    if "true" in (labels.get("cloud.google.com/gke-spot"), labels.get("cloud.google.com/gke-preemptible")):
        return "spot"
    if labels.get("kubernetes.azure.com/scalesetpriority") == "spot":
        return "spot"
    if "cloud.google.com/gke-nodepool" in labels or "kubernetes.azure.com/agentpool" in labels:
        return "on-demand"  # both label their spot nodes, always
    return "unknown"


def _label(labels: dict[str, str], *names: str) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def node(obj: dict[str, Any]) -> Node:
    """Return the record of a Node."""
    labels = strings(obj, "metadata", "labels")
    found = conditions(obj, _NODE_CONDITIONS)
    info = mapping(obj, "status", "nodeInfo")
    group_kind, group = next(((kind, labels[name]) for name, kind in _GROUPS if labels.get(name)), ("", ""))
    return Node(
        name=text(obj, "metadata", "name"),
        uid=text(obj, "metadata", "uid"),
        created_at=time(obj, "metadata", "creationTimestamp"),
        deleting_at=time(obj, "metadata", "deletionTimestamp"),
        provider_id=text(obj, "spec", "providerID"),
        instance_type=_label(labels, "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"),
        region=_label(labels, "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
        zone=_label(labels, "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
        lifecycle=lifecycle(labels),
        group_kind=group_kind,
        group=group,
        ready=is_true(found, "Ready"),
        unschedulable=flag(obj, "spec", "unschedulable"),
        taints=taints(obj, "spec", "taints"),
        capacity=amounts(obj, "status", "capacity"),
        allocatable=amounts(obj, "status", "allocatable"),
        conditions=found,
        labels=labels,
        annotations=kept_annotations(obj),
        architecture=shared(info, "architecture"),
        os=shared(info, "operatingSystem"),
        os_image=shared(info, "osImage"),
        kernel=shared(info, "kernelVersion"),
        runtime=shared(info, "containerRuntimeVersion"),
        kubelet=shared(info, "kubeletVersion"),
    )


def node_pool(obj: dict[str, Any]) -> NodePool:
    """Return the record of a karpenter.sh NodePool."""
    template = mapping(obj, "spec", "template")
    spec = mapping(template, "spec")
    return NodePool(
        name=text(obj, "metadata", "name"),
        uid=text(obj, "metadata", "uid"),
        generation=number(obj, "metadata", "generation"),
        replicas=maybe_number(obj, "spec", "replicas"),
        weight=number(obj, "spec", "weight"),
        limits=quantities(obj, "spec", "limits"),
        used=quantities(obj, "status", "resources"),
        node_class=text(spec, "nodeClassRef", "name"),
        expire_after=text(spec, "expireAfter"),
        requirements=tuple(items(spec, "requirements")),
        disruption=mapping(obj, "spec", "disruption"),
        taints=taints(spec, "taints"),
        labels=strings(template, "metadata", "labels"),
        annotations=kept_annotations(obj),
        ready=is_true(conditions(obj), "Ready"),
    )


def node_claim(obj: dict[str, Any]) -> NodeClaim:
    """Return the record of a karpenter.sh NodeClaim."""
    labels = strings(obj, "metadata", "labels")
    return NodeClaim(
        name=text(obj, "metadata", "name"),
        uid=text(obj, "metadata", "uid"),
        pool=labels.get("karpenter.sh/nodepool", ""),
        node=text(obj, "status", "nodeName"),
        provider_id=text(obj, "status", "providerID"),
        instance_type=labels.get("node.kubernetes.io/instance-type", ""),
        zone=labels.get("topology.kubernetes.io/zone", ""),
        lifecycle=lifecycle(labels),
        created_at=time(obj, "metadata", "creationTimestamp"),
        deleting_at=time(obj, "metadata", "deletionTimestamp"),
        conditions=conditions(obj) if at(obj, "status") else (),
    )
