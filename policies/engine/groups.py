"""Groups of nodes that one cheaper new node would hold: for each kind of node the fullest, dearest load there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from clusters.analysis.packing.prepare import Shape
from clusters.analysis.packing.search import Bin
from policies.engine.fleet import Fleet

_MIXES = (0.0, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0)  # how much CPU counts against memory when a load is judged
_MOST_NODES = 100
_CENT_PART = 1e-9

MayReplace = Callable[[Fleet, str, Shape], bool]


class Groups:
    """The candidates with what they need, and for each shape the group that saves most per dollar of the new node."""

    def __init__(self, fleet: Fleet, names: Sequence[str], may_replace: MayReplace) -> None:
        self.fleet = fleet
        self.may_replace = may_replace
        self.names = [name for name in names if fleet.slots[name].items]
        self.needs = {name: self._need(name) for name in self.names}
        self.classes = {name: frozenset(k for k, _ in fleet.slots[name].items) for name in self.names}
        self.ruled = {name for name in self.names if any(fleet.search.tokens[k] for k in self.classes[name])}
        self._suited: dict[tuple[int, ...], list[str]] = {}

    def _need(self, name: str) -> tuple[int, int, int, int]:
        need = [0, 0, 0, 0]
        for k, _ in self.fleet.slots[name].items:
            for r, amount in enumerate(self.fleet.search.need[k]):
                need[r] += amount
        return (need[0], need[1], need[2], need[3])

    def best(self) -> Iterator[tuple[list[str], int]]:
        """Groups with their shapes, the best first. They may overlap."""
        found = []
        for index, shape in enumerate(self.fleet.problem.shapes):
            if shape.offer is None or not shape.accepts or min(shape.room) < 0:
                continue
            group, price = self._best_group(index, shape)
            if price > shape.price + _CENT_PART:
                found.append((-price / max(shape.price, _CENT_PART), index, group))
        for _, index, group in sorted(found):
            yield group, index

    def like(self, group: Sequence[str], shape: int) -> list[str]:
        """Others that suit the shape, the dearest for what they need first."""
        offered = self.fleet.problem.shapes[shape]
        taken = set(group)
        suited = [
            name
            for name in self._suited.get(offered.accepts, ())
            if name not in taken and name in self.fleet.avoid and self.may_replace(self.fleet, name, offered)
        ]
        return sorted(suited, key=lambda name: (self._worth(name) - self.fleet.slots[name].price, name))

    def _worth(self, name: str) -> float:
        return sum(self.fleet.search.value[k] for k, _ in self.fleet.slots[name].items)

    def _best_group(self, index: int, shape: Shape) -> tuple[list[str], float]:
        if shape.accepts not in self._suited:
            accepted = self.fleet.search.accepts[index]
            self._suited[shape.accepts] = [name for name in self.names if self.classes[name] <= accepted]
        room = shape.room
        suited = [
            name
            for name in self._suited[shape.accepts]
            if all(need <= have for need, have in zip(self.needs[name], room, strict=True))
            and self.may_replace(self.fleet, name, shape)
        ]
        best: tuple[list[str], float] = ([], 0.0)
        for mix in _MIXES if suited else ():
            group, price = self._fill(index, shape, suited, mix)
            if price > best[1] + _CENT_PART:
                best = (group, price)
        return best

    def _fill(self, index: int, shape: Shape, suited: Sequence[str], mix: float) -> tuple[list[str], float]:
        cpu, memory, pods, gpus = shape.room
        slots, needs = self.fleet.slots, self.needs
        per_cpu, per_memory = mix / max(cpu, 1), (1 - mix) / max(memory, 1)
        ordered = sorted(
            suited,
            key=lambda name: (
                -slots[name].price / (needs[name][0] * per_cpu + needs[name][1] * per_memory + 1e-6),
                name,
            ),
        )
        b = Bin(index, shape.room, shape.held)
        group: list[str] = []
        price = 0.0
        for name in ordered:
            need = needs[name]
            if need[0] > cpu or need[1] > memory or need[2] > pods or need[3] > gpus:
                continue
            if name in self.ruled and not self._obeys(b, name):
                continue
            cpu, memory, pods, gpus = cpu - need[0], memory - need[1], pods - need[2], gpus - need[3]
            group.append(name)
            price += slots[name].price
            if len(group) == _MOST_NODES:
                break
        return group, price

    def _obeys(self, b: Bin, name: str) -> bool:
        """Whether the rules about what shares a node let its items join; then they do."""
        search = self.fleet.search
        before = dict(b.held)
        for k, _ in self.fleet.slots[name].items:
            if not search._room_for(k, b.held):
                b.held = before
                return False
            for token, each in search.tokens[k]:
                b.held[token] = b.held.get(token, 0) + each
        return True
