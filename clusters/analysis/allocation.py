"""Who a cluster's money went to: workloads, idle room and overhead, adding up to the bill to the last digit.

For every stretch of time in which nothing changes on a node, its price divides between CPU, memory and GPUs (`weights.py`)
and then between those who hold them:

- **overhead**: what the system reserves (capacity minus allocatable) and what daemonsets and static pods hold;
- **workload**: each other pod holds the larger of what it requests and what it uses;
- **idle**: what nobody holds. Where pods use more than the node has, their shares shrink in proportion; idle is never
  negative.

**Exact.** Money is counted in whole units of 10^-12 dollar seconds per hour (a price of up to 12 decimals times whole
seconds is a whole number of them), and parts are rounded by largest remainder. So workload + idle + overhead equals
node price x time exactly, whatever is added up, in days of 23 and 25 hours as well: time is counted in UTC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from clusters.analysis.facts import NOTHING, Resources
from clusters.analysis.weights import shares

UNITS_PER_DOLLAR_HOUR = 10**12
UNITS_PER_DOLLAR = UNITS_PER_DOLLAR_HOUR * 3600
_CENT_DIGITS = Decimal("0.000000001")


class Share(StrEnum):
    """What a part of a node's money was for."""

    WORKLOAD = "workload"
    IDLE = "idle"
    OVERHEAD = "overhead"


@dataclass(frozen=True, slots=True)
class NodeSpan:
    """A node at one price for a stretch of time. `capacity` is the whole machine; aware moments, whole seconds count."""

    node: str
    start: datetime
    end: datetime
    hourly_price: Decimal
    capacity: Resources
    allocatable: Resources


@dataclass(frozen=True, slots=True)
class PodSpan:
    """A pod on a node for a stretch of time, with what it held: the larger of requests and mean usage."""

    node: str
    namespace: str
    workload: str
    start: datetime
    end: datetime
    held: Resources
    overhead: bool = False  # a daemonset's or a static pod


@dataclass(frozen=True, slots=True)
class Line:
    """A part of the bill, in exact units. `namespace` and `workload` are "" for idle and what the system reserves."""

    node: str
    share: Share
    namespace: str
    workload: str
    units: int

    @property
    def dollars(self) -> Decimal:
        return to_dollars(self.units)


@dataclass(frozen=True, slots=True)
class Allocation:
    """All parts of some nodes' bill. `units` is the bill itself: node price x time."""

    lines: tuple[Line, ...]
    units: int

    def total(self, share: Share) -> Decimal:
        return to_dollars(self.units_of(share))

    def units_of(self, share: Share) -> int:
        return sum(line.units for line in self.lines if line.share is share)

    def by_namespace(self) -> dict[str, Decimal]:
        """Dollars of each namespace's workloads and daemonsets, most expensive first; "" is nobody's."""
        return self._by(lambda line: line.namespace)

    def by_workload(self) -> dict[str, Decimal]:
        """Dollars of each workload, most expensive first."""
        return self._by(lambda line: line.workload)

    def by_node(self) -> dict[str, Decimal]:
        return self._by(lambda line: line.node)

    def _by(self, key: Callable[[Line], str]) -> dict[str, Decimal]:
        units: dict[str, int] = defaultdict(int)
        for line in self.lines:
            units[key(line)] += line.units
        return {
            name: to_dollars(amount) for name, amount in sorted(units.items(), key=lambda pair: (-pair[1], pair[0]))
        }


def to_dollars(units: int) -> Decimal:
    """Units as dollars with nine decimals."""
    exact = Fraction(units, UNITS_PER_DOLLAR)
    return (Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(_CENT_DIGITS)


def allocate(nodes: Iterable[NodeSpan], pods: Iterable[PodSpan]) -> Allocation:
    """Divide what the nodes cost. Pods on nodes that are not given, or outside a node's time, cost nothing.

    Raises ValueError for a price with more than 12 decimals, a moment without a zone, or spans of one node that overlap.
    """
    on_node: dict[str, list[PodSpan]] = defaultdict(list)
    for pod in pods:
        on_node[pod.node].append(pod)
    lines: dict[tuple[str, Share, str, str], int] = defaultdict(int)
    total = 0
    last_end: dict[str, int] = {}
    for span in sorted(nodes, key=lambda span: (span.node, _second(span.start))):
        if _second(span.start) < last_end.get(span.node, -(1 << 62)):
            raise ValueError(f"two spans of {span.node} overlap")
        last_end[span.node] = _second(span.end)
        for start, end, present in _segments(span, on_node.get(span.node, [])):
            units = _price_units(span.hourly_price) * (end - start)
            total += units
            for key, part in _divide(span, present, units):
                if part:
                    lines[key] += part
    return Allocation(tuple(Line(*key, units) for key, units in sorted(lines.items())), total)


def split_at_days(spans: Iterable[NodeSpan], zone: tzinfo) -> dict[date, list[NodeSpan]]:
    """Cut node spans at the midnights of a zone. A day may have 23 or 25 hours; nothing is lost or counted twice."""
    days: dict[date, list[NodeSpan]] = defaultdict(list)
    for span in spans:
        at = span.start.astimezone(UTC)
        end = span.end.astimezone(UTC)
        while at < end:
            day = at.astimezone(zone).date()
            stop = min(end, max(_midnight_after(day, zone), at + timedelta(seconds=1)))
            days[day].append(NodeSpan(span.node, at, stop, span.hourly_price, span.capacity, span.allocatable))
            at = stop
    return dict(days)


def _midnight_after(day: date, zone: tzinfo) -> datetime:
    """The first instant of the next date, in UTC."""
    following = day + timedelta(days=1)
    local = datetime(following.year, following.month, following.day, tzinfo=zone)
    instant = local.astimezone(UTC)
    while instant.astimezone(zone).date() < following:  # the clock skips midnight: the gap's end
        instant += timedelta(minutes=15)
    return instant


def _second(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    return int(moment.timestamp() // 1)


def _price_units(price: Decimal) -> int:
    units = Fraction(price) * UNITS_PER_DOLLAR_HOUR
    if units.denominator != 1 or units < 0:
        raise ValueError(f"the price {price} is negative or has more than 12 decimals")
    return units.numerator


def _segments(span: NodeSpan, pods: Sequence[PodSpan]) -> Iterable[tuple[int, int, list[PodSpan]]]:
    """The stretches of a node's span in which the same pods are present."""
    first, last = _second(span.start), _second(span.end)
    times = [(max(first, _second(pod.start)), min(last, _second(pod.end)), pod) for pod in pods]
    times = [(start, end, pod) for start, end, pod in times if start < end]
    edges = sorted({first, last, *(start for start, _, _ in times), *(end for _, end, _ in times)})
    starting: dict[int, list[PodSpan]] = defaultdict(list)
    ending: dict[int, set[int]] = defaultdict(set)
    for start, end, pod in times:
        starting[start].append(pod)
        ending[end].add(id(pod))
    present: list[PodSpan] = []
    for start, end in pairwise(edges):
        gone = ending.get(start, set())
        present = [pod for pod in present if id(pod) not in gone] + starting.get(start, [])
        yield start, end, present


def _divide(span: NodeSpan, pods: Sequence[PodSpan], units: int) -> Iterable[tuple[tuple[str, Share, str, str], int]]:
    """The parts of one stretch. Each resource's money goes to those who hold it, the rest to idle."""
    portions = shares(span.capacity)
    nobody = (span.node, Share.IDLE, "", "")
    if not any(portions):
        yield nobody, units
        return
    for money, total, allocatable, held in zip(
        apportion(units, portions), _amounts(span.capacity), _amounts(span.allocatable), _holdings(pods), strict=True
    ):
        reserved = max(0, total - allocatable)
        wanted = sum(held)
        room = total - reserved
        weights = [Fraction(reserved), Fraction(max(0, room - wanted))]
        shrink = Fraction(room, wanted) if wanted > room else Fraction(1)
        parts = apportion(money, [*weights, *(amount * shrink for amount in held)] if total else [0, 1])
        yield (span.node, Share.OVERHEAD, "", ""), parts[0]
        yield nobody, parts[1]
        for pod, part in zip(pods, parts[2:], strict=False):
            share = Share.OVERHEAD if pod.overhead else Share.WORKLOAD
            yield (span.node, share, pod.namespace, pod.workload), part


def _amounts(resources: Resources) -> tuple[int, int, int]:
    return resources.cpu_milli, resources.memory_bytes, resources.gpus


def _holdings(pods: Sequence[PodSpan]) -> list[list[int]]:
    held = [_amounts(pod.held) for pod in pods]
    return [[max(0, amounts[r]) for amounts in held] for r in range(3)]


def apportion(total: int, weights: Sequence[Fraction | int]) -> list[int]:
    """Whole parts of a whole total in proportion to the weights (not negative, not all 0), by largest remainder."""
    whole = sum(weights, Fraction(0))
    exact = [Fraction(total) * weight / whole for weight in weights]
    parts = [part.numerator // part.denominator for part in exact]
    remainders = sorted(range(len(parts)), key=lambda i: (parts[i] - exact[i], i))
    for i in remainders[: total - sum(parts)]:
        parts[i] += 1
    return parts


def held_by(requests: Resources, usage: Resources | None) -> Resources:
    """What a pod holds: the larger of what it requests and what it uses."""
    return requests.larger_of(usage or NOTHING)
