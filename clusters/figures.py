"""From a report's records to figures: nodes, what pods hold of them, groups, namespaces, workloads. Pure.

Works on the wire's plain records, not on typed ones: at 10,000 pods that is what keeps it within seconds and megabytes.
CPU in thousandths of a core, memory in bytes. What is used is None where nobody measured it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from clusters.analysis.allocation import NodeSpan, PodSpan, Share, allocate, held_by, to_dollars
from clusters.analysis.facts import ClusterFacts, Resources
from clusters.providers import karpenter

Record = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, Record]]
FINISHED = frozenset({"Succeeded", "Failed"})
GPU_NAMES = ("nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi")
MOST_WORKLOADS = 200
ZERO = Decimal(0)
MILLION = 1_000_000


@dataclass(slots=True)
class Amount:
    """What something holds: requested, and used as far as it was measured."""

    cpu: int = 0
    memory: int = 0
    gpus: int = 0
    pods: int = 0
    used_cpu: int | None = None
    used_memory: int | None = None
    cost: Decimal = ZERO
    unpriced: int = 0

    def use(self, cpu: int | None, memory: int | None) -> None:
        if cpu is not None:
            self.used_cpu = (self.used_cpu or 0) + cpu
        if memory is not None:
            self.used_memory = (self.used_memory or 0) + memory


@dataclass(slots=True)
class NodeFigures:
    """One node as the platform keeps it; `held` is what its pods request and use."""

    name: str
    record: Record
    capacity: Resources
    allocatable: Resources
    pod_limit: int
    held: Amount = field(default_factory=Amount)


@dataclass(slots=True)
class Figures:
    """Everything that one report says in sums."""

    nodes: dict[str, NodeFigures] = field(default_factory=dict)
    namespaces: dict[str, Amount] = field(default_factory=dict)
    workloads: dict[tuple[str, str, str], Amount] = field(default_factory=dict)
    pods: int = 0
    waiting: int = 0
    idle_cost: Decimal = ZERO
    overhead_cost: Decimal = ZERO
    workload_cost: Decimal = ZERO
    node_cost: Decimal = ZERO


def resources(amounts: Record) -> Resources:
    """CPU, memory and GPUs of an amounts record."""
    return Resources(
        int(amounts.get("cpu", 0)),
        int(amounts.get("memory", 0)),
        sum(int(amounts.get(name, 0)) for name in GPU_NAMES),
    )


def node_figures(nodes: Mapping[str, Record]) -> dict[str, NodeFigures]:
    """The nodes alone, without what runs on them."""
    found = {}
    for name, record in nodes.items():
        allocatable = record.get("allocatable") or {}
        found[name] = NodeFigures(
            name,
            record,
            resources(record.get("capacity") or allocatable),
            resources(allocatable),
            int(allocatable.get("pods", 0)),
        )
    return found


def figures(tables: Tables, usage: Record, priced: Collection[str]) -> Figures:
    """Sum up a report, without money (see `share_out`).

    `usage` is the last sample (`pods`: key -> container -> [nanocores, bytes]), `priced` the nodes with a price.
    """
    found = Figures(node_figures(tables.get("nodes") or {}))
    specs, owners = tables.get("specs") or {}, tables.get("workloads") or {}
    used_pods = usage.get("pods") or {}
    for key, pod in (tables.get("pods") or {}).items():
        if pod.get("phase") in FINISHED:
            continue
        space = str(pod.get("namespace", ""))
        request = resources((specs.get(str(pod.get("spec"))) or {}).get("requests") or {})
        cpu, memory = _used(used_pods.get(key))
        owner = found.workloads.setdefault((space, *top_owner(pod, owners)), Amount())
        room = found.namespaces.setdefault(space, Amount())
        node = found.nodes.get(str(pod.get("node", "")))
        found.pods += 1
        found.waiting += node is None
        unpriced = node is not None and node.name not in priced
        for amount in (owner, room, node.held) if node else (owner, room):
            _hold(amount, request, cpu, memory)
            amount.unpriced += unpriced
    _node_usage(found, usage.get("nodes") or {})
    return found


def share_out(found: Figures, facts: ClusterFacts, at: datetime) -> None:
    """Divide what the priced nodes cost in an hour between workloads, idle room and overhead; adds up exactly."""
    end = at + timedelta(hours=1)
    nodes = [
        NodeSpan(node.name, at, end, node.hourly_price, node.capacity or node.allocatable, node.allocatable)
        for node in facts.nodes
        if node.hourly_price is not None
    ]
    pods = [
        PodSpan(
            pod.node,
            pod.namespace,
            pod.workload,
            at,
            end,
            held_by(pod.requests, pod.usage),
            overhead=pod.daemonset or pod.mirror,
        )
        for pod in facts.pods
        if pod.node
    ]
    shared = allocate(nodes, pods)
    for name, dollars in shared.by_namespace().items():
        if name in found.namespaces:
            found.namespaces[name].cost += dollars
    for key, dollars in shared.by_workload().items():
        owner = tuple(key.split("/", 2))
        if len(owner) == 3 and owner in found.workloads:
            found.workloads[owner].cost += dollars
    found.node_cost = to_dollars(shared.units)
    found.workload_cost = shared.total(Share.WORKLOAD)
    found.idle_cost = shared.total(Share.IDLE)
    found.overhead_cost = shared.total(Share.OVERHEAD)


def _hold(amount: Amount, request: Resources, cpu: int | None, memory: int | None) -> None:
    amount.cpu += request.cpu_milli
    amount.memory += request.memory_bytes
    amount.gpus += request.gpus
    amount.pods += 1
    amount.use(cpu, memory)


def _used(boxes: Any) -> tuple[int | None, int | None]:
    """Thousandths of a core and bytes that a pod's containers used; None where no container says."""
    if not boxes:
        return None, None
    cpu = [pair[0] for pair in boxes.values() if pair[0] is not None]
    memory = [pair[1] for pair in boxes.values() if pair[1] is not None]
    return (sum(cpu) // MILLION if cpu else None), (sum(memory) if memory else None)


def _node_usage(found: Figures, used: Mapping[str, Any]) -> None:
    """The node's own measure, which includes the system, wins over the sum of its pods."""
    for name, pair in used.items():
        node = found.nodes.get(name)
        if node is None:
            continue
        if pair[0] is not None:
            node.held.used_cpu = pair[0] // MILLION
        if pair[1] is not None:
            node.held.used_memory = pair[1]


def top_owner(pod: Record, workloads: Mapping[str, Record]) -> tuple[str, str]:
    """Kind and name of the outermost controller; ("Pod", its name) for a bare pod."""
    owner, hops = pod.get("owner"), 0
    space = pod.get("namespace", "")
    while owner and hops < 4:
        parent = workloads.get(f"{owner.get('kind')}/{space}/{owner.get('name')}")
        if parent is None or not parent.get("owner"):
            return str(owner.get("kind", "")), str(owner.get("name", ""))
        owner, hops = parent["owner"], hops + 1
    return ("Pod", str(pod.get("name", ""))) if not owner else (str(owner.get("kind", "")), str(owner.get("name", "")))


def group_rows(
    found: Figures, prices: Mapping[str, Decimal | None], pools: Mapping[str, Record]
) -> list[dict[str, Any]]:
    """Node groups (EKS managed, Karpenter, ...) with their nodes in sums, the dearest first."""
    groups: dict[tuple[str, str], list[NodeFigures]] = defaultdict(list)
    for node in found.nodes.values():
        groups[(str(node.record.get("group_kind", "")), str(node.record.get("group", "")))].append(node)
    for name in pools:
        groups.setdefault(("karpenter", name), [])
    rows = [_group_row(kind, name, nodes, prices, pools) for (kind, name), nodes in groups.items()]
    return sorted(rows, key=lambda row: (-Decimal(row["hourly"] or 0), row["name"]))


def _group_row(
    kind: str, name: str, nodes: list[NodeFigures], prices: Mapping[str, Decimal | None], pools: Mapping[str, Record]
) -> dict[str, Any]:
    known = [price for node in nodes if (price := prices.get(node.name)) is not None]
    pool = pools.get(name) if kind == "karpenter" else None
    return {
        "kind": kind,
        "name": name,
        "nodes": len(nodes),
        "spot": sum(node.record.get("lifecycle") == "spot" for node in nodes),
        "on_demand": sum(node.record.get("lifecycle") == "on-demand" for node in nodes),
        "ready": sum(bool(node.record.get("ready")) for node in nodes),
        "types": sorted({str(node.record.get("instance_type", "")) for node in nodes} - {""}),
        "zones": sorted({str(node.record.get("zone", "")) for node in nodes} - {""}),
        "cpu_milli": sum(node.allocatable.cpu_milli for node in nodes),
        "memory_bytes": sum(node.allocatable.memory_bytes for node in nodes),
        "requested_cpu_milli": sum(node.held.cpu for node in nodes),
        "requested_memory_bytes": sum(node.held.memory for node in nodes),
        "hourly": str(sum(known, ZERO)) if known or not nodes else None,
        "unpriced": len(nodes) - len(known),
        **(karpenter.facts(pool) if pool else {"limits": {}}),
    }


def amount_row(amount: Amount) -> dict[str, Any]:
    """An amount as JSON; its cost is None when none of its pods stands on a priced node."""
    return {
        "pods": amount.pods,
        "cpu_milli": amount.cpu,
        "memory_bytes": amount.memory,
        "gpus": amount.gpus,
        "used_cpu_milli": amount.used_cpu,
        "used_memory_bytes": amount.used_memory,
        "hourly": None if amount.unpriced and not amount.cost else f"{amount.cost:.8f}",
        "unpriced_pods": amount.unpriced,
    }


def namespace_rows(found: Figures) -> list[dict[str, Any]]:
    """Namespaces, the dearest first."""
    rows = sorted(found.namespaces.items(), key=lambda item: (-item[1].cost, -item[1].cpu, item[0]))
    return [{"name": name, **amount_row(amount)} for name, amount in rows]


def workload_rows(found: Figures) -> list[dict[str, Any]]:
    """The dearest workloads."""
    rows = sorted(found.workloads.items(), key=lambda item: (-item[1].cost, -item[1].cpu, item[0]))
    return [
        {"namespace": space, "kind": kind, "name": name, **amount_row(amount)}
        for (space, kind, name), amount in rows[:MOST_WORKLOADS]
    ]


def happened(events: Iterable[Record], after: datetime | None, kinds: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """How often each kind of event was seen last after a moment."""
    counted = dict.fromkeys(kinds, 0)
    for event in events:
        last = event.get("last_at")
        if after is not None and (not last or datetime.fromisoformat(last) <= after):
            continue
        for kind, reasons in kinds.items():
            if event.get("reason") in reasons:
                counted[kind] += 1
    return counted
