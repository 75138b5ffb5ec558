"""Clusters for the measurements of the policies: Karpenter's published scenario, and real arrivals of machines.

Karpenter's scenario is the one that its design "Balanced consolidation" describes (kubernetes-sigs/karpenter, designs/):
CPU and memory of the pods drawn apart from log-normal distributions (mu 0 and 1.5, sigma 1 and 1.2; cores in halves from
0.25 to 16, GiB from 1 to 120), one pod in seven costs nothing to evict and one ten times the ordinary, machines of the
families c7i, m7i and r7i, packed first-fit-decreasing, then ten rounds in which up to 80 % of a node's pods end and up to
three come. Machine types with what pods may request of them and prices: aws/karpenter-provider-aws, us-east-1, 2026-07-20.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from clusters.analysis.facts import (
    ARCH,
    CAPACITY_TYPE,
    GIB,
    HOSTNAME,
    INSTANCE_TYPE,
    MIB,
    ZONE,
    ClusterFacts,
    Lifecycle,
    Node,
    Pod,
    Resources,
)
from clusters.analysis.packing import NodeOffer

SHARED = Path(
    os.environ.get("CURFEW_SHARED_DATA") or Path(__file__).resolve().parents[1].parent.parent / "shared" / "data"
)
_PRIORITY_UNIT = 1 << 25
_FAMILIES = ("c7i", "m7i", "r7i")


def shared(name: str) -> list[dict[str, str]] | None:
    """The rows of one file of the shared data; None where it is absent."""
    for folder in (SHARED, Path(__file__).resolve().parents[2] / "shared" / "data"):
        if (folder / name).exists():
            with gzip.open(folder / name, "rt", encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))
    return None


def machine_offers(
    families: tuple[str, ...] = _FAMILIES, *, spot: bool = False, most_vcpus: int = 96
) -> list[NodeOffer]:
    """Machine types with real allocatable amounts and prices, one zone. Spot at the estimate of the shared table."""
    sizes = shared("aws_catalog/ref/karpenter_node_allocatable.csv.gz") or []
    prices = {
        row["instance_type"]: Decimal(row["spot_usd_estimate" if spot else "ondemand_usd_2025-04-04"])
        for row in shared("aws_catalog/dev/joined_linux_5regions.csv.gz") or []
        if row["region"] == "us-east-1" and row["spot_usd_estimate" if spot else "ondemand_usd_2025-04-04"]
    }
    found = []
    for row in sizes:
        name = row["instance_type"]
        if name.split(".")[0] not in families or "metal" in name or int(row["capacity_vcpu"]) > most_vcpus:
            continue
        if name not in prices:
            continue
        lifecycle = Lifecycle.SPOT if spot else Lifecycle.ON_DEMAND
        found.append(
            NodeOffer(
                name,
                Resources(int(row["allocatable_cpu"][:-1]), int(row["allocatable_memory"][:-2]) * MIB),
                prices[name],
                int(row["allocatable_pods"]),
                "us-east-1a",
                lifecycle,
                {ZONE: "us-east-1a", INSTANCE_TYPE: name, ARCH: "amd64", CAPACITY_TYPE: str(lifecycle)},
                pool="general",
            )
        )
    return sorted(found, key=lambda offer: (offer.hourly_price, offer.instance_type))


class _Machine:
    def __init__(self, offer: NodeOffer) -> None:
        self.offer = offer
        self.pods: list[tuple[int, int, int]] = []
        self.cpu, self.memory = offer.allocatable.cpu_milli, offer.allocatable.memory_bytes

    def put(self, pod: tuple[int, int, int]) -> bool:
        if pod[0] > self.cpu or pod[1] > self.memory or len(self.pods) >= self.offer.max_pods:
            return False
        self.cpu, self.memory = self.cpu - pod[0], self.memory - pod[1]
        self.pods.append(pod)
        return True

    def keep(self, pods: list[tuple[int, int, int]]) -> None:
        self.cpu, self.memory = self.offer.allocatable.cpu_milli, self.offer.allocatable.memory_bytes
        self.pods = []
        for pod in pods:
            self.put(pod)


def _a_pod(rng: random.Random) -> tuple[int, int, int]:
    """CPU in milli, memory in bytes, and what evicting it counts for."""
    cpu = min(max(round(rng.lognormvariate(0.0, 1.0) * 2) / 2, 0.25), 16)
    memory = min(max(round(rng.lognormvariate(1.5, 1.2)), 1), 120)
    return int(cpu * 1000), memory * GIB, rng.choice((0, 1, 1, 1, 1, 1, 10))


def karpenter_scenario(pods: int = 5000, *, together: int = 1, seed: int = 42) -> tuple[ClusterFacts, list[NodeOffer]]:
    """The published cluster after ten rounds of churn. `together`: a node is bought for that many pods at once (1, as
    published, gives two or three pods a node)."""
    rng = random.Random(seed)
    offers = machine_offers()
    wanted = sorted((_a_pod(rng) for _ in range(pods)), key=lambda pod: -pod[0] * pod[1])
    if together > 1:
        rng.shuffle(wanted)
    machines: list[_Machine] = []
    while wanted:
        group, wanted = wanted[:together], wanted[together:]
        if together == 1 and any(machine.put(group[0]) for machine in machines):
            continue
        machines.append(_bought(group, offers))
    for _ in range(10):
        for machine in machines:
            _churn(machine, rng)
        machines = [machine for machine in machines if machine.pods]
    return _facts(machines), offers


def _bought(group: list[tuple[int, int, int]], offers: list[NodeOffer]) -> _Machine:
    cpu, memory = sum(pod[0] for pod in group), sum(pod[1] for pod in group)
    offer = next(o for o in offers if o.allocatable.cpu_milli >= cpu and o.allocatable.memory_bytes >= memory)
    machine = _Machine(offer)
    for pod in group:
        machine.put(pod)
    return machine


def _churn(machine: _Machine, rng: random.Random) -> None:
    if len(machine.pods) > 1:
        ends = int(len(machine.pods) * rng.uniform(0.0, 0.8))
        machine.keep(rng.sample(machine.pods, len(machine.pods) - ends))
    for _ in range(rng.randrange(4)):
        machine.put(_a_pod(rng))


def _facts(machines: list[_Machine]) -> ClusterFacts:
    nodes, pods = [], []
    for index, machine in enumerate(machines):
        node = machine.offer.as_node(f"node-{index:04d}")
        nodes.append(node)
        for cpu, memory, trouble in machine.pods:
            number = len(pods)
            pods.append(
                Pod(
                    f"app-{number}-0",
                    workload=f"default/Deployment/app-{number}",
                    node=node.name,
                    requests=Resources(cpu, memory),
                    labels={"app": f"app-{number}"},
                    owner_replicas=1,
                    priority=(trouble - 1) * _PRIORITY_UNIT,
                )
            )
    return ClusterFacts(tuple(nodes), tuple(pods))


def arrivals(rounds: int, minutes: int, every: int = 20) -> Iterator[tuple[list[Pod], set[str]]]:
    """Real arrivals of virtual machines in a cloud (Azure, 2017; one in `every` batches), as pods: for each round those
    that came and the names of those that ended. Needs the shared data."""
    rows = shared("azure_vm_arrivals_2017/dev/vm_arrivals.csv.gz")
    if rows is None:
        return
    began = int(rows[0]["t_seconds"])
    rows = [row for row in rows if int(row["batch"]) % every == 0 and float(row["vcpu"]) <= 16]
    ends: list[tuple[int, str]] = []
    at = number = 0
    for turn in range(1, rounds + 1):
        until = began + turn * minutes * 60
        came = []
        while at < len(rows) and int(rows[at]["t_seconds"]) < until:
            row = rows[at]
            at += 1
            for copy in range(min(int(row["count"]), 20)):
                number += 1
                pod = _arrived(row, number, copy)
                came.append(pod)
                if row["still_running_at_end"] == "0":
                    ends.append((int(row["t_seconds"]) + int(row["lifetime_max_s"]), pod.key))
        over = {key for end, key in ends if end < until}
        ends = [pair for pair in ends if pair[0] >= until]
        yield came, over


def _arrived(row: dict[str, str], number: int, copy: int) -> Pod:
    batch = f"batch-{row['batch']}"
    # A machine of that size leaves room for the system beside it: what a pod would request is less than the whole.
    cpu, memory = int(float(row["vcpu"]) * 900), int(float(row["memory_gb"]) * 0.85 * GIB)
    return Pod(
        f"{batch}-{number}-{copy}",
        workload=f"default/Deployment/{batch}",
        requests=Resources(cpu, memory),
        labels={"app": batch},
        owner_replicas=int(row["count"]),
    )


def govuk(environment: str = "production") -> list[Pod]:
    """The real requests of a government's clusters (alphagov/govuk-helm-charts), pods that wait; empty where absent."""
    pods: dict[str, list[Resources]] = {}
    replicas: dict[str, int] = {}
    for row in shared("k8s_workloads_govuk/dev/workloads.csv.gz") or []:
        if row["environment"] == environment:
            asked = Resources(int(float(row["cpu_request_m"])), int(float(row["mem_request_mib"]) * MIB))
            name = f"{row['app']}-worker" if "worker" in row["component"] else row["app"]
            pods.setdefault(name, []).append(asked)
            replicas[name] = max(replicas.get(name, 0), int(row["replicas"] or 1))
    return [
        Pod(
            f"{app}-{copy}",
            workload=f"default/Deployment/{app}",
            requests=sum(asked, Resources()),
            labels={"app": app},
            owner_replicas=replicas[app],
        )
        for app, asked in sorted(pods.items())
        for copy in range(replicas[app])
    ]


def with_daemons(facts: ClusterFacts) -> ClusterFacts:
    """The same with three small daemonsets on every node, where they fit."""
    free = {node.name: node.allocatable for node in facts.nodes}
    for pod in facts.pods:
        if pod.node in free:
            free[pod.node] -= pod.requests
    daemons = []
    for node in facts.nodes:
        for name, cpu, memory in (("cni", 50, 64), ("proxy", 100, 64), ("logs", 100, 200)):
            need = Resources(cpu, memory * MIB)
            if need.at_most(free[node.name]):
                free[node.name] -= need
                daemons.append(
                    Pod(f"{name}-{node.name}", "kube-system", f"kube-system/DaemonSet/{name}", node.name, need,
                        labels={"app": name}, daemonset=True, owner="DaemonSet")
                )  # fmt: skip
    return replace(facts, pods=(*facts.pods, *daemons))


def named(node: Node, name: str) -> Node:
    """The node under another name."""
    return replace(node, name=name, labels={**node.labels, HOSTNAME: name})
