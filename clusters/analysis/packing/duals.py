"""What a unit of CPU, memory, pod slots and GPUs is worth on the cheapest mix of nodes.

The dual of "cover the demand with fractions of nodes at least cost": the prices per unit that make the demand worth most
while no node holds more worth than it costs. Four unknowns, so a small simplex is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

from clusters.analysis.packing.prepare import Problem

_EPSILON = 1e-9


def resource_prices(problem: Problem) -> tuple[float, float, float, float]:
    """Dollars an hour for a milli of CPU, a byte of memory, a pod slot and a GPU."""
    demand = [0.0] * 4
    for item in problem.classes:
        for r in range(4):
            demand[r] += item.need[r] * len(item.pods)
    shapes = [shape for shape in problem.shapes if shape.accepts and shape.price > 0]
    if not shapes or not any(demand):
        return (0.0, 0.0, 0.0, 0.0)
    scale = [max(1, *(shape.room[r] for shape in shapes)) for r in range(4)]
    cheapest: dict[tuple[int, ...], float] = {}
    for shape in shapes:
        room = tuple(max(amount, 0) for amount in shape.room)
        cheapest[room] = min(shape.price, cheapest.get(room, shape.price))
    rows = [[room[r] / scale[r] for r in range(4)] for room in cheapest]
    prices = maximize([demand[r] / scale[r] for r in range(4)], rows, list(cheapest.values()))
    return (prices[0] / scale[0], prices[1] / scale[1], prices[2] / scale[2], prices[3] / scale[3])


def maximize(goal: Sequence[float], rows: Sequence[Sequence[float]], bounds: Sequence[float]) -> list[float]:
    """The x >= 0 with `row . x <= bound` for every row (bounds >= 0) that makes `goal . x` largest.

    A tableau simplex by Bland's rule. A direction that nothing limits (all its entries are 0) stays at 0.
    """
    n, m = len(goal), len(rows)
    table = [
        [*map(float, row), *(1.0 if i == j else 0.0 for j in range(m)), float(bound)]
        for i, (row, bound) in enumerate(zip(rows, bounds, strict=True))
    ]
    limited = [any(row[j] > _EPSILON for row in rows) for j in range(n)]
    target = [-value if limited[j] else 0.0 for j, value in enumerate(goal)] + [0.0] * (m + 1)
    basis = [n + i for i in range(m)]
    for _ in range(200 * (n + 1)):
        column = next((j for j in range(n + m) if target[j] < -_EPSILON), None)
        if column is None:
            break
        ratios = [(row[-1] / row[column], basis[i], i) for i, row in enumerate(table) if row[column] > _EPSILON]
        if not ratios:
            break
        _pivot(table, target, min(ratios)[2], column)
        basis[min(ratios)[2]] = column
    solution = [0.0] * n
    for i, variable in enumerate(basis):
        if variable < n:
            solution[variable] = table[i][-1]
    return solution


def _pivot(table: list[list[float]], target: list[float], row: int, column: int) -> None:
    pivot = table[row][column]
    table[row] = [value / pivot for value in table[row]]
    base = table[row]
    for i, other in enumerate(table):
        if i != row and other[column]:
            factor = other[column]
            table[i] = [a - factor * b for a, b in zip(other, base, strict=True)]
    factor = target[column]
    if factor:
        target[:] = [a - factor * b for a, b in zip(target, base, strict=True)]
