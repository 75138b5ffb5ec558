"""Which nodes a re-packing may buy: the cluster's own pools, in each type that a price is known for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from clusters.analysis.facts import (
    ARCH,
    CAPACITY_TYPE,
    HOSTNAME,
    INSTANCE_TYPE,
    ZONE,
    Lifecycle,
    Node,
    Resources,
)
from clusters.analysis.packing.model import NodeOffer

_OF_ONE_NODE = frozenset({HOSTNAME, ZONE, INSTANCE_TYPE, CAPACITY_TYPE})
# Labels that the cloud derives from the machine type: they differ between types of one pool.
_OF_THE_TYPE = (
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "karpenter.k8s.aws/",
    "karpenter.azure.com/sku-",
    "topology.k8s.aws/",
    "topology.ebs.csi.aws.com/zone",
    "topology.gke.io/zone",
    "node.kubernetes.io/instance-type",
    "feature.node.kubernetes.io/",
    "alpha.eksctl.io/instance-id",
)


@dataclass(frozen=True, slots=True)
class MachineType:
    """A machine type with what pods may request of it. `labels` are those that the type itself brings."""

    name: str
    allocatable: Resources
    max_pods: int = 110
    architecture: str = "amd64"
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Market:
    """A price of a type. `zone` "" means in every zone."""

    instance_type: str
    hourly_price: Decimal
    lifecycle: Lifecycle = Lifecycle.ON_DEMAND
    zone: str = ""
    price_date: date | None = None


def offers_for(
    nodes: Iterable[Node], types: Iterable[MachineType] = (), prices: Iterable[Market] = ()
) -> tuple[NodeOffer, ...]:
    """More of the same nodes, and each priced type in each pool and zone that the cluster already uses.

    A pool is what its nodes have in common besides host name, zone, type and capacity type: custom labels and taints.
    Only architectures that the pool has today are offered in it. A type without a price is not offered; of two prices
    for the same thing the cheaper one counts.
    """
    fleet = [node for node in nodes if not node.unschedulable]
    machines = {machine.name: machine for machine in types}
    found: dict[tuple[object, ...], NodeOffer] = {}
    for node in fleet:
        if node.hourly_price is not None and node.lifecycle is not Lifecycle.RESERVED:
            _keep_cheaper(found, _same_again(node, node.hourly_price))
    pools: dict[tuple[object, ...], list[Node]] = defaultdict(list)
    for node in fleet:
        pools[_pool_key(node)].append(node)
    priced = [price for price in prices if price.instance_type in machines]
    for peers in pools.values():
        member = peers[0]
        zones = sorted({node.zone for node in peers})
        lifecycles = {_bought_as(node.lifecycle) for node in peers}
        for price in priced:
            machine = machines[price.instance_type]
            wrong_arch = machine.architecture != member.labels.get(ARCH, machine.architecture)
            if wrong_arch or price.lifecycle not in lifecycles:
                continue
            for zone in [price.zone] if price.zone else zones:
                if zone in zones:
                    _keep_cheaper(found, _offer(member, machine, price, zone))
    return tuple(found.values())


def _same_again(node: Node, price: Decimal) -> NodeOffer:
    labels = {key: value for key, value in node.labels.items() if key != HOSTNAME}
    if node.zone:
        labels[ZONE] = node.zone
    return NodeOffer(
        node.instance_type,
        node.allocatable,
        price,
        node.max_pods,
        node.zone,
        node.lifecycle,
        labels,
        node.taints,
        node.pool,
        node.price_date,
    )


def _offer(member: Node, machine: MachineType, price: Market, zone: str) -> NodeOffer:
    labels = {**dict(_pool_labels(member)), **(machine.labels or {})}
    labels |= {INSTANCE_TYPE: machine.name, ARCH: machine.architecture}
    if CAPACITY_TYPE in member.labels:
        labels[CAPACITY_TYPE] = str(price.lifecycle)
    if zone:
        labels[ZONE] = zone
    return NodeOffer(
        machine.name,
        machine.allocatable,
        price.hourly_price,
        machine.max_pods,
        zone,
        price.lifecycle,
        labels,
        member.taints,
        member.pool,
        price.price_date,
    )


def _keep_cheaper(found: dict[tuple[object, ...], NodeOffer], offer: NodeOffer) -> None:
    key = (
        offer.instance_type,
        offer.zone,
        offer.lifecycle,
        offer.pool,
        tuple(sorted(offer.labels.items())),
        offer.taints,
        offer.allocatable,
        offer.max_pods,
    )
    known = found.get(key)
    if known is None or offer.hourly_price < known.hourly_price:
        found[key] = offer


def _pool_labels(node: Node) -> tuple[tuple[str, str], ...]:
    return tuple(
        sorted(
            (key, value)
            for key, value in node.labels.items()
            if key not in _OF_ONE_NODE and not key.startswith(_OF_THE_TYPE)
        )
    )


def _pool_key(node: Node) -> tuple[object, ...]:
    return (node.pool, _pool_labels(node), node.taints)


def _bought_as(lifecycle: Lifecycle) -> Lifecycle:
    return lifecycle if lifecycle is Lifecycle.SPOT else Lifecycle.ON_DEMAND
