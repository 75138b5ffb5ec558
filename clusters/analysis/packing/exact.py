"""The best nodes for a handful of items, by trying every way to part them.

For each set of items the cheapest single node, then the cheapest way to part a set into such sets: 3^n steps for n items.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from clusters.analysis.packing.search import Bin, Search

MOST_ITEMS = 7


def best_nodes(search: Search, left: Mapping[int, int], limit: list[int], among: Iterable[int]) -> list[Bin] | None:
    """The cheapest nodes of these shapes for the items in `left`, of which there are at most `MOST_ITEMS`.

    None when something has no place, or when the cheapest choice needs more nodes of an existing shape than there are.
    """
    items = [k for k, count in left.items() for _ in range(count)]
    whole = (1 << len(items)) - 1
    shapes = sorted((s for s in among if limit[s] > 0), key=lambda s: search.problem.shapes[s].price)
    nodes = [
        None,
        *(_node_for(search, [k for i, k in enumerate(items) if mask >> i & 1], shapes) for mask in range(1, whole + 1)),
    ]
    cost = [0.0] + [math.inf] * whole
    choice = [0] * (whole + 1)
    for mask in range(1, whole + 1):
        lowest = mask & -mask
        part = mask
        while part:
            node = nodes[part]
            if part & lowest and node is not None:
                total = search.problem.shapes[node.shape].price + cost[mask ^ part]
                if total < cost[mask]:
                    cost[mask], choice[mask] = total, part
            part = (part - 1) & mask
    search.steps += 3 ** len(items)
    if math.isinf(cost[whole]):
        return None
    chosen: list[Bin] = []
    while whole:
        node = nodes[choice[whole]]
        assert node is not None
        chosen.append(node)
        whole ^= choice[whole]
    used = Counter(b.shape for b in chosen)
    return chosen if all(count <= limit[shape] for shape, count in used.items()) else None


def _node_for(search: Search, items: list[int], shapes: list[int]) -> Bin | None:
    """The cheapest node that holds these items together."""
    need = [sum(search.need[k][r] for k in items) for r in range(4)]
    for index in shapes:
        shape = search.problem.shapes[index]
        search.steps += 1
        if any(amount > room for amount, room in zip(need, shape.room, strict=True)):
            continue
        if search.accepts[index].issuperset(items):
            b = Bin(index, shape.room, shape.held)
            if all(search.put_one(b, k) for k in items):
                return b
    return None
