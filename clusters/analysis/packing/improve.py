"""Making a solution cheaper: exchange nodes, drop nodes, and take small groups of nodes apart."""

from __future__ import annotations

from collections.abc import Sequence

from clusters.analysis.packing.exact import MOST_ITEMS, best_nodes
from clusters.analysis.packing.search import Bin, Search

_ENOUGH = 1e-9
_DROP_TARGETS = 80
_GOOD_ENOUGH = 0.98
_SHAPES_TRIED = 16


class Improver:
    """Works on one solution in place."""

    def __init__(self, search: Search, bins: list[Bin]) -> None:
        self.search = search
        self.problem = search.problem
        self.homes = sorted((b for b in bins if b.shape < 0), key=lambda b: -b.shape)
        self.bins = [b for b in bins if b.shape >= 0]
        self._usable_homes = [
            index for index, home in enumerate(self.problem.homes) if home.accepts and min(home.room) >= 0
        ]
        self.used = [0] * len(self.problem.shapes)
        for b in self.bins:
            self.used[b.shape] += 1

    @property
    def solution(self) -> list[Bin]:
        return self.homes + self.bins

    def run(self, steps: int) -> None:
        """Improve until that much work is done or nothing more is found."""
        self.exchange_all()
        self.drop_all()
        start, idle, turn = self.search.steps, 0, 0
        patience = 1500 + 40 * (len(self.bins) + len(self._usable_homes))
        while self.search.steps - start < steps and idle < patience and self.bins:
            idle = 0 if self.repack_some() else idle + 1
            turn += 1
            if turn % 400 == 0:
                self.drop_all()
        self.drop_all()

    def exchange_all(self) -> None:
        """Give each load the cheapest shape that holds it."""
        for b in list(self.bins):
            shape = self._cheapest(b)
            if shape is not None:
                self._replace([b], [self._moved(b, shape)])

    def _cheapest(self, b: Bin) -> int | None:
        """A strictly cheaper shape for the same load, if there is one."""
        search, price = self.search, self.problem.shapes[b.shape].price
        total = [0, 0, 0, 0]
        for k, count in b.load.items():
            for r in range(4):
                total[r] += search.need[k][r] * count
        for index in search.by_price:
            shape = self.problem.shapes[index]
            if shape.price >= price - _ENOUGH:
                return None
            search.steps += 1
            if self.used[index] >= search.limit[index] or any(
                need > have for need, have in zip(total, shape.room, strict=True)
            ):
                continue
            if search.accepts[index].issuperset(b.load) and self._obeys(index, b):
                return index
        return None

    def _obeys(self, index: int, b: Bin) -> bool:
        if not any(self.search.tokens[k] for k in b.load):
            return True
        trial = Bin(index, self.problem.shapes[index].room, self.problem.shapes[index].held)
        for k, count in b.load.items():
            for _ in range(count):
                if not self.search.fits(trial, k):
                    return False
                self.search.put(trial, k, 1)
        return True

    def _moved(self, b: Bin, index: int) -> Bin:
        moved = Bin(index, self.problem.shapes[index].room, self.problem.shapes[index].held)
        for k, count in b.load.items():
            self.search.put(moved, k, count)
        return moved

    def _replace(self, old: Sequence[Bin], new: Sequence[Bin]) -> None:
        gone = set(map(id, old))
        self.bins = [b for b in self.bins if id(b) not in gone] + list(new)
        for b in old:
            self.used[b.shape] -= 1
        for b in new:
            self.used[b.shape] += 1

    # Dropping ---------------------------------------------------------------------------------------------------

    def drop_all(self) -> None:
        """Empty nodes into the room of others, the least valuable loads first."""
        shapes = self.problem.shapes
        for b in sorted(self.bins, key=lambda b: self.search.worth(b) / max(shapes[b.shape].price, _ENOUGH)):
            self._drop(b)

    def _drop(self, victim: Bin) -> bool:
        search = self.search
        room = sorted(
            (b for b in self.solution if b is not victim and b.pods > 0 and (b.cpu > 0 or b.memory > 0)),
            key=lambda b: -(b.cpu * search.prices[0] + b.memory * search.prices[1]),
        )[:_DROP_TARGETS]
        placed: list[tuple[Bin, int]] = []
        for k in sorted(victim.load, key=lambda k: -search.value[k]):
            for _ in range(victim.load[k]):
                target = self._tightest(room, k)
                if target is None:
                    self._undo(placed)
                    return False
                search.put(target, k, 1)
                placed.append((target, k))
        self._replace([victim], [])
        return True

    def _tightest(self, room: Sequence[Bin], k: int) -> Bin | None:
        search, best, least = self.search, None, float("inf")
        search.steps += len(room)
        for b in room:
            if search.fits(b, k) and search.suits(b, k):
                slack = b.cpu * search.prices[0] + b.memory * search.prices[1]
                if slack < least:
                    best, least = b, slack
        return best

    def _undo(self, placed: Sequence[tuple[Bin, int]]) -> None:
        for b, k in placed:
            self.search.put(b, k, -1)
            if not b.load[k]:
                del b.load[k]

    # Taking apart -----------------------------------------------------------------------------------------------

    def repack_some(self) -> bool:
        """Take a few nodes apart and fill anew; keep the result when it costs less, or no more and the homes hold no less."""
        search = self.search
        group, homes = self._choose(), self._choose_homes()
        left: dict[int, int] = {}
        for b in (*group, *homes):
            for k, count in b.load.items():
                left[k] = left.get(k, 0) + count
        limit = [most - used for most, used in zip(search.limit, self.used, strict=True)]
        for b in group:
            limit[b.shape] += 1
        filled, opened = self._refill(left, group, homes, limit)
        if opened is None:
            return False
        saved = search.cost(group) - search.cost(opened)
        gained = sum(map(search.worth, filled)) - sum(map(search.worth, homes))
        if saved < -_ENOUGH or (saved <= _ENOUGH and gained < 0):
            return False
        self._replace(group, opened)
        self._rehome(filled)
        for b in opened:
            shape = self._cheapest(b)
            if shape is not None:
                self._replace([b], [self._moved(b, shape)])
        return saved > _ENOUGH or gained > _ENOUGH

    def _refill(
        self, left: dict[int, int], group: Sequence[Bin], homes: Sequence[Bin], limit: list[int]
    ) -> tuple[list[Bin], list[Bin] | None]:
        """New homes and nodes for what is left: the best there are for a handful of items, else by chance and greed."""
        search = self.search
        if not homes and sum(left.values()) <= MOST_ITEMS:
            everything = range(len(self.problem.shapes))
            return [], best_nodes(search, left, limit, everything)
        value, liking = search.shaken(0.6, sorted(left)), search.random.choice((0.0, 0.0, 4.0, 12.0))
        filled = search.fill_homes([-1 - b.shape for b in homes], left, value, liking)
        budget, some = search.cost(group), self._some_shapes(group)
        return filled, search.open_nodes(
            left, value, limit, liking, budget=budget, good_enough=_GOOD_ENOUGH, among=some
        )

    def _some_shapes(self, group: Sequence[Bin]) -> list[int]:
        """The shapes of the group and a few others: more tries with less choice find more than the reverse."""
        everything = range(len(self.problem.shapes))
        some = self.search.random.sample(everything, min(len(everything), _SHAPES_TRIED))
        return sorted({*some, *(b.shape for b in group)})

    def _rehome(self, new: Sequence[Bin]) -> None:
        for b in new:
            self.homes[-1 - b.shape] = b

    def _choose(self) -> list[Bin]:
        """One node by its waste, and some whose loads may go to the same places."""
        search, shapes, random = self.search, self.problem.shapes, self.search.random
        size = min(len(self.bins), random.choice((1, 2, 3, 3, 4, 5, 6)))
        sample = [self.bins[random.randrange(len(self.bins))] for _ in range(4)]
        first = max(sample, key=lambda b: shapes[b.shape].price - search.worth(b))
        group = {id(first): first}
        for _ in range(8 * size):
            if len(group) == size:
                break
            pair = [self.bins[random.randrange(len(self.bins))] for _ in range(2)]
            other = max(pair, key=lambda b: shapes[b.shape].price - search.worth(b))
            related = search.accepts[first.shape]
            if any(k in related for k in other.load) or not other.load:
                group[id(other)] = other
        return list(group.values())

    def _choose_homes(self) -> list[Bin]:
        """Some homes: by preference one with CPU to spare and one with memory to spare, as they may swap loads."""
        usable, random = self._usable_homes, self.search.random
        count = min(len(usable), random.choice((0, 1, 2, 2, 3, 4)))
        chosen: dict[int, Bin] = {}
        for turn in range(count):
            sample = [self.homes[random.choice(usable)] for _ in range(random.choice((1, 2, 5)))]
            best = max(sample, key=lambda b: b.cpu) if turn % 2 == 0 else max(sample, key=lambda b: b.memory)
            chosen[best.shape] = best
        return list(chosen.values())
