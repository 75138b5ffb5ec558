"""`plan_packing`: prepare, search, and write the plan down in the words of the cluster."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal

from clusters.analysis.facts import ClusterFacts, Node, Pod
from clusters.analysis.packing.improve import Improver
from clusters.analysis.packing.model import NodeOffer, PackingPlan, PlannedNode
from clusters.analysis.packing.offers import offers_for
from clusters.analysis.packing.prepare import Problem, prepare
from clusters.analysis.packing.search import Bin, Search

DEFAULT_EFFORT = 6_000_000
_RUNS = ((0.0, 0.0), (0.0, 4.0), (0.0, 16.0), (0.2, 0.0), (0.2, 4.0), (0.4, 8.0))  # shaking, liking


def plan_packing(
    facts: ClusterFacts, offers: Sequence[NodeOffer] | None = None, *, effort: int = DEFAULT_EFFORT, seed: int = 7
) -> PackingPlan:
    """The cheapest set of nodes found that may hold the cluster's pods, and who goes where.

    `offers` is what could be bought; None means more of the nodes that are there, an empty sequence nothing. `effort`
    bounds the work (a million is about half a second). The plan never costs more than today's nodes.
    """
    problem = prepare(facts, offers_for(facts.nodes) if offers is None else offers)
    bins = _solve(problem, effort, seed)
    return _Writer(facts, problem).write(bins)


def _solve(problem: Problem, effort: int, seed: int) -> list[Bin]:
    search = Search(problem, seed)
    best = search.identity()
    if not problem.classes:
        return best
    best_cost = search.cost(best)
    for shake, liking in _RUNS:
        if search.steps > effort // 2:
            break
        found = search.construct(shake, liking)
        if found is not None and search.cost(found) < best_cost:
            best, best_cost = found, search.cost(found)
    improver = Improver(search, best)
    improver.run(max(effort - search.steps, effort // 4))
    return improver.solution


class _Writer:
    """Turns a solution into nodes and pods, moving as few pods as it can."""

    def __init__(self, facts: ClusterFacts, problem: Problem) -> None:
        self.facts = facts
        self.problem = problem
        self.waiting: list[dict[str, list[tuple[Pod, ...]]]] = []
        for item in problem.classes:
            by_node: dict[str, list[tuple[Pod, ...]]] = defaultdict(list)
            for pods, origin in zip(item.pods, item.origin, strict=True):
                by_node[origin].append(pods)
            self.waiting.append(by_node)

    def write(self, bins: Sequence[Bin]) -> PackingPlan:
        named = [(self._offer_or_home(b), b) for b in bins if b.shape < 0 or self.problem.shapes[b.shape].offer]
        named += self._existing(bins)
        named.sort(key=lambda pair: pair[0].name if pair[0] else "~")
        placed: list[list[tuple[Pod, ...]]] = [[] for _ in named]
        for at, (node, b) in enumerate(named):
            for k, count in b.load.items() if node else ():
                at_home = self.waiting[k].get(node.name, []) if node else []
                for _ in range(min(count, len(at_home))):
                    placed[at].append(at_home.pop())
        for at, (_, b) in enumerate(named):
            have = Counter(self._class_counts(placed[at]))
            for k, count in b.load.items():
                placed[at].extend(self._next(k) for _ in range(count - have[k]))
        return self._plan(named, placed)

    def _class_counts(self, items: Sequence[tuple[Pod, ...]]) -> Counter[int]:
        return Counter(self._class_of[pods[0].key] for pods in items)

    @property
    def _class_of(self) -> dict[str, int]:
        if not hasattr(self, "_classes"):
            self._classes = {
                pods[0].key: index for index, item in enumerate(self.problem.classes) for pods in item.pods
            }
        return self._classes

    def _next(self, k: int) -> tuple[Pod, ...]:
        by_node = self.waiting[k]
        while True:
            name = next(iter(by_node))
            if by_node[name]:
                return by_node[name].pop()
            del by_node[name]

    def _offer_or_home(self, b: Bin) -> Node | None:
        return self.problem.homes[-1 - b.shape].node if b.shape < 0 else None

    def _existing(self, bins: Sequence[Bin]) -> list[tuple[Node | None, Bin]]:
        """Which of the equal nodes each bin is: the one with most of its items on it already."""
        by_shape: dict[int, list[Bin]] = defaultdict(list)
        for b in bins:
            if b.shape >= 0 and self.problem.shapes[b.shape].offer is None:
                by_shape[b.shape].append(b)
        named: list[tuple[Node | None, Bin]] = []
        for index, group in by_shape.items():
            free = {node.name: node for node in self.problem.shapes[index].nodes}
            wishes = [
                (-overlap, at, name) for at, b in enumerate(group) for name, overlap in self._overlaps(b, free).items()
            ]
            chosen: dict[int, Node] = {}
            for _, at, name in sorted(wishes):
                if at not in chosen and name in free:
                    chosen[at] = free.pop(name)
            for at, b in enumerate(group):
                node = chosen.get(at)
                if node is None:
                    node = free.pop(next(iter(free)))
                named.append((node, b))
        return named

    def _overlaps(self, b: Bin, nodes: dict[str, Node]) -> Counter[str]:
        overlap: Counter[str] = Counter()
        for k, count in b.load.items():
            for name, items in self.waiting[k].items():
                if name in nodes:
                    overlap[name] += min(count, len(items))
        return overlap

    def _plan(self, named: Sequence[tuple[Node | None, Bin]], placed: Sequence[list[tuple[Pod, ...]]]) -> PackingPlan:
        nodes, moves, new = [], 0, 0
        for (node, b), items in zip(named, placed, strict=True):
            pods = [pod for item in items for pod in item]
            if node is None:
                new += 1
                shape = self.problem.shapes[b.shape]
                assert shape.offer is not None
                bought = shape.offer.as_node(f"new-{new}")
                nodes.append(PlannedNode(bought, True, tuple(sorted(pod.key for pod in pods)), shape.overhead))
                moves += len(pods)
                continue
            moves += sum(pod.node != node.name for pod in pods)
            staying = self.problem.staying[node.name]
            nodes.append(PlannedNode(node, False, tuple(sorted(pod.key for pod in (*pods, *staying)))))
        stays = {planned.node.name for planned in nodes}
        prices = [node.hourly_price for node in self.facts.nodes if node.hourly_price is not None]
        return PackingPlan(
            nodes=tuple(nodes),
            removed=tuple(sorted(node.name for node in self.facts.nodes if node.name not in stays)),
            cost_now=sum(prices, Decimal(0)),
            cost_after=sum((p.node.hourly_price for p in nodes if p.node.hourly_price is not None), Decimal(0)),
            moves=moves,
            stuck=tuple(self.problem.stuck),
            pending=tuple(self.problem.pending),
            unpriced=tuple(sorted(node.name for node in self.facts.nodes if node.hourly_price is None)),
        )
