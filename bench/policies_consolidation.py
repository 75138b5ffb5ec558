"""Consolidation by the policies' engine: speed, savings against a bound and against Karpenter's ranking, and quiet.

    python -m bench.policies_consolidation                      # everything
    python -m bench.policies_consolidation --only speed bound ranking traces ladder

speed    1,000 nodes / 11,000 pods with every kind of rule, and Karpenter's published scenario (bench/policies_scenarios.py)
bound    savings beside a lower bound on the cost of any placement (HiGHS, see bench/repacking.py), at 100 nodes: after one
         plan, and after further plans until one finds nothing. `all` bounds any placement of the pods that may move,
         `allowed` any that empties whole nodes and leaves those alone, with their pods, that the setting leaves alone.
ranking  savings at 10, 25 and 50 % of the cluster's disruption, beside Karpenter's ways (bench/policies_karpenter.py)
traces   real arrivals of machines and a government's real requests: 50 rounds of launching and consolidating
ladder   50 rounds of spot prices that wobble by chance: how often a workload is moved to yet another type, with and
         without the gates

Every plan is checked by the re-packing's verifier and carried out before the model of the scheduler; a pod without a place,
an overdrawn budget or a broken rule ends the run.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from bench.policies_karpenter import Karpenter
from bench.policies_scenarios import arrivals, govuk, karpenter_scenario, machine_offers, with_daemons
from bench.repacking import lower_bound
from bench.support import report
from clusters.analysis.facts import ClusterFacts, Lifecycle, Pod
from clusters.analysis.packing import NodeOffer, offers_for, verify
from clusters.analysis.packing.prepare import prepare
from policies.engine.actions import Plan
from policies.engine.consolidation import consolidate
from policies.engine.launching import Option, choose_launches
from policies.engine.memory import Memory
from policies.engine.replay import Replay, replay
from policies.engine.scheduler import Scheduler
from policies.engine.settings import Consolidation, Provisioning
from policies.engine.template import Template
from policies.enums import Level, Purchasing, Strategy
from tests.clusters.analysis.fleets import PRICES, TYPES, make_fleet

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ALL = 2.0  # a threshold above any use
SEEDS = (101, 102, 103)


def settings(level: str = "aggressive", threshold: float | None = None, disruption: float = 1.0) -> Consolidation:
    return Consolidation(Level(level), threshold=threshold, most_disruption=disruption)


def carried_out(facts: ClusterFacts, plan: Plan, offers: Sequence[NodeOffer], seed: int | None = None) -> Replay:
    """Verify the plan and carry it out; it must leave nothing wrong."""
    wrong = verify(facts, plan.packing, offers)
    assert not wrong, wrong[:5]
    done = replay(facts, plan.actions, seed)
    assert not done.overdrawn, done.overdrawn[:5]
    return done


def until_quiet(
    facts: ClusterFacts, offers: Sequence[NodeOffer], chosen: Consolidation, rounds: int = 8
) -> tuple[list[float], int, int]:
    """Savings after each plan, evictions, and pods without a place, of plan after plan (an hour apart)."""
    saved, evictions, lost = [0.0], 0, 0
    memory = Memory()
    for turn in range(rounds):
        now = NOW + timedelta(hours=turn)
        plan = consolidate(facts, chosen, now, offers=offers, memory=memory, prefix=f"turn{turn}")
        if not plan.actions:
            break
        done = carried_out(facts, plan, offers)
        lost += len(done.unschedulable)
        evictions += done.evictions
        for action in plan.actions:
            memory = memory.done(action.nodes, action.receivers, action.new_name or None, now)
        saved.append(saved[-1] + float(plan.savings_hourly))
        facts = done.facts
    return saved[1:] or [0.0], evictions, lost


# Parts ---------------------------------------------------------------------------------------------------------------


def speed() -> None:
    fleet = make_fleet(1000, seed=99)
    published, offers = karpenter_scenario(5000)
    cases: list[tuple[str, ClusterFacts, Sequence[NodeOffer]]] = [
        ("all rules", fleet, offers_for(fleet.nodes, TYPES, PRICES)),
        ("Karpenter's scenario", with_daemons(published), offers),
    ]
    for name, facts, market in cases:
        if not market:
            print("no shared data: scenario left out")
            continue
        for level in ("balanced", "aggressive"):
            wall, cpu = time.perf_counter(), time.process_time()
            plan = consolidate(facts, settings(level), NOW, offers=market)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            lost = [len(carried_out(facts, plan, market, seed).unschedulable) for seed in (None, *SEEDS)]
            looked = [replay(facts, plan.actions, seed, look_again=True) for seed in SEEDS]
            report(
                "policies_speed", cluster=name, level=level, nodes=len(facts.nodes), pods=len(facts.pods),
                wall_seconds=round(wall, 2), cpu_seconds=round(cpu, 2), rss_mb_peak=round(peak / 1024),
                actions=len(plan.actions), moves=sum(len(a.moves) for a in plan.actions),
                cost_now=round(float(plan.packing.cost_now), 2), savings=round(float(plan.savings_hourly), 2),
                unschedulable={"as planned": lost[0], "by chance, blindly": lost[1:],
                               "by chance, looking again": [len(done.unschedulable) for done in looked]},
                held_back=[len(done.held_back) for done in looked],
            )  # fmt: skip


def bound(nodes: int, fleets: int) -> None:
    worst: dict[str, float] = defaultdict(lambda: 1.0)
    for seed in range(1, fleets + 1):
        for rules in (False, True):
            facts = make_fleet(nodes, seed, rules=rules)
            offers = offers_for(facts.nodes, TYPES, PRICES)
            for label, chosen in (("aggressive", settings()), ("no threshold", settings(threshold=ALL))):
                first = consolidate(facts, chosen, NOW, offers=offers)
                stay = {node.name for node in facts.nodes} - first.eligible
                limits = {"all": best_savings(facts, offers, set()), "allowed": best_savings(facts, offers, stay)}
                saved, evictions, lost = until_quiet(facts, offers, chosen)
                shares = {
                    f"{when} of {name}": round(amount / limit, 4)
                    for name, limit in limits.items()
                    for when, amount in (("first plan", saved[0]), ("quiet", saved[-1]))
                }
                for name, share in shares.items():
                    worst[f"{label}, {name}"] = min(worst[f"{label}, {name}"], share)
                report(
                    "policies_bound", fleet=f"seed {seed}, {'with' if rules else 'without'} rules", setting=label,
                    pods=len(facts.pods), cost_now=round(float(first.packing.cost_now), 2),
                    savings=[round(amount, 2) for amount in saved], bounds={k: round(v, 2) for k, v in limits.items()},
                    shares=shares, evictions=evictions, unschedulable=lost,
                )  # fmt: skip
    report("policies_bound", worst=dict(worst), fleets=2 * fleets)


def best_savings(facts: ClusterFacts, offers: Sequence[NodeOffer], stay: set[str]) -> float:
    """An upper bound on what any placement could save an hour, if the nodes in `stay` stay with their pods."""
    nodes = tuple(replace(n, lifecycle=Lifecycle.RESERVED) if n.name in stay else n for n in facts.nodes)
    pods = tuple(replace(pod, do_not_disrupt=True) if pod.node in stay else pod for pod in facts.pods)
    problem = prepare(replace(facts, nodes=nodes, pods=pods), offers)
    now = sum(float(node.hourly_price or 0) for node in facts.nodes)
    homes = sum(float(home.node.hourly_price or 0) for home in problem.homes)
    return now - homes - lower_bound(problem, whole_nodes=False)


def ranking(nodes: int) -> None:
    cases: list[tuple[str, ClusterFacts, Sequence[NodeOffer]]] = []
    for seed in (1, 2):
        for rules in (False, True):
            facts = make_fleet(nodes, seed, rules=rules)
            name = f"seed {seed}, {'with' if rules else 'without'} rules"
            cases.append((name, facts, offers_for(facts.nodes, TYPES, PRICES)))
    published, offers = karpenter_scenario(600)
    if offers:
        cases.append(("Karpenter's scenario, 600 pods", published, offers))
    for name, facts, market in cases:
        figures = {}
        for share in (0.1, 0.25, 0.5):
            row = {}
            for way, balanced in (("karpenter", False), ("karpenter_balanced", True)):
                peer = Karpenter(facts, list(market), balanced=balanced, share=share)
                peer.run()
                row[way] = round(peer.curve[-1][1] / peer.cost, 4)
            for way, threshold in (("curfew_80", None), ("curfew", ALL)):
                saved = within(facts, market, threshold, share)
                row[way] = round(saved / peer.cost, 4)
            figures[f"{share:.0%}"] = row
        report("policies_ranking", cluster=name, savings_share_of_cost=figures)


def within(facts: ClusterFacts, market: Sequence[NodeOffer], threshold: float | None, share: float) -> float:
    """What is saved with that share of the cluster's disruption: plan after plan until it is used up."""
    saved, left, total = 0.0, share, None
    for turn in range(4):
        plan = consolidate(facts, settings("aggressive", threshold, left), NOW, offers=market, prefix=f"turn{turn}")
        if total is None:
            total = len(facts.nodes) + sum(
                min(max(1 + pod.priority / (1 << 25), 0), 10) for pod in facts.pods if not pod.daemonset
            )
        if not plan.actions:
            break
        done = carried_out(facts, plan, market)
        assert not done.unschedulable
        saved += float(plan.savings_hourly)
        left -= sum(action.trouble for action in plan.actions) / total
        facts = done.facts
    return saved


def traces(rounds: int) -> None:
    """Launch for what arrives, end what ended, consolidate; for the real arrivals, and once for the real requests."""
    offers = machine_offers(("m7i", "c7i", "r7i"), most_vcpus=32)
    if not offers:
        print("no shared data: traces left out")
        return
    options = [Option(offer, -(-offer.allocatable.cpu_milli // 1000)) for offer in offers]
    for level in ("balanced", "aggressive"):
        run = _Trace(offers, options, level)
        for turn, (came, over) in enumerate(arrivals(rounds, minutes=60)):
            run.round(turn, came, over)
        report("policies_trace", trace="azure_vm_arrivals_2017, every 20th batch", level=level, **run.figures())
    pods = govuk()
    run = _Trace(offers, options, "aggressive")
    run.round(0, pods, set())
    gone = {pod.key for index, pod in enumerate(pods) if index % 3 == 0}
    for turn in range(1, 4):
        run.round(turn, [], gone)
    report(
        "policies_trace",
        trace="k8s_workloads_govuk production, then a third of the pods gone",
        level="aggressive",
        **run.figures(),
    )


class _Trace:
    def __init__(self, offers: Sequence[NodeOffer], options: list[Option], level: str) -> None:
        self.offers, self.options, self.chosen = offers, options, settings(level)
        self.facts, self.memory = ClusterFacts(), Memory()
        self.cost = self.idle_cost = 0.0
        self.actions = self.evictions = self.lost = self.bought = self.unplaced = self.rounds = self.most_nodes = 0
        self.kept_nodes: dict[str, float] = {}
        self.steps: dict[str, int] = defaultdict(int)

    def round(self, turn: int, came: list[Pod], over: set[str]) -> None:
        now = NOW + timedelta(hours=turn)
        pods = tuple(pod for pod in (*self.facts.pods, *came) if pod.key not in over)
        facts = replace(self.facts, pods=pods)
        asked = choose_launches(
            facts, self.options, Provisioning(Strategy.LOWEST_PRICE), Template(purchasing=Purchasing.ON_DEMAND), now
        )
        self.unplaced += len(asked.refusals)
        nodes = [launch.option.offer.as_node(f"l{turn}-{i}") for i, launch in enumerate(asked.launches)]
        place = {key: node.name for launch, node in zip(asked.launches, nodes, strict=True) for key in launch.pods}
        self.bought += len(nodes)
        self.facts = with_places(replace(facts, nodes=(*facts.nodes, *nodes)), place)
        plan = consolidate(self.facts, self.chosen, now, offers=self.offers, memory=self.memory, prefix=f"c{turn}")
        done = carried_out(self.facts, plan, self.offers)
        self.lost += len(done.unschedulable)
        self.evictions += done.evictions
        self.actions += len(plan.actions)
        types = {node.name: node.instance_type for node in done.facts.nodes}
        for action in plan.actions:
            self.memory = self.memory.done(action.nodes, action.receivers, action.new_name or None, now)
            for move in action.moves:
                self.steps[move.pod] += action.new is not None and types.get(move.target) == action.new.instance_type
        self.cost += sum(float(node.hourly_price or 0) for node in done.facts.nodes)
        self.facts = done.facts
        self.rounds += 1
        self.most_nodes = max(self.most_nodes, len(self.facts.nodes))
        # Beside it: the same nodes if only empty ones were ever deleted.
        self.idle_cost += self._without(came, over, turn, now)

    def _without(self, came: list[Pod], over: set[str], turn: int, now: datetime) -> float:
        if not hasattr(self, "peer"):
            self.peer = ClusterFacts()
        pods = tuple(pod for pod in (*self.peer.pods, *came) if pod.key not in over)
        facts = replace(self.peer, pods=pods)
        asked = choose_launches(
            facts, self.options, Provisioning(Strategy.LOWEST_PRICE), Template(purchasing=Purchasing.ON_DEMAND), now
        )
        nodes = [launch.option.offer.as_node(f"p{turn}-{i}") for i, launch in enumerate(asked.launches)]
        place = {key: node.name for launch, node in zip(asked.launches, nodes, strict=True) for key in launch.pods}
        facts = with_places(replace(facts, nodes=(*facts.nodes, *nodes)), place)
        used = {pod.node for pod in facts.pods}
        self.peer = replace(facts, nodes=tuple(node for node in facts.nodes if node.name in used))
        return sum(float(node.hourly_price or 0) for node in self.peer.nodes)

    def figures(self) -> dict[str, object]:
        return {
            "rounds": self.rounds, "most_nodes": self.most_nodes, "bought_for_pods": self.bought,
            "actions": self.actions, "evictions": self.evictions, "unschedulable": self.lost, "refused_pods": self.unplaced,
            "dollars": round(self.cost, 2), "dollars_if_only_empty_nodes_go": round(self.idle_cost, 2),
            "most_replacements_of_a_pod": max(self.steps.values(), default=0),
        }  # fmt: skip


def with_places(facts: ClusterFacts, place: dict[str, str]) -> ClusterFacts:
    """New pods where they were bought for; others that wait where the scheduler puts them."""
    known = {node.name for node in facts.nodes}
    cluster = Scheduler(replace(facts, pods=tuple(pod for pod in facts.pods if pod.node in known)))
    for pod in facts.pods:
        if pod.node in known:
            continue
        if pod.key in place:
            cluster.bind(replace(pod, node=None), place[pod.key])
        else:
            cluster.schedule(replace(pod, node=None))
    return cluster.facts()


def ladder(rounds: int) -> None:
    for gates in (True, False):
        report("policies_ladder", gates=gates, rounds=rounds, **ladder_run(rounds, gates=gates))


def ladder_run(rounds: int, *, gates: bool, nodes: int = 40) -> dict[str, object]:
    """Spot prices go up and down by up to 30 % each round; nothing else changes."""
    rng = random.Random(5)
    facts = make_fleet(nodes, 3, rules=False, fill=0.5)
    spot = tuple(
        replace(offer, lifecycle=Lifecycle.SPOT, hourly_price=offer.hourly_price * Decimal("0.4"))
        for offer in offers_for(facts.nodes, TYPES, PRICES)
    )
    facts = replace(facts, nodes=tuple(replace(node, lifecycle=Lifecycle.SPOT) for node in facts.nodes))
    # The catalogue has 15 types in all, so 8 cheaper ones must do for the gate.
    chosen = replace(settings(threshold=ALL), cheaper_spot_types=8)
    if not gates:
        chosen = replace(chosen, cheaper_spot_types=1, longest_chain=10**6, payback=timedelta(days=365))
    memory = Memory()
    history: dict[str, list[str]] = {pod.key: [] for pod in facts.pods if not pod.daemonset}
    actions = late = lost = 0
    for turn in range(rounds):
        now = NOW + timedelta(hours=turn)
        market = _wobble(spot, rng)
        price = {(o.instance_type, o.zone): o.hourly_price for o in market}
        facts = replace(
            facts,
            nodes=tuple(
                replace(n, hourly_price=price.get((n.instance_type, n.zone), n.hourly_price)) for n in facts.nodes
            ),
        )
        plan = consolidate(facts, chosen, now, offers=market, memory=memory, prefix=f"t{turn}")
        done = carried_out(facts, plan, market)
        lost += len(done.unschedulable)
        actions += len(plan.actions)
        late += len(plan.actions) if turn >= rounds // 2 else 0
        for action in plan.actions:
            memory = memory.done(action.nodes, action.receivers, action.new_name or None, now)
            for move in action.moves:
                if action.new is not None and move.target == action.new_name:
                    history[move.pod].append(action.new.instance_type)
        facts = done.facts
    longest = max(history.values(), key=len)
    return {
        "actions": actions, "in_the_second_half": late, "unschedulable": lost,
        "most_replacements_of_a_pod": len(longest), "the_longest": longest[:12],
    }  # fmt: skip


def _wobble(offers: Sequence[NodeOffer], rng: random.Random) -> list[NodeOffer]:
    kinds = sorted({offer.instance_type for offer in offers})
    factor = {kind: Decimal(str(round(rng.uniform(0.7, 1.3), 3))) for kind in kinds}
    return [replace(o, hourly_price=o.hourly_price * factor[o.instance_type]) for o in offers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["speed", "bound", "ranking", "traces", "ladder"])
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--fleets", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    parts = {
        "speed": speed,
        "bound": lambda: bound(options.nodes, options.fleets),
        "ranking": lambda: ranking(options.nodes),
        "traces": lambda: traces(options.rounds),
        "ladder": lambda: ladder(options.rounds),
    }
    for name in options.only:
        parts[name]()


if __name__ == "__main__":
    main()
