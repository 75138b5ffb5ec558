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
from policies.engine.replay import Drain, drain, goes_well, soften
from policies.engine.scheduler import Scheduler
from policies.engine.settings import Consolidation
from policies.enums import Method

_WORDS_AT_MOST = 3
_TRIES = 6
_WAYS = (
    "empty delete replace",
    "empty replace",
    "empty joint delete replace",
    "empty single joint replace",
    "empty joint single replace",
)
_LARGE = 300
_TOGETHER = (2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 80, 100)


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
    exempt: Mapping[str, str] | None = None,
    prefix: str = "new",
) -> Plan:
    """Plan. `offers` is what the template allows to buy (None: more of what is there); `hold` is why nothing may be done.
    `exempt` says of pods that must be left alone (by key) why. New nodes are called `prefix`-1 and so on until the cloud names them."""
    bought = offers_for(facts.nodes) if offers is None else offers
    return _Planner(
        _left_alone(facts, exempt or {}), settings, now, bought, memory or Memory(), hold, prefix, exempt or {}
    ).run()


def look_again(
    action: Action,
    facts: ClusterFacts,
    settings: Consolidation,
    now: datetime,
    *,
    offers: Sequence[NodeOffer],
    memory: Memory,
    exempt: Mapping[str, str] | None = None,
) -> Refusal | None:
    """Simulate one action afresh on the cluster as it is now; None when nothing speaks against it."""
    subject = ", ".join(action.nodes)
    there = {node.name for node in facts.nodes}
    gone = [name for name in action.nodes if name not in there]
    if gone:
        return Refusal(subject, Reason.CHANGED, f"{gone[0]} is gone")
    known = {move.pod for move in action.moves}
    placed = facts.pods_by_node()
    for name in action.nodes:
        for pod in placed[name]:
            if pod.key not in known and not (pod.daemonset or pod.mirror):
                return Refusal(subject, Reason.CHANGED, f"{pod.key} has come to {name}")
    if action.new is not None and action.new not in offers:
        return Refusal(subject, Reason.CHANGED, f"{action.new.instance_type} is not to be had at that price any more")
    planner = _Planner(_left_alone(facts, exempt or {}), settings, now, offers, memory, "", "new", exempt or {})
    return planner.still(action)


@dataclass(slots=True)
class _Planner:
    facts: ClusterFacts
    settings: Consolidation
    now: datetime
    offers: Sequence[NodeOffer]
    memory: Memory
    hold: str
    prefix: str
    exempt: Mapping[str, str]
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
        stays = dict(self.refusals)
        found = []
        for way in self._ways(len(self.facts.nodes)):
            self.drafts, refused = self._look(problem, names, way)
            self.refusals = {**stays, **refused}
            found.append(self._as_scheduled(problem, names))
        return max(found, key=lambda plan: plan.savings_hourly)

    def _ways(self, nodes: int) -> Sequence[str]:
        """The orders in which to look for actions; the best outcome counts. In large clusters there is less to choose."""
        if not self.settings.replaces:
            return ("delete",)
        return _WAYS if nodes <= _LARGE else _WAYS[:1]

    def _look(self, problem: Problem, names: Sequence[str], way: str) -> tuple[list[_Draft], dict[str, Refusal]]:
        """Actions for these candidates, found in the order of `way`, and why others stay."""
        fleet = Fleet(self.facts, problem, avoid=names, prefix=self.prefix)
        gates = Gates(self.facts, fleet, self.settings, self.memory, self.now, self.offers)
        cluster = Scheduler(self.facts)
        soften(cluster, names)
        search = _Looking(fleet, gates, names, cluster)
        for step in way.split():
            {
                "empty": search.empty,
                "single": search.single,
                "delete": search.delete,
                "replace": search.replace,
                "joint": search.joint,
            }[step]()
        return search.drafts, search.refusals

    def still(self, action: Action) -> Refusal | None:
        """Whether this action is possible now, by every gate and before the scheduler."""
        subject = ", ".join(action.nodes)
        self.nodes = {node.name: node for node in self.facts.nodes}
        problem = prepare(self.facts, () if action.new is None else (action.new,))
        fleet = Fleet(self.facts, problem)
        stuck = fleet.stuck_on()
        for name in action.nodes:
            found = self._why_stays(fleet.slots[name], stuck.get(name, ()))
            if found is not None:
                return found
        shape = None
        if action.new is not None:
            shape = next((i for i, shape in enumerate(problem.shapes) if shape.offer is not None), -1)
            if shape < 0:
                return Refusal(subject, Reason.CHANGED, f"{action.new.instance_type} suits none of the pods any more")
        gates = Gates(self.facts, fleet, self.settings, self.memory, self.now, self.offers)
        search = _Looking(fleet, gates, action.nodes, Scheduler(self.facts))
        outcome = fleet.simulate(action.nodes, shape)
        why = search.take(outcome)
        return None if why is None else Refusal(subject, *why)

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
        alone = next((pod.key for pod in slot.staying if pod.do_not_disrupt and pod.key in self.exempt), "")
        if alone:
            return Refusal(node.name, Reason.POD_STAYS, f"{alone}: {self.exempt[alone]}")
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
        """Go through it once more before the model of the scheduler, in the order in which it was found. What leaves a pod
        without a place is left out, and the rest is gone through again."""
        drafts = list(self.drafts)
        while True:
            actions, done = self._pass(drafts)
            kept, packing = self._proof(problem, names, done)
            if len(kept) == len(drafts):
                break
            drafts = [draft for draft in done if id(draft) in kept]
        self._explain(names, actions)
        return Plan(tuple(actions), self.refusals, frozenset(names), packing)

    def _pass(self, drafts: Sequence[_Draft]) -> tuple[list[Action], list[_Draft]]:
        """The actions that leave no pod without a place, and their drafts, in an order in which they may be done."""
        cluster = Scheduler(self.facts)
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
        action = _action(draft, self.nodes)
        done = drain(cluster, action)
        if done.unschedulable or leaving.intersection(done.places.values()):
            done.undo(cluster)
            return None
        moves = tuple(replace(move, target=done.places[move.pod]) for move in action.moves)
        return replace(action, moves=moves)

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
    cluster: Scheduler
    drafts: list[_Draft] = field(default_factory=list)
    refusals: dict[str, Refusal] = field(default_factory=dict)

    def empty(self) -> None:
        """Nodes without pods to move."""
        for name in self.names:
            if self._untouched(name) and not self.fleet.slots[name].items:
                self.take(self.fleet.simulate([name]))

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
            why = self.take(self.fleet.simulate([name]))
            if why is not None:
                self.refusals[name] = Refusal(name, *why)

    def _untouched(self, name: str) -> bool:
        """Still there, and not chosen as a place for others' pods."""
        return name in self.fleet.slots and (name in self.fleet.avoid)

    def take(self, outcome: Outcome) -> tuple[Reason, str] | None:
        """Take it into the plan, or say why not."""
        if outcome.misfit is not None:
            k, pods = outcome.misfit
            detail = f"{pods[0].key} needs {_amount(self.fleet, k)}, and no node that suits it has that"
            return (Reason.NO_ROOM, detail)
        verdict = self.gates.judge(self.fleet, outcome)
        if verdict.refused is not None:
            return verdict.refused
        new = None if outcome.shape is None else self.fleet.problem.shapes[outcome.shape].offer
        name = self.fleet.next_name() if new else ""
        draft = _Draft(outcome, verdict.savings, verdict.score, verdict.trouble, verdict.types, new, name)
        done = self._drain(_action(draft, self.cluster.nodes))
        if done is None:
            return (Reason.NO_ROOM, "the scheduler would place them otherwise")
        self.fleet.apply(outcome, name)
        self.fleet.takes_pods(done.places.values())
        self.gates.spent += verdict.trouble
        self.drafts.append(draft)
        return None

    def _drain(self, action: Action) -> Drain | None:
        """Before the scheduler: as it might choose by chance, and as it would. None, and nothing changed, if a pod is left."""
        if not goes_well(self.cluster, action):
            return None
        done = drain(self.cluster, action)
        if done.unschedulable:
            done.undo(self.cluster)
            return None
        return done

    def joint(self) -> None:
        """Empty many nodes at once, the best of them first, into the room there is and one new node."""
        while True:
            names = [name for name in self.names if self._untouched(name)]
            names.sort(key=lambda name: (-self.fleet.slots[name].price / self.fleet.slots[name].trouble, name))
            found = [one for count in _TOGETHER if (one := self._first(names, count)) is not None]
            if found:
                best = max(found, key=lambda one: (one[0], -one[1]))[1]
                low, high = best, min([*(count for count in _TOGETHER if count > best), len(names) + 1, 2 * best])
                while high - low > 1:  # the most nodes for which it still works
                    middle = (low + high) // 2
                    one = self._first(names, middle)
                    if one is None:
                        high = middle
                    else:
                        found.append(one)
                        low = middle
            found.sort(key=lambda one: (-one[0], one[1]))
            if all(self.take(outcome) is not None for _, _, outcome in found):
                return

    def _first(self, names: Sequence[str], count: int) -> tuple[float, int, Outcome] | None:
        """What emptying the first so many saves, if it may be done."""
        if count > len(names):
            return None
        outcome = self.fleet.squeeze(names[:count])
        if outcome.misfit is not None:
            return None
        verdict = self.gates.judge(self.fleet, outcome)
        return None if verdict.refused is not None else (verdict.savings, count, outcome)

    def _larger(self, group: Sequence[str], shape: int, groups: Groups) -> list[Outcome]:
        """The group, and before it the same with more nodes, as long as what the new node cannot hold fits elsewhere."""
        found = [self.fleet.simulate(group, shape)]
        tries = 0
        for name in groups.like(group, shape):
            if tries == _TRIES or found[-1].misfit is not None:
                break
            larger = self.fleet.simulate([*found[-1].leaving, name], shape)
            if larger.misfit is None:
                found.append(larger)
            else:
                tries += 1
        return found[::-1]

    def single(self) -> None:
        """Nodes one by one, into the room there is and one new node, where most is saved for the trouble first."""
        found = []
        for name in self.names:
            if self._untouched(name):
                outcome = self.fleet.squeeze([name])
                verdict = self.gates.judge(self.fleet, outcome) if outcome.misfit is None else None
                if verdict is not None and verdict.refused is None:
                    found.append((-verdict.savings / verdict.trouble, name))
        for _, name in sorted(found):
            if self._untouched(name):
                self.take(self.fleet.squeeze([name]))

    def _take_first(self, outcomes: Sequence[Outcome]) -> tuple[Reason, str] | None:
        why = None
        for outcome in outcomes:
            why = self.take(outcome)
            if why is None:
                break
        return why

    def replace(self) -> None:
        """Buy one node for several, again and again; after each round see whether more can be deleted."""
        while True:
            groups = Groups(self.fleet, [name for name in self.names if self._untouched(name)], self.gates.may_replace)
            found = 0
            for group, shape in groups.best():
                if not all(self._untouched(name) for name in group):
                    continue
                why = self._take_first(self._larger(group, shape, groups))
                if why is None:
                    found += 1
                    continue
                for name in group:
                    self.refusals[name] = Refusal(name, *why)
            if not found:
                break
            self.delete()
        for name in self.names:
            if self._untouched(name) and (chain := self.gates.chain(name)):
                self.refusals[name] = Refusal(name, Reason.CHAIN, chain)


def _left_alone(facts: ClusterFacts, exempt: Mapping[str, str]) -> ClusterFacts:
    """The same with the exempt pods marked as not to be disturbed; what comes and goes with its node is none of them."""
    if not exempt:
        return facts
    return replace(
        facts,
        pods=tuple(
            replace(pod, do_not_disrupt=True) if pod.key in exempt and not (pod.daemonset or pod.mirror) else pod
            for pod in facts.pods
        ),
    )


def _action(draft: _Draft, nodes: Mapping[str, Node]) -> Action:
    outcome = draft.outcome
    prices = [nodes[name].hourly_price or Decimal(0) for name in outcome.leaving]
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


def _amount(fleet: Fleet, k: int) -> str:
    cpu, memory, _, gpus = fleet.search.need[k]
    return f"{cpu}m CPU and {memory / 2**20:.0f} MiB" + (f" and {gpus} GPUs" if gpus else "")
