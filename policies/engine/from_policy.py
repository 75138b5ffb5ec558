"""The engine's settings from a policy's document and a node template."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from clusters.analysis.facts import Pod
from policies.blueprint import Blueprint
from policies.document import Autoscaling, Budget, Exemptions
from policies.document import Consolidation as Card
from policies.engine.budgets import NodeBudget
from policies.engine.settings import Consolidation, Provisioning
from policies.engine.template import Template


def consolidation_settings(card: Card, organization_zone: str) -> Consolidation:
    """Of the card; budgets without a zone of their own are read in the organization's."""
    return Consolidation(
        level=card.level,
        method=card.method,
        stabilization=timedelta(minutes=card.stabilization_minutes),
        budgets=tuple(_budget(budget) for budget in card.budgets),
        zone=card.zone or organization_zone,
        buys=card.max_new_nodes > 0,
    )


def _budget(budget: Budget) -> NodeBudget:
    duration = timedelta(minutes=budget.minutes) if budget.minutes else None
    return NodeBudget(budget.nodes, budget.schedule, duration, frozenset(budget.reasons))


def provisioning_settings(card: Autoscaling) -> Provisioning:
    """Of the card."""
    return Provisioning(strategy=card.strategy, fall_back=card.on_demand_fallback)


def template_of(blueprint: Blueprint) -> Template:
    """What of a node template decides on machine types."""
    return Template(
        families=blueprint.families,
        architectures=frozenset(str(architecture) for architecture in blueprint.architectures),
        excluded_sizes=blueprint.excluded_sizes,
        zones=frozenset(blueprint.zones),
        purchasing=blueprint.purchasing,
    )


def exempt_pods(exemptions: Exemptions, pods: Iterable[Pod]) -> dict[str, str]:
    """The pods that must be left alone, by key, each with the reason."""
    found = {}
    for pod in pods:
        name = pod.workload.rsplit("/", 1)[-1] or pod.name
        reason = exemptions.reason(pod.namespace, pod.labels, name)
        if reason:
            found[pod.key] = reason
    return found
