"""Read a cluster for planning: every list that protection needs. A list that may not be read stops the plan."""

from __future__ import annotations

from clusters.providers.groups import NodeGroups
from clusters.providers.kube import KubeApi, Resource
from clusters.sleeping.kinds import KINDS, Object
from clusters.sleeping.world import World, instance_of

RESOURCES: dict[str, Resource] = {
    "Node": Resource("", "v1", "nodes", False),
    "Namespace": Resource("", "v1", "namespaces", False),
    "Pod": Resource("", "v1", "pods"),
    "Service": Resource("", "v1", "services"),
    "PersistentVolume": Resource("", "v1", "persistentvolumes", False),
    "PersistentVolumeClaim": Resource("", "v1", "persistentvolumeclaims"),
    "ReplicaSet": Resource("apps", "v1", "replicasets"),
    "Job": Resource("batch", "v1", "jobs"),
    "PodDisruptionBudget": Resource("policy", "v1", "poddisruptionbudgets"),
    "ValidatingWebhookConfiguration": Resource(
        "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", False
    ),
    "MutatingWebhookConfiguration": Resource(
        "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", False
    ),
    "NodeClaim": Resource("karpenter.sh", "v1", "nodeclaims", False),
    **{kind.name: Resource(kind.group, kind.version, kind.plural, kind.namespaced) for kind in KINDS.values()},
}


def resource_of(kind: str) -> Resource:
    return RESOURCES[kind]


def read_objects(kube: KubeApi, kinds: tuple[str, ...] = tuple(RESOURCES)) -> dict[str, list[Object]]:
    """Every object of these kinds. Raises ProviderError."""
    return {kind: kube.list(RESOURCES[kind]) for kind in kinds}


def read_world(kube: KubeApi, groups: NodeGroups | None) -> World:
    """Objects and groups of machines, as they are now. Raises ProviderError."""
    objects = read_objects(kube)
    machines = {instance_of(node) for node in objects["Node"]} - {""}
    return World(objects, list(groups.list(machines)) if groups is not None else [])
