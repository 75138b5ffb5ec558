"""What a simulated action must be worth, and when it would only churn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from clusters.analysis.facts import ZONE, ClusterFacts, Lifecycle, Pod, tolerates_all
from clusters.analysis.packing import NodeOffer
from clusters.analysis.packing.prepare import Shape
from clusters.analysis.packing.rules import accepts
from policies.engine.fleet import NEW, Fleet, Outcome
from policies.engine.memory import Memory
from policies.engine.refusals import Reason
from policies.engine.settings import Consolidation
from policies.enums import Level

_CENT_PART = 1e-9
_TYPES_AT_MOST = 15


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an outcome is worth, or why it is refused."""

    savings: float = 0.0
    score: float = 0.0
    trouble: float = 0.0
    types: tuple[str, ...] = ()
    refused: tuple[Reason, str] | None = None


class Gates:
    """The totals of each pool are those at the beginning: later moves of a plan do not change what a share is."""

    def __init__(
        self,
        facts: ClusterFacts,
        fleet: Fleet,
        settings: Consolidation,
        memory: Memory,
        now: datetime,
        offers: Sequence[NodeOffer],
    ) -> None:
        self.settings, self.memory, self.now, self.offers = settings, memory, now, offers
        self.cost: dict[str, float] = defaultdict(float)
        self.trouble: dict[str, float] = defaultdict(float)
        self.total, self.spent = fleet.trouble, 0.0
        for slot in fleet.slots.values():
            self.cost[slot.node.pool] += slot.price
            self.trouble[slot.node.pool] += slot.trouble

    def judge(self, fleet: Fleet, outcome: Outcome) -> Verdict:
        """Whether it may be done, by everything but room."""
        leaving = [fleet.slots[name] for name in outcome.leaving]
        shape = None if outcome.shape is None else fleet.problem.shapes[outcome.shape]
        savings = sum(slot.price for slot in leaving) - (shape.price if shape else 0.0)
        trouble = sum(slot.trouble for slot in leaving)
        pools = {slot.node.pool for slot in leaving}
        cost = sum(self.cost[pool] for pool in pools)
        score = (savings / cost) / (trouble / sum(self.trouble[pool] for pool in pools)) if cost else 0.0
        types: tuple[str, ...] = ()
        if savings <= _CENT_PART:
            return Verdict(refused=(Reason.NOT_CHEAPER, ""))
        if self.spent + trouble > self.settings.most_disruption * self.total + _CENT_PART:
            return Verdict(refused=(Reason.BUDGET, f"a plan disrupts at most {self.settings.most_disruption:.0%}"))
        if shape is not None:
            refused, types = self._replacement(fleet, outcome, shape, savings)
            if refused is not None:
                return Verdict(refused=refused)
        moves = sum(len(slot.pods) for slot in leaving)
        if moves and self.settings.level is Level.BALANCED and score < self.settings.worth:
            detail = f"score {score:.2f}, needed {self.settings.worth:.2f}: ${savings:.4f} an hour for {moves} pods"
            return Verdict(refused=(Reason.DOES_NOT_PAY, detail))
        return Verdict(savings, score, trouble, types)

    def may_replace(self, fleet: Fleet, name: str, shape: Shape) -> bool:
        """Whether a new node of that shape may take the place of this node: another type, and no chain too long."""
        offer = shape.offer
        return (
            offer is not None and offer.instance_type != fleet.slots[name].node.instance_type and not self.chain(name)
        )

    def chain(self, name: str) -> str:
        """Words if the pods of the node have been through enough replacements."""
        steps = self.memory.steps(name, self.now)
        return f"{steps} times within a week" if steps >= self.settings.longest_chain else ""

    def _replacement(
        self, fleet: Fleet, outcome: Outcome, shape: Shape, savings: float
    ) -> tuple[tuple[Reason, str] | None, tuple[str, ...]]:
        assert shape.offer is not None
        overlap = shape.price * (self.settings.overlap / timedelta(hours=1))
        if savings * (self.settings.payback / timedelta(hours=1)) <= overlap:
            detail = f"${savings:.4f} an hour; both nodes for a while cost ${overlap:.4f}"
            return (Reason.DOES_NOT_PAY, detail), ()
        removed = [fleet.slots[name].node for name in outcome.leaving]
        if any(node.instance_type == shape.offer.instance_type for node in removed):
            return (Reason.NOT_CHEAPER, f"it would buy the {shape.offer.instance_type} that it takes away"), ()
        for node in removed:
            if chain := self.chain(node.name):
                return (Reason.CHAIN, chain), ()
        limit = sum((node.hourly_price or Decimal(0) for node in removed), Decimal(0))
        pods = [pod for (_, pods), name in outcome.places if name == NEW for pod in pods]
        types = self._cheaper_types(shape, pods, limit, {node.instance_type for node in removed})
        spot = shape.offer.lifecycle is Lifecycle.SPOT
        if spot and any(node.lifecycle is Lifecycle.SPOT for node in removed):
            if len(types) < self.settings.cheaper_spot_types:
                return (Reason.FEW_CHEAPER_TYPES, f"{len(types)} of {self.settings.cheaper_spot_types}"), ()
            return None, types[: self.settings.cheaper_spot_types]
        return None, types[:_TYPES_AT_MOST]

    def _cheaper_types(self, shape: Shape, pods: Sequence[Pod], limit: Decimal, removed: set[str]) -> tuple[str, ...]:
        """The machine types that would hold the same pods in the same pool and zone for less than what is removed."""
        chosen = shape.offer
        assert chosen is not None
        cpu = sum(pod.requests.cpu_milli for pod in pods) + shape.overhead.cpu_milli
        memory = sum(pod.requests.memory_bytes for pod in pods) + shape.overhead.memory_bytes
        gpus = sum(pod.requests.gpus for pod in pods) + shape.overhead.gpus
        bound = chosen.max_pods - shape.room[2]
        found: dict[str, Decimal] = {}
        for offer in self.offers:
            if (
                offer.hourly_price >= limit
                or offer.instance_type in removed
                or offer.zone != chosen.zone
                or offer.lifecycle is not chosen.lifecycle
                or offer.pool != chosen.pool
                or offer.taints != chosen.taints
            ):
                continue
            most = offer.allocatable
            if most.cpu_milli < cpu or most.memory_bytes < memory or most.gpus < gpus:
                continue
            if offer.max_pods - bound < len(pods):
                continue
            known = found.get(offer.instance_type)
            if (known is None or offer.hourly_price < known) and _all_may_run(offer, pods):
                found[offer.instance_type] = offer.hourly_price
        return tuple(sorted(found, key=lambda name: (found[name], name)))


def _all_may_run(offer: NodeOffer, pods: Sequence[Pod]) -> bool:
    labels = {**({ZONE: offer.zone} if offer.zone else {}), **offer.labels}
    return all(accepts(pod, labels) and tolerates_all(pod.tolerations, offer.taints) for pod in pods)
