"""Which nodes could be taken away or replaced by cheaper ones, in the order in which that is worth most.

Nodes below the threshold are emptied by simulation. First those whose pods fit on the nodes that stay; then, when the
setting replaces, groups of nodes whose pods fit on one cheaper new node. A pod moves once in a plan, a node that takes
pods stays, and an action buys at most one node. At the end the whole plan is gone through once more with the pods where
the scheduler would put them: an action that leaves a pod without a place there is left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from clusters.analysis.facts import ClusterFacts, Lifecycle, Node
from clusters.analysis.packing import NodeOffer, PackingPlan, offers_for
from clusters.analysis.packing.prepare import Problem, prepare
from policies.engine.actions import Action, Move, Plan
from policies.engine.fleet import NEW, Fleet, Outcome, Slot
from policies.engine.gates import Gates
from policies.engine.groups import Groups
from policies.engine.memory import Memory
from policies.engine.refusals import Reason, Refusal
from policies.engine.replay import drain, soften
from policies.engine.scheduler import Scheduler
from policies.engine.settings import Consolidation, Method

_WORDS_AT_MOST = 3
_CHANCES = (1, 2)  # seeds of the scheduler model


@dataclass(slots=True)
class _Draft:
    outcome: Outcome
    savings: float
    score: float
    trouble: float
    types: tuple[str, ...]
    new: NodeOffer | None
    new_name: str


def consolidate(
    facts: ClusterFacts,
    settings: Consolidation,
    now: datetime,
    *,
    offers: Sequence[NodeOffer] | None = None,
    memory: Memory | None = None,
    hold: str = "",
    prefix: str = "new",
) -> Plan:
    """Plan. `offers` is what the template allows to buy (None: more of what is there); `hold` is why nothing may be done.
    New nodes are called `prefix`-1 and so on until the cloud names them."""
    bought = offers_for(facts.nodes) if offers is None else offers
    return _Planner(facts, settings, now, bought, memory or Memory(), hold, prefix).run()


@dataclass(slots=True)
class _Planner:
    facts: ClusterFacts
    settings: Consolidation
    now: datetime
    offers: Sequence[NodeOffer]
    memory: Memory
    hold: str
    prefix: str
    refusals: dict[str, Refusal] = field(default_factory=dict)
    drafts: list[_Draft] = field(default_factory=list)
    nodes: Mapping[str, Node] = field(default_factory=dict)

    def run(self) -> Plan:
        self.nodes = {node.name: node for node in self.facts.nodes}
        problem = prepare(self.facts, self.offers if self.settings.replaces else ())
        first = Fleet(self.facts, problem)
        stuck = first.stuck_on()
        candidates = (
            []
            if self.hold
            else [slot for slot in first.slots.values() if self._may_leave(slot, stuck.get(slot.node.name, ()))]
        )
        if self.hold:
            self.refusals = {name: Refusal(name, Reason.HELD, self.hold) for name in first.slots}
        names = [slot.node.name for slot in candidates]
        found = [self._look(problem, names, deletes_first=True)]
        if self.settings.replaces:
            found.append(self._look(problem, names, deletes_first=False))
        self.drafts, refused = max(found, key=lambda pair: sum(draft.savings for draft in pair[0]))
        self.refusals.update(refused)
        return self._as_scheduled(problem, names)

    def _look(
        self, problem: Problem, names: Sequence[str], *, deletes_first: bool
    ) -> tuple[list[_Draft], dict[str, Refusal]]:
        """Actions for these candidates, and why others stay."""
        fleet = Fleet(self.facts, problem, avoid=names, prefix=self.prefix)
        gates = Gates(self.facts, fleet, self.settings, self.memory, self.now, self.offers)
        search = _Looking(fleet, gates, names)
        if deletes_first:
            search.delete()
        if self.settings.replaces:
            search.replace()
        return search.drafts, search.refusals

    # Who may leave ---------------------------------------------------------------------------------------------

    def _may_leave(self, slot: Slot, stuck: Sequence[str]) -> bool:
        found = self._why_stays(slot, stuck)
        if found is not None:
            self.refusals[slot.node.name] = found
        return found is None

    def _why_stays(self, slot: Slot, stuck: Sequence[str]) -> Refusal | None:
        node = slot.node
        for applies, reason in (
            (node.do_not_disrupt, Reason.DO_NOT_DISRUPT),
            (node.hourly_price is None, Reason.UNPRICED),
            (node.lifecycle is Lifecycle.RESERVED, Reason.PAID_ANYWAY),
            (node.unschedulable, Reason.CORDONED),
        ):
            if applies:
                return Refusal(node.name, reason)
        if stuck:
            more = f"; {len(stuck) - _WORDS_AT_MOST} more" if len(stuck) > _WORDS_AT_MOST else ""
            return Refusal(node.name, Reason.POD_STAYS, "; ".join(stuck[:_WORDS_AT_MOST]) + more)
        if slot.stays:
            return Refusal(node.name, Reason.POD_STAYS)
        if slot.items and self.settings.method is Method.DELETE_EMPTY:
            return Refusal(node.name, Reason.NOT_EMPTY, f"{len(slot.pods)} pods")
        used = slot.used()
        if slot.items and used >= self.settings.below:
            return Refusal(node.name, Reason.BUSY, f"{used:.0%} requested, the limit is {self.settings.below:.0%}")
        return None

    # The plan --------------------------------------------------------------------------------------------------

    def _as_scheduled(self, problem: Problem, names: Sequence[str]) -> Plan:
        """Go through it once more before the model of the scheduler, the best score first.

        As it would choose, and as it might by chance: what leaves a pod without a place in any of these is left out, and
        the rest is gone through again.
        """
        drafts = sorted(self.drafts, key=lambda draft: (-draft.score, draft.outcome.leaving))
        while True:
            actions, late = self._pass(drafts, None)
            good = {id(draft) for draft in late}
            for seed in _CHANCES:
                good &= {id(draft) for draft in self._pass(late, seed)[1]}
            kept, packing = self._proof(problem, names, [draft for draft in late if id(draft) in good])
            if len(kept) == len(drafts):
                break
            drafts = [draft for draft in late if id(draft) in kept]
        self._explain(names, actions)
        return Plan(tuple(actions), self.refusals, frozenset(names), packing)

    def _pass(self, drafts: Sequence[_Draft], seed: int | None) -> tuple[list[Action], list[_Draft]]:
        """The actions that leave no pod without a place, and their drafts, in an order in which they may be done."""
        cluster = Scheduler(self.facts, seed)
        leaving = {name for draft in drafts for name in draft.outcome.leaving}
        soften(cluster, leaving)
        actions: list[Action] = []
        done: list[_Draft] = []
        waiting = list(drafts)
        while waiting:
            later = []
            for draft in waiting:
                action = self._scheduled(cluster, draft, leaving)
                if action is None:
                    later.append(draft)
                else:
                    actions.append(action)
                    done.append(draft)
            if len(later) == len(waiting):
                break
            waiting = later
        return actions, done

    def _scheduled(self, cluster: Scheduler, draft: _Draft, leaving: set[str]) -> Action | None:
        """The action with the places that the scheduler chooses; None, and nothing changed, if it leaves a pod without."""
        action = self._action(draft)
        done = drain(cluster, action)
        if done.unschedulable or leaving.intersection(done.places.values()):
            done.undo(cluster)
            return None
        moves = tuple(replace(move, target=done.places[move.pod]) for move in action.moves)
        return replace(action, moves=moves)

    def _action(self, draft: _Draft) -> Action:
        outcome = draft.outcome
        prices = [self.nodes[name].hourly_price or Decimal(0) for name in outcome.leaving]
        opens = sum(len(pods) for (_, pods), _ in outcome.places[: outcome.opens_after])
        return Action(
            nodes=outcome.leaving,
            moves=tuple(
                Move(pod.key, pod.node or "", draft.new_name if target == NEW else target)
                for (_, pods), target in outcome.places
                for pod in pods
            ),
            savings_hourly=sum(prices, Decimal(0)) - (draft.new.hourly_price if draft.new else Decimal(0)),
            trouble=draft.trouble,
            score=draft.score,
            new=draft.new,
            new_name=draft.new_name,
            types=draft.types,
            opens_after=opens,
        )

    def _proof(self, problem: Problem, names: Sequence[str], drafts: Sequence[_Draft]) -> tuple[set[int], PackingPlan]:
        """A placement that breaks no rule, of the drafts that were kept; one that needs a dropped one's node goes too."""
        fleet = Fleet(self.facts, problem, avoid=names, prefix=self.prefix)
        wanted, kept = set(map(id, drafts)), set()
        for draft in self.drafts:
            places = draft.outcome.places
            if id(draft) in wanted and all(target == NEW or target in fleet.slots for _, target in places):
                fleet.apply(draft.outcome, draft.new_name)
                kept.add(id(draft))
        return kept, fleet.as_plan()

    def _explain(self, names: Sequence[str], actions: Sequence[Action]) -> None:
        """A reason for each candidate that stays."""
        gone = {name for action in actions for name in action.nodes}
        dropped = {name for draft in self.drafts for name in draft.outcome.leaving} - gone
        receives = {move.target for action in actions for move in action.moves}
        for name in names:
            if name in gone:
                self.refusals.pop(name, None)
            elif name in dropped:
                self.refusals[name] = Refusal(name, Reason.NO_ROOM, "the scheduler would place them otherwise")
            elif name in receives:
                self.refusals[name] = Refusal(name, Reason.RECEIVES)
            else:
                self.refusals.setdefault(name, Refusal(name, Reason.NOT_CHEAPER))


@dataclass(slots=True)
class _Looking:
    """Looks for actions, taking each that it finds as done."""

    fleet: Fleet
    gates: Gates
    names: Sequence[str]
    drafts: list[_Draft] = field(default_factory=list)
    refusals: dict[str, Refusal] = field(default_factory=dict)

    def delete(self) -> None:
        """Empty single nodes into the room of others, where most is saved for the trouble first."""
        heap = [
            (-slot.price / slot.trouble, name)
            for name in self.names
            if (slot := self.fleet.slots.get(name)) and self._untouched(name)
        ]
        heapq.heapify(heap)
        while heap:
            _, name = heapq.heappop(heap)
            if not self._untouched(name):
                continue
            why = self._try(self.fleet.simulate([name]))
            if why is not None:
                self.refusals[name] = Refusal(name, *why)

    def _untouched(self, name: str) -> bool:
        """Still there, and not chosen as a place for others' pods."""
        return name in self.fleet.slots and (name in self.fleet.avoid)

    def _try(self, outcome: Outcome) -> tuple[Reason, str] | None:
        """Take it into the plan, or say why not."""
        if outcome.misfit is not None:
            k, pods = outcome.misfit
            detail = f"{pods[0].key} needs {_amount(self.fleet, k)}, and no node that suits it has that"
            return (Reason.NO_ROOM, detail)
        verdict = self.gates.judge(self.fleet, outcome)
        if verdict.refused is not None:
            return verdict.refused
        bought = self.fleet.apply(outcome) or ""
        new = None if outcome.shape is None else self.fleet.problem.shapes[outcome.shape].offer
        self.drafts.append(_Draft(outcome, verdict.savings, verdict.score, verdict.trouble, verdict.types, new, bought))
        return None

    def replace(self) -> None:
        """Buy one node for several, again and again; after each round see whether more can be deleted."""
        while True:
            groups = Groups(self.fleet, [name for name in self.names if self._untouched(name)], self.gates.may_replace)
            found = 0
            for group, shape in groups.best():
                if not all(self._untouched(name) for name in group):
                    continue
                why = self._try(self.fleet.simulate(group, shape))
                if why is None:
                    found += 1
                    continue
                groups.reject(shape)
                for name in group:
                    self.refusals[name] = Refusal(name, *why)
            if not found:
                break
            self.delete()
        for name in self.names:
            if self._untouched(name) and (chain := self.gates.chain(name)):
                self.refusals[name] = Refusal(name, Reason.CHAIN, chain)


def _amount(fleet: Fleet, k: int) -> str:
    cpu, memory, _, gpus = fleet.search.need[k]
    return f"{cpu}m CPU and {memory / 2**20:.0f} MiB" + (f" and {gpus} GPUs" if gpus else "")
