"""Small clusters for the engine's tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from clusters.analysis.facts import GIB, ClusterFacts, Lifecycle, Node, Pod, Resources
from clusters.analysis.packing import offers_for, verify
from policies.engine.actions import Plan
from policies.engine.consolidation import consolidate
from policies.engine.replay import replay
from policies.engine.settings import Consolidation
from policies.enums import Level, Method
from tests.clusters.analysis.fleets import PRICES, TYPES, make_node

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
CONSERVATIVE = Consolidation(Level.CONSERVATIVE)
BALANCED = Consolidation(Level.BALANCED)
AGGRESSIVE = Consolidation(Level.AGGRESSIVE)
ONLY_EMPTY = Consolidation(Level.AGGRESSIVE, Method.DELETE_EMPTY)


def a_pod(name: str, node: str | None, cpu: int = 1000, memory_gib: float = 1, **fields: object) -> Pod:
    app = name.rsplit("-", 1)[0]
    pod = Pod(
        name,
        workload=f"default/Deployment/{app}",
        node=node,
        requests=Resources(cpu, int(memory_gib * GIB)),
        labels={"app": app},
        owner_replicas=2,
    )
    return replace(pod, **fields)


def spot_node(name: str, kind: str, price: str, cpu: int = 8000, memory_gib: int = 32) -> Node:
    return Node(
        name,
        Resources(cpu, memory_gib * GIB),
        instance_type=kind,
        lifecycle=Lifecycle.SPOT,
        hourly_price=Decimal(price),
    )


def facts_of(nodes: list[Node], pods: list[Pod], **more: object) -> ClusterFacts:
    return ClusterFacts(tuple(nodes), tuple(pods), **more)


def plan_of(
    facts: ClusterFacts, settings: Consolidation = AGGRESSIVE, *, catalogue: bool = True, **more: object
) -> Plan:
    """Plan, and insist that the verifier and the scheduler agree."""
    offers = more.pop("offers", offers_for(facts.nodes, TYPES, PRICES) if catalogue else ())
    plan = consolidate(facts, settings, NOW, offers=offers, **more)
    assert verify(facts, plan.packing, offers) == []
    done = replay(facts, plan.actions)
    assert done.unschedulable == []
    assert done.overdrawn == []
    return plan


def reason(plan: Plan, node: str) -> str:
    return str(plan.refusals[node].reason)


def gone(plan: Plan) -> set[str]:
    return {name for action in plan.actions for name in action.nodes}


__all__ = ["AGGRESSIVE", "BALANCED", "CONSERVATIVE", "NOW", "ONLY_EMPTY", "a_pod", "facts_of", "gone", "make_node", "plan_of", "reason", "spot_node"]  # fmt: skip
