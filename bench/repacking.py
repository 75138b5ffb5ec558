"""How good and how fast the re-packing plan is.

    python -m bench.repacking                  # quality at 100 nodes against a bound, then speed at 1,000 nodes
    python -m bench.repacking --nodes 300 --fleets 3

Quality: the plan's savings beside those of a lower bound on the cost of any plan, from HiGHS (development dependency
`highspy`): nodes whole (ILP) or not (LP), pods divisible, every pod only on nodes that suit it, room for nothing on the
nodes that must stay, and the rules about what may share a node as limits per node. Since real pods cannot be divided, no
plan need reach it; the share is therefore a floor.
Speed: one process, wall seconds, CPU seconds, and the peak of the resident memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import defaultdict
from typing import Any

from bench.support import report
from clusters.analysis.facts import ClusterFacts
from clusters.analysis.packing import NodeOffer, offers_for, plan_packing, verify
from clusters.analysis.packing.planner import DEFAULT_EFFORT
from clusters.analysis.packing.prepare import Problem, prepare
from tests.clusters.analysis.fleets import PRICES, TYPES, make_fleet


def lower_bound(problem: Problem, *, whole_nodes: bool, seconds: float = 60.0) -> float:
    """Dollars an hour below which no placement of the movable pods can go, homes not counted."""
    import highspy

    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("time_limit", seconds)
    parts: dict[int, list[Any]] = {k: [] for k in range(len(problem.classes))}
    for shape in problem.shapes:
        most = highspy.kHighsInf if shape.offer else len(shape.nodes)
        kind = highspy.HighsVarType.kInteger if whole_nodes else highspy.HighsVarType.kContinuous
        count = model.addVariable(lb=0, ub=most, obj=shape.price, type=kind)
        _bound_host(model, problem, (count, shape.room, shape.accepts, shape.held), parts)
    for home in problem.homes:
        if home.accepts and min(home.room) >= 0:
            _bound_host(model, problem, (1, home.room, home.accepts, home.held), parts)
    for k, item in enumerate(problem.classes):
        model.addConstr(sum(parts[k]) == len(item.pods))
    model.run()
    info = model.getInfo()
    return info.mip_dual_bound if whole_nodes else info.objective_function_value


def _bound_host(model: Any, problem: Problem, host: Any, parts: dict[int, list[Any]]) -> None:
    """What one kind of node can hold: room, caps on tokens, and at most one of those that exclude each other."""
    count, room, accepts, held = host
    used: dict[object, list[Any]] = defaultdict(list)
    for k in accepts:
        item = problem.classes[k]
        if any(n > r for n, r in zip(item.need, room, strict=True)):
            continue
        tokens = dict(item.tokens)
        part = model.addVariable(lb=0)
        parts[k].append(part)
        for r in range(4):
            if item.need[r]:
                used[r].append(part * (item.need[r] / room[r]))
        for token, each in item.tokens:
            if token in problem.caps:
                used[("cap", token)].append(part * each)
            other = problem.apart.get(token)
            if other in tokens and token < other:
                used[("apart", token)].append(part)
            if other is not None and held.get(other, 0):
                model.addConstr(part <= 0)
    for key, terms in used.items():
        most = problem.caps[key[1]] - held.get(key[1], 0) if isinstance(key, tuple) and key[0] == "cap" else 1
        model.addConstr(sum(terms) <= max(most, 0) * count)


def quality(facts: ClusterFacts, offers: tuple[NodeOffer, ...], label: str, effort: int) -> float:
    """Print one fleet's figures; answers the share of the bound's savings."""
    problem = prepare(facts, offers)
    homes = sum(float(home.node.hourly_price or 0) for home in problem.homes)
    began = time.perf_counter()
    plan = plan_packing(facts, offers, effort=effort)
    seconds = time.perf_counter() - began
    wrong = verify(facts, plan, offers)
    assert not wrong, wrong[:5]
    now = float(plan.cost_now)
    bounds = {
        "lp": homes + lower_bound(problem, whole_nodes=False),
        "ilp": homes + lower_bound(problem, whole_nodes=True),
    }
    share = {name: round(float(plan.savings_hourly) / (now - bound), 4) for name, bound in bounds.items()}
    report(
        "repacking_quality",
        fleet=label,
        nodes=len(facts.nodes),
        pods=len(facts.pods),
        stuck=len(plan.stuck),
        cost_now=round(now, 3),
        cost_after=round(float(plan.cost_after), 3),
        bounds={name: round(bound, 3) for name, bound in bounds.items()},
        savings_share_of_bound=share,
        nodes_after=len(plan.nodes),
        moves=plan.moves,
        seconds=round(seconds, 2),
    )
    return share["ilp"]


def speed(nodes: int, effort: int) -> None:
    """Print the time and memory of one large fleet."""
    facts = make_fleet(nodes, seed=99, fill=0.62)
    offers = offers_for(facts.nodes, TYPES, PRICES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    plan = plan_packing(facts, offers, effort=effort)
    wall, busy = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    wrong = verify(facts, plan, offers)
    assert not wrong, wrong[:5]
    report(
        "repacking_speed",
        nodes=nodes,
        pods=len(facts.pods),
        wall_seconds=round(wall, 2),
        cpu_seconds=round(busy, 2),
        verify_seconds=round(time.perf_counter() - began, 2),
        rss_mb_before=round(before / 1024),
        rss_mb_peak=round(peak / 1024),
        cost_now=float(plan.cost_now),
        cost_after=float(plan.cost_after),
        nodes_after=len(plan.nodes),
        stuck=len(plan.stuck),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--fleets", type=int, default=5)
    parser.add_argument("--large", type=int, default=1000)
    parser.add_argument("--effort", type=int, default=DEFAULT_EFFORT)
    options = parser.parse_args()
    if options.large:
        speed(options.large, options.effort)
    shares = []
    for seed in range(1, options.fleets + 1):
        for rules in (False, True):
            facts = make_fleet(options.nodes, seed, rules=rules)
            offers = offers_for(facts.nodes, TYPES, PRICES)
            shares.append(
                quality(facts, offers, f"seed {seed}, {'with' if rules else 'without'} rules", options.effort)
            )
    if shares:
        report("repacking", worst_share_of_bound=min(shares), fleets=len(shares))


if __name__ == "__main__":
    main()
