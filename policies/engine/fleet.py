"""The cluster as the simulation sees it: nodes with room, and what happens to the pods of nodes that are emptied.

It stands on the packing problem of `clusters.analysis.packing`, which knows what may move and what may be where. Pods go
to the fullest node that takes them, and onto nodes that may yet be taken away themselves only when no other does: this is
where a plan is looked for. Where the scheduler would really put them is `scheduler.py`'s business.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from clusters.analysis.facts import ClusterFacts, Node, Pod
from clusters.analysis.packing import PackingPlan, PlannedNode
from clusters.analysis.packing.prepare import Problem
from clusters.analysis.packing.search import Bin, Search

Item = tuple[int, tuple[Pod, ...]]  # its class in the packing problem, and its pods
NEW = ""  # the node that an action would buy, while it is only simulated

_POD_MOST, _PRIORITY_UNIT = 10.0, 1 << 25


def trouble(pod: Pod) -> float:
    """What evicting the pod counts for: 1, more for a higher priority, from 0 to 10."""
    return min(max(1 + pod.priority / _PRIORITY_UNIT, 0.0), _POD_MOST)


@dataclass(slots=True)
class Slot:
    """A node: its room in `bin`, the items on it that may move, and the pods that go or stay with it."""

    node: Node
    bin: Bin
    price: float
    new: bool = False
    items: list[Item] = field(default_factory=list)
    staying: tuple[Pod, ...] = ()

    @property
    def stays(self) -> bool:
        """Whether the packing problem keeps it whatever happens."""
        return self.bin.shape < 0

    @property
    def pods(self) -> list[Pod]:
        return [pod for _, pods in self.items for pod in pods]

    @property
    def trouble(self) -> float:
        """What emptying it counts for: 1 for itself and its pods'."""
        return 1.0 + sum(trouble(pod) for pod in self.pods)

    def used(self) -> float:
        """The largest share that its movable pods request of its CPU, memory or GPUs."""
        most, have = self.node.allocatable, [pod.requests for pod in self.pods]
        shares = [0.0]
        for got, wanted in (
            (most.cpu_milli, sum(r.cpu_milli for r in have)),
            (most.memory_bytes, sum(r.memory_bytes for r in have)),
            (most.gpus, sum(r.gpus for r in have)),
        ):
            if got:
                shares.append(wanted / got)
        return max(shares)


@dataclass(slots=True)
class Outcome:
    """Where the items of emptied nodes go, in the order of eviction. The new node takes pods after `opens_after` items."""

    leaving: tuple[str, ...]
    shape: int | None
    places: list[tuple[Item, str]]
    opens_after: int = 0
    misfit: Item | None = None


class Fleet:
    """The nodes, changed by `apply`; `simulate` changes nothing.

    Pods go to the fullest node that takes them, to those in `avoid` last.
    """

    def __init__(
        self, facts: ClusterFacts, problem: Problem, *, avoid: Iterable[str] = (), prefix: str = "new"
    ) -> None:
        self.facts = facts
        self.problem = problem
        self.avoid = set(avoid)
        self.prefix = prefix
        self.search = Search(problem)
        self.slots: dict[str, Slot] = {}
        self.removed: list[str] = []
        self.moved: dict[str, str] = {}
        self._nowhere: set[int] = set()
        self._bought = 0
        self._fill()
        self._order = sorted(self._key(name) for name in self.slots)
        self.cost = sum(slot.price for slot in self.slots.values())
        self.trouble = sum(slot.trouble for slot in self.slots.values())

    def _fill(self) -> None:
        problem, bins = self.problem, {}
        for index, home in enumerate(problem.homes):
            bins[home.node.name] = (home.node, Bin(-1 - index, home.room, home.held))
        for index, shape in enumerate(problem.shapes):
            for node in shape.nodes:
                bins[node.name] = (node, Bin(index, shape.room, shape.held))
        for node in self.facts.nodes:
            _, b = bins[node.name]
            staying = tuple(problem.staying[node.name])
            self.slots[node.name] = Slot(node, b, float(node.hourly_price or 0), staying=staying)
        for k, item in enumerate(problem.classes):
            for pods, origin in zip(item.pods, item.origin, strict=True):
                self.search.put(bins[origin][1], k, 1)
                self.slots[origin].items.append((k, pods))

    # Simulation ------------------------------------------------------------------------------------------------

    def simulate(self, names: Iterable[str], shape: int | None = None) -> Outcome:
        """Empty these nodes, with a new node of that shape or without one. `misfit` says what has no place."""
        leaving = tuple(names)
        items = sorted((item for name in leaving for item in self.slots[name].items), key=self._largest_first)
        outcome = Outcome(leaving, shape, [])
        gone = frozenset(leaving)
        trial: dict[str, Bin] = {}
        if shape is not None:
            late = self._overflow(items, shape, gone, trial, outcome)
            if late is None:
                return outcome
            items = late
            outcome.opens_after = len(outcome.places)
            offered = self.problem.shapes[shape]
            trial[NEW] = Bin(shape, offered.room, offered.held)
        elif any(item[0] in self._nowhere for item in items):
            outcome.misfit = next(item for item in items if item[0] in self._nowhere)
            return outcome
        for item in items:
            if not self._put(item, gone, trial, outcome):
                break
        return outcome

    def squeeze(self, names: Iterable[str]) -> Outcome:
        """Empty these nodes into the room there is, and put what is left over onto the cheapest new node that holds it."""
        leaving = tuple(names)
        gone, trial = frozenset(leaving), dict[str, Bin]()
        outcome, left = Outcome(leaving, None, []), list[Item]()
        for item in sorted((item for name in leaving for item in self.slots[name].items), key=self._largest_first):
            if not self._put(item, gone, trial, outcome):
                left.append(item)
        if not left:
            return outcome
        kinds = {self.slots[name].node.instance_type for name in leaving}
        limit = sum(self.slots[name].price for name in leaving)
        for index in self.search.by_price:
            shape = self.problem.shapes[index]
            if shape.price >= limit:
                break
            if shape.offer is None or shape.offer.instance_type in kinds or not self._fits_together(left, index):
                continue
            outcome.shape, outcome.opens_after, outcome.misfit = index, len(outcome.places), None
            outcome.places.extend((item, NEW) for item in left)
            return outcome
        return outcome

    def _largest_first(self, item: Item) -> tuple[float, str]:
        return (-self.search.value[item[0]], item[1][0].key)

    def _overflow(
        self, items: list[Item], shape: int, gone: frozenset[str], trial: dict[str, Bin], outcome: Outcome
    ) -> list[Item] | None:
        """What is left for the new node after the smallest items went elsewhere, as few of them as need be."""
        rest = list(items)
        while not self._fits_together(rest, shape):
            # Those that the shape cannot take at all go first, then the smallest.
            at = next((i for i, item in enumerate(rest) if item[0] not in self.search.accepts[shape]), len(rest) - 1)
            if not self._put(rest.pop(at), gone, trial, outcome):
                return None
        return rest

    def _fits_together(self, items: Sequence[Item], shape: int) -> bool:
        offered, accepted = self.problem.shapes[shape], self.search.accepts[shape]
        room = offered.room
        need = [0, 0, 0, 0]
        for k, _ in items:
            if k not in accepted:
                return False
            for r, amount in enumerate(self.search.need[k]):
                need[r] += amount
        if any(amount > have for amount, have in zip(need, room, strict=True)):
            return False
        if not any(self.search.tokens[k] for k, _ in items):
            return True
        b = Bin(shape, room, offered.held)
        return all(self.search.put_one(b, k) for k, _ in items)

    def _put(self, item: Item, gone: frozenset[str], trial: dict[str, Bin], outcome: Outcome) -> bool:
        name = self._where(item[0], gone, trial)
        if name is None:
            outcome.misfit = item
            return False
        if name not in trial:
            trial[name] = _copy(self.slots[name].bin)
        self.search.put(trial[name], item[0], 1)
        outcome.places.append((item, name))
        return True

    def _key(self, name: str) -> tuple[int, float, str]:
        """Nodes that take pods first come first."""
        slot = self.slots[name]
        return (int(name in self.avoid), self._emptiness(slot.node, slot.bin), name)

    def _where(self, k: int, gone: frozenset[str], trial: dict[str, Bin]) -> str | None:
        """The node that one more item of the class would go to."""
        search, slots = self.search, self.slots
        cpu, memory, _, _ = search.need[k]
        best: tuple[int, float, str] | None = None
        for name, b in trial.items():
            if b.cpu >= cpu and b.memory >= memory and search.suits(b, k) and search.fits(b, k):
                empty = self._emptiness(slots[name].node if name else None, b)
                key = (int(name in self.avoid), empty, name)
                if best is None or key < best:
                    best = key
        for key in self._order:
            if best is not None and best < key:
                break
            name = key[2]
            b = slots[name].bin
            if b.cpu < cpu or b.memory < memory or name in trial or name in gone:
                continue
            if search.suits(b, k) and search.fits(b, k):
                return name
        if best is None and not trial and not any(self._takes(name, k) for name in gone):
            self._nowhere.add(k)
        return best[2] if best else None

    def _takes(self, name: str, k: int) -> bool:
        b = self.slots[name].bin
        return self.search.suits(b, k) and self.search.fits(b, k)

    def _emptiness(self, node: Node | None, b: Bin) -> float:
        if node is None:
            offer = self.problem.shapes[b.shape].offer
            assert offer is not None
            most = offer.allocatable
        else:
            most = node.allocatable
        return b.cpu / max(most.cpu_milli, 1) + b.memory / max(most.memory_bytes, 1)

    # Change ----------------------------------------------------------------------------------------------------

    def apply(self, outcome: Outcome, new_name: str = "") -> str | None:
        """Let it come true; answers the name of the new node, if there is one."""
        assert outcome.misfit is None
        new = self._buy(outcome.shape, new_name) if outcome.shape is not None else None
        touched: dict[str, list[Item]] = defaultdict(list)
        for item, name in outcome.places:
            touched[name or str(new)].append(item)
        for name in (*outcome.leaving, *(name for name in touched if name != new)):
            del self._order[bisect_left(self._order, self._key(name))]
        self.avoid.difference_update(touched, outcome.leaving)
        for name in outcome.leaving:
            del self.slots[name]
            self.removed.append(name)
        for name, items in touched.items():
            slot = self.slots[name]
            for item in items:
                self.search.put(slot.bin, item[0], 1)
                slot.items.append(item)
                self.moved.update((pod.key, name) for pod in item[1])
        for name in {*touched, *((new,) if new else ())}:
            insort(self._order, self._key(name))
        if new:
            self._nowhere.clear()
        return new

    def next_name(self) -> str:
        """What the next new node would be called."""
        taken = {node.name for node in self.facts.nodes}
        while True:
            self._bought += 1
            name = f"{self.prefix}-{self._bought}"
            if name not in taken:
                return name

    def takes_pods(self, names: Iterable[str]) -> None:
        """The scheduler put pods onto these nodes, so they stay."""
        for name in self.avoid.intersection(names):
            del self._order[bisect_left(self._order, self._key(name))]
            self.avoid.discard(name)
            insort(self._order, self._key(name))

    def _buy(self, shape: int, name: str) -> str:
        offered = self.problem.shapes[shape]
        assert offered.offer is not None
        name = name or self.next_name()
        b = Bin(shape, offered.room, offered.held)
        self.slots[name] = Slot(offered.offer.as_node(name), b, offered.price, new=True)
        return name

    def as_plan(self) -> PackingPlan:
        """What became of the cluster, as the verifier of re-packings reads it."""
        nodes = []
        for name in sorted(self.slots):
            slot = self.slots[name]
            overhead = self.problem.shapes[slot.bin.shape].overhead if slot.new else None
            pods = tuple(sorted(pod.key for pod in (*slot.pods, *slot.staying)))
            nodes.append(
                PlannedNode(slot.node, True, pods, overhead) if overhead else PlannedNode(slot.node, False, pods)
            )
        before = [node.hourly_price for node in self.facts.nodes if node.hourly_price is not None]
        after = [s.node.hourly_price for s in self.slots.values() if s.node.hourly_price is not None]
        origin = {pod.key: pod.node for pod in self.facts.pods}
        origin_nodes = {node.name for node in self.facts.nodes}
        return PackingPlan(
            nodes=tuple(nodes),
            removed=tuple(sorted(name for name in self.removed if name in origin_nodes)),
            cost_now=sum(before, Decimal(0)),
            cost_after=sum(after, Decimal(0)),
            moves=sum(origin[key] != name for key, name in self.moved.items()),
            stuck=tuple(self.problem.stuck),
            pending=tuple(self.problem.pending),
            unpriced=tuple(sorted(node.name for node in self.facts.nodes if node.hourly_price is None)),
        )

    def stuck_on(self) -> dict[str, list[str]]:
        """For each node the pods that must stay on it, in words."""
        found: dict[str, list[str]] = defaultdict(list)
        for stuck in self.problem.stuck:
            found[stuck.node].append(f"{stuck.pod}: {stuck.words}")
        return found


def _copy(b: Bin) -> Bin:
    other = Bin(b.shape, (b.cpu, b.memory, b.pods, b.gpus), b.held)
    other.load = dict(b.load)
    return other
