"""Which workloads could run on spot nodes, the reason for every no, and what it would save.

A workload is ready when losing any one of its nodes at two minutes' notice is no incident. Each reason below alone is a
no. The score is the share of the money of ready workloads in that of all workloads (daemonsets run wherever nodes are,
and are left out); where nodes have no price, requests are weighed instead and `weighed_by` says so.

Savings are potential: for each ready pod that runs on-demand, the share of its node that it requests (by the weights of
`weights.py`) times the node's price less the spot price of the same type, in dollars a month of 730 hours. Idle room on
those nodes is not counted: that is re-packing's saving. A type or zone whose spot price is not known adds nothing and is
named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from clusters.analysis.facts import (
    CAPACITY_TYPE,
    HOURS_PER_MONTH,
    ClusterFacts,
    DisruptionBudget,
    Lifecycle,
    Node,
    Pod,
    Selector,
    Workload,
)
from clusters.analysis.weights import weigh

NOTICE_SECONDS = 120  # AWS announces an interruption two minutes before
SYSTEM_PRIORITY = 2_000_000_000  # system-cluster-critical and above


class NotReady(StrEnum):
    """Why a workload must not run on spot nodes."""

    PERSISTENT_VOLUME = "persistent_volume"
    SINGLE_REPLICA = "single_replica"
    NO_BUDGET = "no_budget"
    LOCAL_STORAGE = "local_storage"
    LONG_GRACE = "long_grace"
    DO_NOT_DISRUPT = "do_not_disrupt"
    GPU = "gpu"
    BARE_POD = "bare_pod"
    ONE_NODE = "one_node"
    NOT_RESTARTED = "not_restarted"
    SYSTEM_CRITICAL = "system_critical"
    PINNED = "pinned"
    NO_PODS = "no_pods"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    NotReady.PERSISTENT_VOLUME: "its data is on a persistent volume, which takes minutes to follow it",
    NotReady.SINGLE_REPLICA: "it has one replica: an interruption is an outage",
    NotReady.NO_BUDGET: "no disruption budget keeps enough replicas up while nodes drain",
    NotReady.LOCAL_STORAGE: "it keeps data on its node's own disk",
    NotReady.LONG_GRACE: f"it asks for more than the {NOTICE_SECONDS} seconds of notice to shut down",
    NotReady.DO_NOT_DISRUPT: "it is marked do-not-disrupt",
    NotReady.GPU: "it uses GPUs, whose spot capacity comes and goes",
    NotReady.BARE_POD: "no controller would create it again",
    NotReady.ONE_NODE: "all its replicas are on one node",
    NotReady.NOT_RESTARTED: "it is not started again when it fails",
    NotReady.SYSTEM_CRITICAL: "the cluster itself needs it",
    NotReady.PINNED: "its own rules ask for on-demand nodes",
    NotReady.NO_PODS: "it has no running pods to judge by",
}


@dataclass(frozen=True, slots=True)
class SpotPrice:
    """What a type costs as spot. `zone` "" holds for every zone that has no price of its own."""

    instance_type: str
    hourly_price: Decimal
    zone: str = ""
    price_date: date | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """One workload. `monthly_savings` is potential and covers pods with a known spot price; None when none has one."""

    workload: str
    kind: str
    ready: bool
    reasons: tuple[NotReady, ...]
    pods: int
    spot_pods: int
    hourly_cost: Decimal | None
    monthly_savings: Decimal | None


@dataclass(frozen=True, slots=True)
class SpotReadiness:
    """`score` is 0 to 1, None without workloads. `unknown_prices` are "type in zone" that no spot price is known for."""

    score: float | None
    weighed_by: str
    workloads: tuple[Readiness, ...]
    monthly_savings: Decimal
    unknown_prices: tuple[str, ...]
    unpriced_nodes: tuple[str, ...]
    oldest_price: date | None


def spot_readiness(facts: ClusterFacts, spot_prices: Sequence[SpotPrice]) -> SpotReadiness:
    """Judge every workload that is not a daemonset. Workloads without a `Workload` fact are judged by their pods."""
    book = {(price.instance_type, price.zone): price for price in spot_prices}
    nodes = {node.name: node for node in facts.nodes}
    pods_of: dict[str, list[Pod]] = defaultdict(list)
    for pod in facts.pods:
        if pod.node in nodes and not pod.daemonset and not pod.mirror:
            pods_of[pod.workload or f"{pod.namespace}/Pod/{pod.name}"].append(pod)
    known = {workload.key: workload for workload in facts.workloads if workload.kind != "DaemonSet"}
    found = _Findings()
    judged = []
    for key in sorted({*pods_of, *known}):
        workload = known.get(key) or _assumed(key, pods_of[key])
        judged.append(_judge(workload, pods_of.get(key, []), nodes, facts.budgets, book, found))
    score, weighed_by = _score(judged, pods_of)
    return SpotReadiness(
        score=score,
        weighed_by=weighed_by,
        workloads=tuple(judged),
        monthly_savings=sum((w.monthly_savings for w in judged if w.monthly_savings is not None), Decimal(0)),
        unknown_prices=tuple(sorted(found.unknown)),
        unpriced_nodes=tuple(sorted(found.unpriced)),
        oldest_price=min(found.dates, default=None),
    )


@dataclass(slots=True)
class _Findings:
    unknown: set[str] = field(default_factory=set)
    unpriced: set[str] = field(default_factory=set)
    dates: list[date] = field(default_factory=list)


def _assumed(key: str, pods: Sequence[Pod]) -> Workload:
    """What the pods alone tell about a workload that the inventory does not know."""
    parts = key.split("/", 2)
    namespace, kind, name = parts if len(parts) == 3 else (pods[0].namespace, pods[0].owner or "Pod", key)
    return Workload(namespace, kind, name, pods[0].owner_replicas)


def reasons_against(workload: Workload, pods: Sequence[Pod], budgets: Sequence[DisruptionBudget]) -> list[NotReady]:
    """Every reason for a no, in the order of the enum; an empty list is a yes."""
    if not pods:
        return [NotReady.NO_PODS]
    is_job = workload.kind in {"Job", "CronJob"}
    replicas = workload.replicas if workload.replicas is not None else len(pods)
    stateful = workload.persistent_volumes or any(pod.zones is not None for pod in pods)
    guarded = any(budget.selects(pod) for budget in budgets for pod in pods[:1])
    bare = workload.kind == "Pod" or any(not pod.owner for pod in pods)
    tests = {
        NotReady.PERSISTENT_VOLUME: stateful,
        NotReady.SINGLE_REPLICA: not is_job and not bare and replicas < 2,
        NotReady.NO_BUDGET: not is_job and not bare and replicas > 1 and not guarded,
        NotReady.LOCAL_STORAGE: any(pod.local_volume for pod in pods),
        NotReady.LONG_GRACE: (workload.grace_seconds or 0) > NOTICE_SECONDS,
        NotReady.DO_NOT_DISRUPT: any(pod.do_not_disrupt for pod in pods),
        NotReady.GPU: any(pod.requests.gpus for pod in pods),
        NotReady.BARE_POD: bare,
        NotReady.ONE_NODE: not is_job and len(pods) > 1 and len({pod.node for pod in pods}) == 1,
        NotReady.NOT_RESTARTED: is_job and not workload.restarts_on_failure,
        NotReady.SYSTEM_CRITICAL: any(pod.priority >= SYSTEM_PRIORITY for pod in pods),
        NotReady.PINNED: any(_refuses_spot(pod) for pod in pods),
    }
    return [reason for reason, holds in tests.items() if holds]


def _refuses_spot(pod: Pod) -> bool:
    """Whether its own selector or affinity keeps it from nodes that are like its node, but spot."""
    spot = {CAPACITY_TYPE: "spot", "eks.amazonaws.com/capacityType": "SPOT"}

    def refuses(selector: Selector) -> bool:
        return any(not requirement.holds(spot) for requirement in selector.requirements if requirement.key in spot)

    return refuses(pod.node_selector) or (bool(pod.node_affinity) and all(map(refuses, pod.node_affinity)))


def _judge(
    workload: Workload,
    pods: Sequence[Pod],
    nodes: Mapping[str, Node],
    budgets: Sequence[DisruptionBudget],
    book: Mapping[tuple[str, str], SpotPrice],
    found: _Findings,
) -> Readiness:
    reasons = reasons_against(workload, pods, budgets)
    costs, savings = [], []
    for pod in pods:
        node = nodes[pod.node or ""]
        if node.hourly_price is None:
            found.unpriced.add(node.name)
            continue
        costs.append(part_of_node(pod, node) * Fraction(node.hourly_price))
        if not reasons and node.lifecycle is not Lifecycle.SPOT:
            saved = _saving(pod, node, book, found)
            if saved is not None:
                savings.append(saved)
    return Readiness(
        workload=workload.key,
        kind=workload.kind,
        ready=not reasons,
        reasons=tuple(reasons),
        pods=len(pods),
        spot_pods=sum(nodes[pod.node or ""].lifecycle is Lifecycle.SPOT for pod in pods),
        hourly_cost=_decimal(sum(costs, Fraction(0))) if costs else None,
        monthly_savings=_decimal(sum(savings, Fraction(0)) * HOURS_PER_MONTH) if savings else None,
    )


def part_of_node(pod: Pod, node: Node) -> Fraction:
    """The share of a node's price that a pod's requests stand for, 0 to 1."""
    whole = sum(weigh(node.allocatable), Fraction(0))
    return min(Fraction(1), sum(weigh(pod.requests), Fraction(0)) / whole) if whole else Fraction(0)


def _saving(pod: Pod, node: Node, book: Mapping[tuple[str, str], SpotPrice], found: _Findings) -> Fraction | None:
    price = book.get((node.instance_type, node.zone)) or book.get((node.instance_type, ""))
    if price is None:
        found.unknown.add(f"{node.instance_type or 'unknown type'} in {node.zone or 'unknown zone'}")
        return None
    if price.price_date is not None:
        found.dates.append(price.price_date)
    difference = Fraction(node.hourly_price or 0) - Fraction(price.hourly_price)
    return part_of_node(pod, node) * max(difference, Fraction(0))


def _score(judged: Sequence[Readiness], pods_of: Mapping[str, Sequence[Pod]]) -> tuple[float | None, str]:
    running = [w for w in judged if w.pods]
    if not running:
        return None, "nothing"
    weights = {w.workload: float(w.hourly_cost) for w in running if w.hourly_cost is not None}
    weighed_by = "cost"
    if len(weights) < len(running) or not sum(weights.values()):
        weighed_by = "requests"
        weights = {
            w.workload: float(sum((sum(weigh(pod.requests), Fraction(0)) for pod in pods_of[w.workload]), Fraction(0)))
            for w in running
        }
    total = sum(weights.values())
    if not total:
        return sum(w.ready for w in running) / len(running), "workloads"
    return sum(weights[w.workload] for w in running if w.ready) / total, weighed_by


def _decimal(value: Fraction) -> Decimal:
    return (Decimal(value.numerator) / Decimal(value.denominator)).quantize(Decimal("0.000001"))
