"""The search: fill nodes one after another, then take small groups of nodes apart and try again.

**Filling.** Each class has a value: its share of the cheapest mix of nodes, from the duals of the relaxed problem
(`duals.py`). A node is filled with the largest classes first, taking from the CPU-heavy or the memory-heavy half of the
list, whichever the node has more room left for. The shape whose load is worth most per dollar is opened, as often as the
same load can be repeated. Several runs with slightly shaken values keep the cheapest outcome.

**Improving.** Nodes with the least valuable loads are taken apart in groups of two to six and filled again; a node whose
items fit into the room of others is dropped; every node is exchanged for the cheapest shape that holds its load.

The work is counted, not timed, and the shaking is seeded: the same facts give the same plan on every machine.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Mapping, Sequence

from clusters.analysis.packing.duals import resource_prices
from clusters.analysis.packing.prepare import Amount, Problem

_FEW = 64
_CENT_PART = 1e-9
_EXISTING_BONUS = 1 + 1e-9  # of two equal choices, keep the node that is there


class Bin:
    """A node in a solution. `shape` counts shapes from 0 and homes as -1, -2, ...; `load` maps class to items."""

    __slots__ = ("cpu", "gpus", "held", "load", "memory", "pods", "shape")

    def __init__(self, shape: int, room: Amount, held: Mapping[int, int]) -> None:
        self.shape = shape
        self.cpu, self.memory, self.pods, self.gpus = room
        self.held = dict(held)
        self.load: dict[int, int] = {}


class Search:
    """Solves one problem. `steps` counts the work done so far."""

    def __init__(self, problem: Problem, seed: int = 7) -> None:
        self.problem = problem
        self.random = random.Random(seed)  # noqa: S311  not for secrets
        self.steps = 0
        self.need = [item.need for item in problem.classes]
        self.tokens = [item.tokens for item in problem.classes]
        self.single = [item.single for item in problem.classes]
        self.prices = resource_prices(problem)
        self.value = [self._worth(need) for need in self.need]
        self.limit = [len(shape.nodes) if shape.offer is None else 1 << 40 for shape in problem.shapes]
        self.accepts = [frozenset(shape.accepts) for shape in problem.shapes]
        keys: dict[object, int] = {}
        self._list_key = [
            keys.setdefault((shape.accepts, shape.room[0] / (shape.room[1] or 1)), len(keys))
            for shape in problem.shapes
        ]
        rooms = [shape.room for shape in problem.shapes if shape.accepts]
        self.largest = [max((room[r] for room in rooms), default=0) for r in range(4)]
        self.by_price = sorted(range(len(problem.shapes)), key=lambda s: (problem.shapes[s].price, self.limit[s]))

    def _worth(self, need: Amount) -> float:
        return sum(price * amount for price, amount in zip(self.prices, need, strict=True)) + 1e-12 * (1 + need[0])

    # Solutions -------------------------------------------------------------------------------------------------

    def cost(self, bins: Sequence[Bin]) -> float:
        """Dollars an hour of the bins that are not homes."""
        shapes = self.problem.shapes
        return sum(shapes[b.shape].price for b in bins if b.shape >= 0)

    def identity(self) -> list[Bin]:
        """Every item where it is."""
        bins: dict[str, Bin] = {}
        for index, home in enumerate(self.problem.homes):
            bins[home.node.name] = Bin(-1 - index, home.room, home.held)
        for index, shape in enumerate(self.problem.shapes):
            for node in shape.nodes:
                bins[node.name] = Bin(index, shape.room, shape.held)
        for index, item in enumerate(self.problem.classes):
            for name in item.origin:
                self.put(bins[name], index, 1)
        return [b for b in bins.values() if b.load or b.shape < 0]

    def construct(self, shake: float, liking: float) -> list[Bin] | None:
        """Fill homes, then open nodes until everything has a place; None when something is left over."""
        left = [len(item.pods) for item in self.problem.classes]
        value = self.shaken(shake, range(len(left)))
        homes = self.fill_homes(range(len(self.problem.homes)), left, value, liking)
        opened = self.open_nodes(left, value, list(self.limit), liking)
        return None if opened is None else homes + opened

    def fill_homes(self, homes: Iterable[int], left: _Left, value: Mapping[int, float], liking: float) -> list[Bin]:
        """Put what is `left` of the classes in `value` into empty homes, those of the strangest shape first."""
        alive = [k for k in value if left[k]]
        cpu = sum(self.need[k][0] * left[k] for k in alive) + 1
        memory = sum(self.need[k][1] * left[k] for k in alive) + 1

        def strangeness(index: int) -> float:
            room = self.problem.homes[index].room
            return -abs(math.log((max(room[0], 1) / cpu) / (max(room[1], 1) / memory)))

        bins = []
        for index in sorted(homes, key=strangeness):
            home = self.problem.homes[index]
            b = Bin(-1 - index, home.room, home.held)
            bins.append(b)
            if home.accepts and min(home.room) >= 0:
                lists = self._lists(home.accepts, alive, value, home.room, liking)
                self.take(b, self.fill(home.room, home.held, lists, left)[0], left)
                alive = [k for k in alive if left[k]]
        return bins

    def shaken(self, shake: float, classes: Iterable[int]) -> dict[int, float]:
        """The values of some classes, each up to half of `shake` higher or lower, by chance."""
        if not shake:
            return {k: self.value[k] for k in classes}
        return {k: self.value[k] * (1 + shake * (self.random.random() - 0.5)) for k in classes}

    def open_nodes(
        self,
        left: _Left,
        value: Mapping[int, float],
        limit: list[int],
        liking: float,
        *,
        budget: float = math.inf,
        good_enough: float = 1.0,
        among: Iterable[int] | None = None,
    ) -> list[Bin] | None:
        """Open nodes for what is `left` (and used up) of the classes in `value`, greedily by value per dollar.

        None when something has no place, or when it would cost more than the budget. A shape whose load is worth
        `good_enough` of its price is taken without looking at the others (no load is worth more than its price).
        Where one last node for all the rest makes it cheaper than going on, that is the answer. `among` narrows the choice of shapes.
        """
        bins: list[Bin] = []
        shapes, spent = self.problem.shapes, 0.0
        alive = [k for k in value if left[k]]
        cache: dict[int, _Lists] = {}
        heap = self._heap(left, alive, limit, good_enough, among)
        fresh = len(alive)
        ending: list[Bin] | None = None
        while alive:
            last = self._last_node(left, alive, limit)
            if last is not None and spent + shapes[last.shape].price < budget + _CENT_PART:
                ending, budget = [*bins, last], spent + shapes[last.shape].price
            chosen = self._best_shape(heap, left, value, alive, cache, limit, liking)
            if chosen is None:
                return ending
            index, load = chosen
            times = min(limit[index], *(left[k] // n for k, n in load.items()))
            spent += times * shapes[index].price
            if spent > budget + _CENT_PART:
                return ending
            for _ in range(times):
                b = Bin(index, shapes[index].room, shapes[index].held)
                self.take(b, load, left)
                bins.append(b)
            limit[index] -= times
            alive = [k for k in alive if left[k]]
            if len(alive) * 2 < fresh:
                fresh = len(alive)
                cache.clear()
        return bins

    def _last_node(self, left: _Left, alive: Sequence[int], limit: Sequence[int]) -> Bin | None:
        """The cheapest single node that holds everything that is left, if there is one."""
        if len(alive) > _FEW:
            return None
        need = [sum(self.need[k][r] * left[k] for k in alive) for r in range(4)]
        if any(amount > most for amount, most in zip(need, self.largest, strict=True)):
            return None
        for index in self.by_price:
            shape = self.problem.shapes[index]
            self.steps += 1
            if limit[index] <= 0 or any(amount > room for amount, room in zip(need, shape.room, strict=True)):
                continue
            if self.accepts[index].issuperset(alive):
                b = Bin(index, shape.room, shape.held)
                if all(self.put_one(b, k) for k in alive for _ in range(left[k])):
                    return b
        return None

    def put_one(self, b: Bin, k: int) -> bool:
        """Add one item if it fits; whether it did."""
        if not self.fits(b, k):
            return False
        self.put(b, k, 1)
        return True

    def _heap(
        self,
        left: _Left,
        alive: Sequence[int],
        limit: Sequence[int],
        good_enough: float,
        among: Iterable[int] | None,
    ) -> list[tuple[float, float, int]]:
        """Upper bounds of what a shape's load can be worth per dollar, as a heap; ties are broken by chance."""
        worth = sum(self.value[k] * left[k] for k in alive)
        heap = []
        for index in range(len(self.problem.shapes)) if among is None else among:
            shape = self.problem.shapes[index]
            if limit[index] > 0 and shape.accepts:
                most = min(good_enough, worth / max(shape.price, 1e-9))
                heap.append((-most, self.random.random(), index))
        heapq.heapify(heap)
        self.steps += 20 + len(heap)
        return heap

    def _best_shape(
        self,
        heap: list[tuple[float, float, int]],
        left: _Left,
        value: Mapping[int, float],
        alive: Sequence[int],
        cache: dict[int, _Lists],
        limit: list[int],
        liking: float,
    ) -> tuple[int, dict[int, int]] | None:
        """The shape whose load is worth most per dollar. Old figures are upper bounds, so only the top is redone."""
        while heap:
            _, tie, index = heapq.heappop(heap)
            shape = self.problem.shapes[index]
            if limit[index] <= 0:
                continue
            key = self._list_key[index]
            lists = cache.get(key)
            if lists is None:
                lists = cache[key] = self._lists(self.accepts[index], alive, value, shape.room, liking)
            load, worth = self.fill(shape.room, shape.held, lists, left)
            if not load:
                continue
            score = worth / max(shape.price, 1e-9) * (_EXISTING_BONUS if shape.offer is None else 1)
            heapq.heappush(heap, (-score, tie, index))
            if heap[0][2] == index or -heap[0][0] <= score:
                return index, load
        return None

    # Filling one node ------------------------------------------------------------------------------------------

    def _lists(
        self, accepts: frozenset[int], classes: Sequence[int], value: Mapping[int, float], room: Amount, liking: float
    ) -> _Lists:
        """The accepted classes, split into those heavier on CPU and those heavier on memory than the room.

        The most valuable come first; with a `liking` above 0 a class counts for less the less its own proportions are
        those of the room, so that odd rooms get the odd loads.
        """
        cpu, memory = max(room[0], 1), max(room[1], 1)
        heavy: list[tuple[float, int]] = []
        light: list[tuple[float, int]] = []
        for k in classes:
            if k not in accepts:
                continue
            x, y = self.need[k][0] / cpu, self.need[k][1] / memory
            score = value[k]
            if liking and (x or y):
                score *= ((x + y) / (math.sqrt(2) * math.hypot(x, y))) ** liking
            (heavy if x >= y else light).append((-score, k))
        self.steps += len(classes) // 2
        heavy.sort()
        light.sort()
        return [k for _, k in heavy], [k for _, k in light]

    def fill(self, room: Amount, held: Mapping[int, int], lists: _Lists, left: _Left) -> tuple[dict[int, int], float]:
        """What would be put into an empty node of that room, and what it is worth."""
        cpu, memory, pods, gpus = room
        total_cpu, total_memory = max(cpu, 1), max(memory, 1)
        load: dict[int, int] = {}
        tokens = dict(held)
        worth, ends = 0.0, [0, 0]
        self.steps += 10  # what every fill costs
        while pods > 0:
            side = 0 if cpu * total_memory >= memory * total_cpu else 1
            space = (cpu, memory, pods, gpus)
            chosen = self._first_fit(lists[side], ends, side, space, tokens, load, left)
            if chosen < 0:
                chosen = self._first_fit(lists[1 - side], ends, 1 - side, space, tokens, load, left)
            if chosen < 0:
                break
            need = self.need[chosen]
            cpu, memory, pods, gpus = cpu - need[0], memory - need[1], pods - need[2], gpus - need[3]
            load[chosen] = load.get(chosen, 0) + 1
            worth += self.value[chosen]
            for token, count in self.tokens[chosen]:
                tokens[token] = tokens.get(token, 0) + count
        return load, worth

    def _first_fit(
        self,
        classes: Sequence[int],
        ends: list[int],
        side: int,
        room: Amount,
        held: Mapping[int, int],
        load: Mapping[int, int],
        left: _Left,
    ) -> int:
        """The first class from `ends[side]` on that still fits, or -1. What does not fit now never will again."""
        cpu, memory, pods, gpus = room
        need_of, token_of = self.need, self.tokens
        start = ends[side]
        for at in range(start, len(classes)):
            k = classes[at]
            a, b, c, d = need_of[k]
            if (
                a <= cpu
                and b <= memory
                and c <= pods
                and d <= gpus
                and left[k] > load.get(k, 0)
                and (not token_of[k] or self._room_for(k, held))
            ):
                self.steps += at - start + 1
                ends[side] = at
                return k
        self.steps += len(classes) - start
        ends[side] = len(classes)
        return -1

    def _room_for(self, k: int, held: Mapping[int, int]) -> bool:
        """Whether one more item of the class breaks no rule about what shares a node."""
        caps, apart = self.problem.caps, self.problem.apart
        for token, count in self.tokens[k]:
            cap = caps.get(token)
            if cap is not None and held.get(token, 0) + count > cap:
                return False
            other = apart.get(token)
            if other is not None and held.get(other, 0):
                return False
        return True

    def put(self, b: Bin, k: int, count: int) -> None:
        """Add items to a bin."""
        need = self.need[k]
        b.cpu -= need[0] * count
        b.memory -= need[1] * count
        b.pods -= need[2] * count
        b.gpus -= need[3] * count
        b.load[k] = b.load.get(k, 0) + count
        for token, each in self.tokens[k]:
            b.held[token] = b.held.get(token, 0) + each * count

    def take(self, b: Bin, load: Mapping[int, int], left: _Left) -> None:
        """Add a load to a bin, out of what is left."""
        for k, count in load.items():
            self.put(b, k, count)
            left[k] -= count

    def fits(self, b: Bin, k: int) -> bool:
        """Whether one more item of the class fits, by size and rules; not whether the node suits it."""
        need = self.need[k]
        if need[0] > b.cpu or need[1] > b.memory or need[2] > b.pods or need[3] > b.gpus:
            return False
        return not self.tokens[k] or self._room_for(k, b.held)

    def suits(self, b: Bin, k: int) -> bool:
        """Whether the node is one that the class may run on."""
        if b.shape < 0:
            return k in self.problem.homes[-1 - b.shape].accepts
        return k in self.accepts[b.shape]

    def worth(self, b: Bin) -> float:
        """The value of a bin's load."""
        return sum(self.value[k] * count for k, count in b.load.items())


_Lists = tuple[list[int], list[int]]
_Left = list[int] | dict[int, int]  # items of each class that have no place yet
