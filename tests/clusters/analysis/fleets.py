"""Generated clusters: real machine types and prices, invented workloads, placed the way a scheduler spreads them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

from clusters.analysis.facts import (
    ARCH,
    CAPACITY_TYPE,
    HOSTNAME,
    INSTANCE_TYPE,
    MIB,
    ZONE,
    ClusterFacts,
    DisruptionBudget,
    Lifecycle,
    Node,
    Pod,
    PodTerm,
    Requirement,
    Resources,
    Selector,
    Spread,
    Taint,
    Toleration,
)
from clusters.analysis.packing import MachineType, Market

# Name, allocatable CPU (milli) and memory (MiB), pods, on-demand USD an hour in us-east-1 (AWS, 2026-07-20).
CATALOGUE = (
    ("c6i.large", 1930, 3114, 29, "0.085"),
    ("c6i.xlarge", 3920, 6584, 58, "0.17"),
    ("c6i.2xlarge", 7910, 14162, 58, "0.34"),
    ("c6i.4xlarge", 15890, 27381, 234, "0.68"),
    ("c6i.8xlarge", 31850, 57691, 234, "1.36"),
    ("m6i.large", 1930, 6903, 29, "0.096"),
    ("m6i.xlarge", 3920, 14162, 58, "0.192"),
    ("m6i.2xlarge", 7910, 29317, 58, "0.384"),
    ("m6i.4xlarge", 15890, 57691, 234, "0.768"),
    ("m6i.8xlarge", 31850, 118312, 234, "1.536"),
    ("r6i.large", 1930, 14481, 29, "0.126"),
    ("r6i.xlarge", 3920, 29317, 58, "0.252"),
    ("r6i.2xlarge", 7910, 59627, 58, "0.504"),
    ("r6i.4xlarge", 15890, 118312, 234, "1.008"),
    ("r6i.8xlarge", 31850, 239554, 234, "2.016"),
)
PRICED_ON = date(2026, 7, 20)
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
BATCH = Taint("dedicated", "batch")
TOLERATES_BATCH = Toleration("dedicated", "Equal", "batch", "NoSchedule")
TYPES = tuple(MachineType(name, Resources(cpu, memory * MIB), pods) for name, cpu, memory, pods, _ in CATALOGUE)
PRICES = tuple(Market(name, Decimal(price), price_date=PRICED_ON) for name, _, _, _, price in CATALOGUE)
_PRICE = {name: Decimal(price) for name, _, _, _, price in CATALOGUE}


def make_node(
    name: str,
    instance_type: str = "m6i.2xlarge",
    zone: str = ZONES[0],
    lifecycle: Lifecycle = Lifecycle.ON_DEMAND,
    pool: str = "general",
    **changes: object,
) -> Node:
    """A node of the catalogue; `changes` are fields of `Node`."""
    machine = next(machine for machine in TYPES if machine.name == instance_type)
    price = _PRICE[instance_type]
    node = Node(
        name=name,
        allocatable=machine.allocatable,
        max_pods=machine.max_pods,
        instance_type=instance_type,
        lifecycle=lifecycle,
        zone=zone,
        hourly_price=price * Decimal("0.4") if lifecycle is Lifecycle.SPOT else price,
        price_date=PRICED_ON,
        labels={
            HOSTNAME: name,
            ZONE: zone,
            INSTANCE_TYPE: instance_type,
            ARCH: "amd64",
            CAPACITY_TYPE: str(lifecycle),
            "pool": pool,
        },
        taints=(BATCH,) if pool == "batch" else (),
        pool=pool,
    )
    return replace(node, **changes)


@dataclass
class _Cluster:
    random: random.Random
    nodes: list[Node]
    free: dict[str, list[int]]
    pods: list[Pod] = field(default_factory=list)
    on_node: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    in_zone: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))

    def place(self, pod: Pod, node: Node) -> None:
        room = self.free[node.name]
        room[0] -= pod.requests.cpu_milli
        room[1] -= pod.requests.memory_bytes
        room[2] -= 1
        self.on_node[pod.workload][node.name] += 1
        self.in_zone[pod.workload][node.zone] += 1
        self.pods.append(replace(pod, node=node.name))

    def fits(self, pod: Pod, node: Node) -> bool:
        room = self.free[node.name]
        return room[0] >= pod.requests.cpu_milli and room[1] >= pod.requests.memory_bytes and room[2] > 0

    def candidates(self, pod: Pod) -> list[Node]:
        batch = TOLERATES_BATCH in pod.tolerations
        pool = [node for node in self.nodes if (node.pool == "batch") == batch]
        sample = self.random.sample(pool, min(len(pool), 12)) if pool else []
        if pool and any(spread.hard for spread in pod.topology_spread):
            least = min(self.in_zone[pod.workload][zone] for zone in {node.zone for node in pool})
            sample = [node for node in sample if self.in_zone[pod.workload][node.zone] == least]
        if pod.pod_anti_affinity:
            sample = [node for node in sample if not self.on_node[pod.workload][node.name]]
        if pod.zones:
            sample = [node for node in sample if node.zone in pod.zones]
        return [node for node in sample if self.fits(pod, node) and pod.node_selector.matches(node.labels)]


def make_fleet(node_count: int, seed: int = 1, *, rules: bool = True, fill: float = 0.6) -> ClusterFacts:
    """A cluster of about ten pods a node whose nodes are requested to about `fill`."""
    rng = random.Random(seed)
    sizes = [name for name in (row[0] for row in CATALOGUE) if "xlarge" in name and not name.endswith("8xlarge")]
    nodes = []
    for index in range(node_count):
        batch = rules and node_count >= 6 and index % 5 == 0
        spot = rules and not batch and index % 12 == 1
        nodes.append(
            make_node(
                f"node-{index:04d}",
                rng.choice(sizes),
                ZONES[index % len(ZONES)],
                Lifecycle.SPOT if spot else Lifecycle.ON_DEMAND,
                "batch" if batch else "general",
            )
        )
    cluster = _Cluster(
        rng, nodes, {n.name: [n.allocatable.cpu_milli, n.allocatable.memory_bytes, n.max_pods] for n in nodes}
    )
    for node in nodes:
        for name, cpu, memory in (("cni", 50, 64), ("proxy", 100, 64), ("logs", 100, 200)):
            cluster.place(
                Pod(
                    f"{name}-{node.name}",
                    "kube-system",
                    f"kube-system/DaemonSet/{name}",
                    requests=Resources(cpu, memory * MIB),
                    labels={"app": name},
                    tolerations=(Toleration(operator="Exists"),),
                    daemonset=True,
                    owner="DaemonSet",
                ),
                node,
            )
    budgets = _fill(cluster, node_count, rules, fill)
    return ClusterFacts(tuple(nodes), tuple(cluster.pods), tuple(budgets))


def _fill(cluster: _Cluster, node_count: int, rules: bool, fill: float) -> list[DisruptionBudget]:
    rng, budgets = cluster.random, []
    capacity = sum(node.allocatable.cpu_milli for node in cluster.nodes)
    misses, number = 0, 0
    while misses < 40 and sum(room[0] for room in cluster.free.values()) > (1 - fill) * capacity:
        number += 1
        replicas = rng.choice((1, 2, 2, 3, 3, 5, 8, 12, 20))
        template = _workload(rng, number, replicas, rules)
        placed = 0
        for replica in range(replicas):
            pod = replace(template, name=f"{template.name}-{replica}")
            choices = cluster.candidates(pod)
            if choices:
                cluster.place(pod, max(choices, key=lambda node: cluster.free[node.name][0]))
                placed += 1
        misses = 0 if placed else misses + 1
        if rules and replicas > 1 and rng.random() < 0.15:
            budgets.append(
                DisruptionBudget(
                    template.name,
                    template.namespace,
                    Selector.of(app=template.labels["app"]),
                    max_unavailable=rng.choice(("1", "25%", "0")),
                    disruptions_allowed=None,
                )
            )
    return budgets


def _workload(rng: random.Random, number: int, replicas: int, rules: bool) -> Pod:
    cpu = rng.choice((50, 100, 200, 250, 300, 500, 500, 750, 1000, 1500, 2000))
    memory = int(cpu * rng.choice((1, 2, 3, 4, 6, 8)) * 1.024) * MIB
    name, space = f"app-{number}", f"team-{number % 23}"
    me = Selector.of(app=name)
    pod = Pod(
        name,
        space,
        f"{space}/Deployment/{name}",
        requests=Resources(cpu, memory),
        labels={"app": name},
        owner_replicas=replicas,
    )
    if not rules:
        return pod
    dice = rng.random()
    if dice < 0.2:
        pod = replace(pod, pod_anti_affinity=(PodTerm(me),))
    elif dice < 0.45:
        pod = replace(pod, topology_spread=(Spread(me, ZONE, 1),))
    elif dice < 0.5:
        pod = replace(pod, topology_spread=(Spread(me, HOSTNAME, 1, hard=rng.random() < 0.7),))
    dice = rng.random()
    if dice < 0.15:
        pod = replace(pod, tolerations=(TOLERATES_BATCH,), node_selector=Selector.of(pool="batch"))
    elif dice < 0.2:
        pod = replace(pod, node_selector=Selector((Requirement(CAPACITY_TYPE, "In", ("on-demand",)),)))
    return _hindered(rng, pod)


def _hindered(rng: random.Random, pod: Pod) -> Pod:
    """Perhaps a reason not to move it."""
    dice = rng.random()
    if dice < 0.03:
        return replace(pod, do_not_disrupt=True)
    elif dice < 0.05:
        pod = replace(pod, local_volume=True)
    elif dice < 0.06:
        pod = replace(pod, owner="")
    elif dice < 0.11 and not pod.topology_spread:
        pod = replace(pod, zones=frozenset({rng.choice(ZONES)}), owner="StatefulSet")
    return pod
