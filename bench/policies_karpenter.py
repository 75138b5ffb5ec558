"""Karpenter's way to choose what to consolidate, written anew from its documents, as the peer of the measurements.

From "Balanced consolidation" (designs/) and the documentation of disruption: empty nodes first; then the first N nodes
(at most 100) of the list together, N by binary search; then the nodes of the list one by one. The pods go to the room
there is, and what is left over to at most one new node, the cheapest that holds it, which must be cheaper than what goes;
types at or above the cheapest removed node of the same type are left out. One action, then from the beginning. The list is
sorted by disruption, lowest first (`WhenEmptyOrUnderutilized`), or by score, and then only scores from 0.5 (`Balanced`).

It runs on the same simulation as our plans and before the same model of the scheduler. An action that leaves a pod without
a place there is taken back and costs nothing (in a cluster it would buy another node).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from clusters.analysis.facts import ClusterFacts
from clusters.analysis.packing import NodeOffer
from clusters.analysis.packing.prepare import prepare
from clusters.analysis.packing.search import Bin
from policies.engine.actions import Action, Move
from policies.engine.fleet import NEW, Fleet, Outcome
from policies.engine.replay import drain
from policies.engine.scheduler import Scheduler

_MOST_TOGETHER = 100
_WORTH = 0.5
_CENT_PART = 1e-9


class Karpenter:
    """One cluster, consolidated action by action, with at most that share of its disruption. `curve` has disruption and
    savings after each of them."""

    def __init__(self, facts: ClusterFacts, offers: list[NodeOffer], *, balanced: bool, share: float = 1e9) -> None:
        self.facts, self.offers = facts, offers
        self.fleet = Fleet(facts, prepare(facts, offers))
        self.cluster = Scheduler(facts)
        self.refused: set[tuple[str, ...]] = set()
        self.balanced = balanced
        self.cost, self.trouble = self.fleet.cost, self.fleet.trouble
        self.limit = share * self.trouble
        self.curve: list[tuple[float, float]] = [(0.0, 0.0)]
        self.failed: set[str] = set()
        self.actions = 0

    def run(self, most_actions: int = 10_000) -> None:
        """Until nothing is left to do."""
        while self.actions < most_actions and self.step():
            pass

    def step(self) -> bool:
        """One action; whether there was one."""
        fleet = self.fleet
        listed = [slot for slot in fleet.slots.values() if not slot.stays and not slot.node.unschedulable]
        empty = [slot.node.name for slot in listed if not slot.items]
        if empty:
            found = [self._outcome([name]) for name in empty]
            best = next((outcome for outcome in found if outcome is not None), None)
            if best is not None:
                return self._do(best)
        listed.sort(key=lambda slot: (-slot.price / slot.trouble if self.balanced else slot.trouble, slot.node.name))
        names = [slot.node.name for slot in listed]
        return self._together(names[:_MOST_TOGETHER]) or any(self._one(name) for name in names)

    def _together(self, names: list[str]) -> bool:
        low, high, best = 2, len(names), None
        while low <= high:
            middle = (low + high) // 2
            found = self._outcome(names[:middle])
            if found is not None:
                best, low = found, middle + 1
            else:
                high = middle - 1
        return best is not None and self._do(best)

    def _one(self, name: str) -> bool:
        if name in self.failed:
            return False
        found = self._outcome([name])
        if found is None:
            self.failed.add(name)
            return False
        return self._do(found)

    def _outcome(self, names: list[str]) -> Outcome | None:
        fleet = self.fleet
        gone = frozenset(names)
        items = sorted((item for name in names for item in fleet.slots[name].items), key=fleet._largest_first)
        outcome, trial = Outcome(tuple(names), None, []), dict[str, Bin]()
        left = [item for item in items if not fleet._put(item, gone, trial, outcome)]
        outcome.misfit = None
        if left:
            shape = self._cheapest(names, left)
            if shape is None:
                return None
            outcome.shape, outcome.opens_after = shape, len(outcome.places)
            outcome.places.extend((item, NEW) for item in left)
        return outcome if outcome.leaving not in self.refused and self._pays(outcome) else None

    def _cheapest(self, names: list[str], left: list) -> int | None:  # type: ignore[type-arg]
        fleet = self.fleet
        removed = [fleet.slots[name] for name in names]
        limit = sum(slot.price for slot in removed)
        same: dict[str, float] = {}
        for slot in removed:
            kind = slot.node.instance_type
            same[kind] = min(slot.price, same.get(kind, slot.price))
        for index in fleet.search.by_price:
            shape = fleet.problem.shapes[index]
            if shape.price >= limit - _CENT_PART:
                return None
            if shape.offer is None:
                continue
            if shape.offer.instance_type in same and shape.price >= same[shape.offer.instance_type] - _CENT_PART:
                return None
            if fleet._fits_together(left, index):
                return index
        return None

    def _pays(self, outcome: Outcome) -> bool:
        savings, trouble = self._worth(outcome)
        score = (savings / self.cost) / (trouble / self.trouble)
        if self.curve[-1][0] + trouble > self.limit:
            return False
        return savings > _CENT_PART and (not self.balanced or score >= _WORTH)

    def _worth(self, outcome: Outcome) -> tuple[float, float]:
        slots = [self.fleet.slots[name] for name in outcome.leaving]
        new = self.fleet.problem.shapes[outcome.shape].price if outcome.shape is not None else 0.0
        return sum(slot.price for slot in slots) - new, sum(slot.trouble for slot in slots)

    def _do(self, outcome: Outcome) -> bool:
        """Before the scheduler: what it cannot place is undone and not tried again, and no other harm comes of it."""
        savings, trouble = self._worth(outcome)
        self.actions += 1
        action = self._action(outcome, savings, trouble)
        done = drain(self.cluster, action)
        if done.unschedulable:
            done.undo(self.cluster)
            self.refused.add(outcome.leaving)
            return True
        before = self.curve[-1]
        self.curve.append((before[0] + trouble, before[1] + savings))
        facts = self.cluster.facts()
        self.facts = replace(facts, budgets=self.facts.budgets)
        self.fleet = Fleet(self.facts, prepare(self.facts, self.offers))
        if outcome.shape is not None:
            self.failed.clear()
        return True

    def _action(self, outcome: Outcome, savings: float, trouble: float) -> Action:
        new = self.fleet.problem.shapes[outcome.shape].offer if outcome.shape is not None else None
        name = f"karpenter-{self.actions}" if new else ""
        opens = sum(len(pods) for (_, pods), _ in outcome.places[: outcome.opens_after])
        moves = tuple(
            Move(pod.key, pod.node or "", name if target == NEW else target)
            for (_, pods), target in outcome.places
            for pod in pods
        )
        return Action(outcome.leaving, moves, Decimal(str(savings)), trouble, 0.0, new, name, opens_after=opens)
