"""The efficiency grade: of each dollar, how much buys requested capacity, and how much of what is requested is used.

Two ratios for CPU and for memory, each node counting by what its share of the price is:

- *allocation* = requests / allocatable: what the scheduler has given away (low: consolidate nodes);
- *fit* = usage / requests, where a pod that uses more than it requests counts as fitting (low: right-size pods).

A resource scores the mean of its two ratios, and the score is their mean weighted by the price of CPU and memory
(`weights.py`), from 0 to 100. Letters: A from 90, B from 75, C from 60, D from 45, E from 30, F below; the bands that the
field uses for usage to requests.

Fit is taken over the pods whose usage is known. Where these request less than `MINIMUM_COVERAGE` of the requested money
there is no grade but "no data": an unmeasured cluster is not a bad one. GPUs have their own page and play no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from clusters.analysis.facts import GIB, ClusterFacts, Node, Pod
from clusters.analysis.weights import weigh

GRADES = (("A", 90), ("B", 75), ("C", 60), ("D", 45), ("E", 30), ("F", 0))
NO_DATA = "no data"
MINIMUM_COVERAGE = 0.8


@dataclass(frozen=True, slots=True)
class ResourceEfficiency:
    """One resource. Amounts are in cores or GiB, plain sums for people to read; the ratios are weighted by cost."""

    resource: str
    unit: str
    capacity: float
    requested: float
    used: float | None
    allocation: float
    fit: float | None
    weight: float

    @property
    def score(self) -> float | None:
        """0 to 1."""
        return None if self.fit is None else (self.allocation + self.fit) / 2


@dataclass(frozen=True, slots=True)
class Efficiency:
    """`score` is 0 to 100, or None with the reason in `missing`. `cost` is dollars an hour, the weight in a fleet."""

    grade: str
    score: float | None
    cpu: ResourceEfficiency | None
    memory: ResourceEfficiency | None
    coverage: float
    cost: float
    unpriced: tuple[str, ...]
    missing: str = ""

    @property
    def formula(self) -> str:
        """The computation with its numbers filled in."""
        if self.score is None or self.cpu is None or self.memory is None:
            return f"No grade: {self.missing}."
        lines = [_resource_words(part) for part in (self.cpu, self.memory)]
        total = " + ".join(f"{part.weight:.2f} × {100 * (part.score or 0):.0f}" for part in (self.cpu, self.memory))
        return "\n".join([*lines, f"Score = {total} = {self.score:.0f}, grade {self.grade}"])


def grade_of(score: float) -> str:
    """The letter of a score from 0 to 100."""
    return next(letter for letter, least in GRADES if score >= least)


def efficiency(facts: ClusterFacts) -> Efficiency:
    """Grade one cluster. Nodes without a price are left out and named; if none has one, all count by their size."""
    priced = [node for node in facts.nodes if node.hourly_price is not None]
    unpriced = tuple(sorted(node.name for node in facts.nodes if node.hourly_price is None))
    nodes = priced or list(facts.nodes)
    cost = float(sum(node.hourly_price or 0 for node in priced))
    if not nodes:
        return Efficiency(NO_DATA, None, None, None, 0.0, cost, unpriced, "there are no nodes")
    on_node = facts.pods_by_node()
    weighed = [_Weighed.of(node, on_node[node.name]) for node in nodes]
    requested = sum((w.cpu.requested + w.memory.requested for w in weighed), Fraction(0))
    known = sum((w.cpu.measured + w.memory.measured for w in weighed), Fraction(0))
    if not requested:
        return Efficiency(NO_DATA, None, None, None, 0.0, cost, unpriced, "no pod states what it requests")
    coverage = float(known / requested)
    cpu = _resource("CPU", "cores", 1000, weighed, on_node, nodes)
    memory = _resource("Memory", "GiB", GIB, weighed, on_node, nodes)
    if coverage < MINIMUM_COVERAGE:
        missing = f"usage is known for {coverage:.0%} of what is requested, {MINIMUM_COVERAGE:.0%} are needed"
        return Efficiency(NO_DATA, None, cpu, memory, coverage, cost, unpriced, missing)
    score = 100 * sum(part.weight * (part.score or 0.0) for part in (cpu, memory))
    return Efficiency(grade_of(score), score, cpu, memory, coverage, cost, unpriced)


def combine(grades: Iterable[Efficiency]) -> Efficiency:
    """The grade of several clusters, each counting by its cost. Clusters without a grade are left out."""
    parts = list(grades)
    graded = [part for part in parts if part.score is not None and part.cost > 0]
    cost = sum(part.cost for part in parts)
    unpriced = tuple(name for part in parts for name in part.unpriced)
    weight = sum(part.cost for part in graded)
    if not weight:
        return Efficiency(NO_DATA, None, None, None, 0.0, cost, unpriced, "no cluster has a grade")
    score = sum((part.score or 0.0) * part.cost for part in graded) / weight
    return Efficiency(grade_of(score), score, None, None, weight / cost, cost, unpriced)


@dataclass(frozen=True, slots=True)
class _Part:
    """Money of one node and resource: all of it, requested, requested by measured pods, used by them."""

    capacity: Fraction
    requested: Fraction
    measured: Fraction
    used: Fraction


@dataclass(frozen=True, slots=True)
class _Weighed:
    cpu: _Part
    memory: _Part

    @classmethod
    def of(cls, node: Node, pods: Sequence[Pod]) -> _Weighed:
        """Turn a node's amounts into its money."""
        parts = weigh(node.allocatable)
        total = parts[0] + parts[1]
        price = Fraction(node.hourly_price) if node.hourly_price is not None else total
        rate = price / total if total else Fraction(0)
        return cls(
            _part(rate * parts[0], node.allocatable.cpu_milli, [(p.requests.cpu_milli, _cpu(p)) for p in pods]),
            _part(
                rate * parts[1], node.allocatable.memory_bytes, [(p.requests.memory_bytes, _memory(p)) for p in pods]
            ),
        )


def _part(money: Fraction, allocatable: int, pods: Sequence[tuple[int, int | None]]) -> _Part:
    each = money / allocatable if allocatable else Fraction(0)
    measured = [(request, used) for request, used in pods if used is not None]
    return _Part(
        money,
        each * sum(request for request, _ in pods),
        each * sum(request for request, _ in measured),
        each * sum(min(request, used) for request, used in measured),
    )


def _cpu(pod: Pod) -> int | None:
    return pod.usage.cpu_milli if pod.usage else None


def _memory(pod: Pod) -> int | None:
    return pod.usage.memory_bytes if pod.usage else None


def _resource(
    name: str, unit: str, size: int, weighed: Sequence[_Weighed], on_node: dict[str, list[Pod]], nodes: Sequence[Node]
) -> ResourceEfficiency:
    is_cpu = name == "CPU"
    parts = [w.cpu if is_cpu else w.memory for w in weighed]
    capacity = sum((part.capacity for part in parts), Fraction(0))
    everything = capacity + sum((w.memory.capacity if is_cpu else w.cpu.capacity for w in weighed), Fraction(0))
    requested = sum((part.requested for part in parts), Fraction(0))
    measured = sum((part.measured for part in parts), Fraction(0))
    used = sum((part.used for part in parts), Fraction(0))
    pods = [pod for node in nodes for pod in on_node[node.name]]
    usages = [_cpu(pod) if is_cpu else _memory(pod) for pod in pods]
    known = [usage for usage in usages if usage is not None]
    amounts = [pod.requests.cpu_milli if is_cpu else pod.requests.memory_bytes for pod in pods]
    sizes = [node.allocatable.cpu_milli if is_cpu else node.allocatable.memory_bytes for node in nodes]
    return ResourceEfficiency(
        name,
        unit,
        sum(sizes) / size,
        sum(amounts) / size,
        sum(known) / size if known else None,
        float(min(requested / capacity, Fraction(1))) if capacity else 0.0,
        float(used / measured) if measured else None,
        float(capacity / everything) if everything else 0.5,
    )


def _resource_words(part: ResourceEfficiency) -> str:
    used = "unknown" if part.used is None else f"{part.used:.1f}"
    fit = 0.0 if part.fit is None else part.fit
    return (
        f"{part.resource}: {part.requested:.1f} of {part.capacity:.1f} {part.unit} requested"
        f" ({part.allocation:.0%} by cost), {used} used (fit {fit:.0%});"
        f" ({100 * part.allocation:.0f} + {100 * fit:.0f}) / 2 = {100 * (part.score or 0):.0f}"
    )
