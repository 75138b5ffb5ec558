"""What the operation `cluster.group` does, and how a cluster's groups are read. Both call the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from clusters.models import Cluster
from clusters.providers import karpenter
from clusters.providers.groups import Group, GroupKind, NodeGroups, Sizes
from clusters.providers.kube import KubeApi, Object
from clusters.services import grouping, pools
from clusters.sleeping import gateway
from core.providers import ProviderError
from operations.registry import BaseExecutor, OperationFailed, RunContext


def _cluster(cluster_id: UUID) -> Cluster | None:
    found: Cluster | None = Cluster.objects.all_orgs().select_related("account").filter(id=cluster_id).first()
    return found


def read_groups(*, cluster_id: UUID) -> bool:
    """Read a cluster's groups and keep them; False, with the reason kept, when they could not be read."""
    cluster = _cluster(cluster_id)
    if cluster is None:
        return False
    try:
        provider = gateway.open_groups(cluster)
        if provider is None:
            return False
        grouping.store_groups(cluster=cluster, groups=provider.list())
    except ProviderError as refused:
        grouping.store_groups(cluster=cluster, groups=None, problem=refused.message)
        return False
    return True


class GroupChange(BaseExecutor):
    """Sets limits, keeps the wanted number within them, and turns the purchase where it can be: of a group of the cloud,
    or of a NodePool in the cluster. Every step sets what should be and looks first, so a kill anywhere is mended by
    running it again."""

    kind = grouping.CHANGE
    label = "Change node group"
    permission = "clusters.operate"
    max_attempts = 4

    def run(self, context: RunContext) -> Mapping[str, Any]:
        """Result: `before` and `after` as "low-desired-high" (a pool's as its limits and capacity types), `spot`."""
        cluster = _cluster(context.operation.resource_id)
        if cluster is None:
            raise OperationFailed("The cluster was disconnected.", code="cluster_gone")
        asked = context.operation.payload
        if asked["kind"] == GroupKind.KARPENTER.value:
            return _change_pool(context, cluster)
        provider = gateway.open_groups(cluster)
        if provider is None:
            raise OperationFailed("No cloud account is connected for this cluster.", code="no_account")
        kind, name = GroupKind(asked["kind"]), str(asked["name"])
        context.progress(10, f"Reading {name}")
        group = _read(provider, kind, name)
        if "before" not in context.state:
            context.checkpoint(before=group.sizes.text())
        wanted = Sizes(asked["low"], min(max(group.sizes.desired, asked["low"]), asked["high"]), asked["high"])
        if group.sizes != wanted:
            context.progress(40, f"Setting {asked['low']} to {asked['high']} nodes")
            provider.resize(group, wanted, token=context.operation.id.hex)
        spot = asked.get("spot")
        if spot is not None and group.on_demand is not None and (group.on_demand == 0) != spot:
            context.progress(70, "Turning to spot" if spot else "Turning to on-demand")
            provider.steer(group, on_demand=0 if spot else 100)
        after = _read(provider, kind, name)
        if after.sizes != wanted:
            raise OperationFailed(
                f"{name} has {after.sizes.text()} and not {wanted.text()}: something else changed it.",
                code="contested",
                transient=True,
            )
        if spot is not None and (after.on_demand == 0) != spot:
            raise OperationFailed(
                f"{name} buys otherwise than asked: something else changed it.", code="contested", transient=True
            )
        return {"before": context.state["before"], "after": after.sizes.text(), "spot": spot}

    def finished(self, operation: Any) -> None:
        if operation.payload.get("kind") == GroupKind.KARPENTER.value:
            return  # the pool was read and kept at the end of the change
        grouping.read_soon(operation.organization_id, operation.resource_id)

    def subject(self, operation: Any) -> str:
        return f"{operation.payload.get('kind')}/{operation.payload.get('name')}"[:80]


def _change_pool(context: RunContext, cluster: Cluster) -> Mapping[str, Any]:
    asked, name = context.operation.payload, str(context.operation.payload["name"])
    wanted = {"limits": asked["limits"], "replicas": asked["replicas"], "spot": asked["spot"]}
    with gateway.open_kube(cluster) as kube:
        context.progress(10, f"Reading {name}")
        pool = _pool(kube, name)
        if "before" not in context.state:
            context.checkpoint(before=karpenter.words(karpenter.facts_of(pool)))
        try:
            patch = karpenter.change(pool, **wanted)
            if patch is not None:
                context.progress(40, f"Changing {name}")
                kube.patch(karpenter.POOLS, "", name, patch)
                pool = _pool(kube, name)
            differs = karpenter.change(pool, **wanted) is not None
        except karpenter.NotChangeable as refused:
            raise OperationFailed(str(refused), code="not_changeable") from None
    told = karpenter.facts_of(pool)
    pools.store_pool(cluster=cluster, name=name, facts=told)
    if differs:
        raise OperationFailed(
            f"{name} has {karpenter.words(told)}: something else changed it.", code="contested", transient=True
        )
    return {"before": context.state["before"], "after": karpenter.words(told), "spot": asked["spot"]}


def _pool(kube: KubeApi, name: str) -> Object:
    found = kube.get(karpenter.POOLS, "", name)
    if found is None:
        raise OperationFailed(f"The NodePool {name} was deleted.", code="group_gone")
    return found


def _read(provider: NodeGroups, kind: GroupKind, name: str) -> Group:
    group = provider.read(kind, name)
    if group is None:
        raise OperationFailed(f"The node group {name} was deleted.", code="group_gone")
    return group
