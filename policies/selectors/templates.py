"""Reads of node templates: the list, what uses one, and how one is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from core.actor import Actor
from policies import conflicts
from policies.blueprint import Blueprint
from policies.catalogue import catalogue
from policies.models import ClusterTemplate, NodeTemplate, Policy, PolicyAssignment
from policies.selectors.prices import quotes


@dataclass(frozen=True, slots=True)
class Uses:
    """What a template is needed by: policies that name it (or fall back on it, being the default), clusters that follow
    one of those, and clusters it was applied to itself."""

    policies: tuple[tuple[UUID, str], ...] = ()
    clusters: tuple[tuple[UUID, str], ...] = ()
    own: tuple[tuple[UUID, str], ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.policies or self.own)

    @property
    def words(self) -> str:
        """In a sentence: by name while there are few."""
        parts = []
        if self.policies:
            parts.append(_named("policy", "policies", self.policies))
        if self.own:
            parts.append(_named("cluster", "clusters", self.own))
        return " and ".join(parts) or "nothing"


def _named(one: str, many: str, rows: tuple[tuple[UUID, str], ...]) -> str:
    names = ", ".join(name for _, name in rows[:3])
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return f"{one if len(rows) == 1 else many} {names}{more}"


def name_taken(*, actor: Actor, name: str, but: UUID | None = None) -> bool:
    """Whether another template of the organization has this name, whatever its capitals."""
    rows = NodeTemplate.objects.visible_to(actor).filter(name__iexact=name.strip())
    return bool((rows.exclude(id=but) if but else rows).exists())


def uses_of(*, actor: Actor, template: NodeTemplate) -> Uses:
    """What uses one template. Three queries."""
    return uses(actor=actor, templates=[template])[template.id]


def uses(*, actor: Actor, templates: list[NodeTemplate]) -> Mapping[UUID, Uses]:
    """What uses each of these templates. Three queries however many they are."""
    policies = list(Policy.objects.visible_to(actor).order_by("name"))
    links = list(
        PolicyAssignment.objects.visible_to(actor)
        .order_by("cluster__name")
        .values_list("policy_id", "cluster_id", "cluster__name")
    )
    own = list(
        ClusterTemplate.objects.visible_to(actor)
        .order_by("cluster__name")
        .values_list("template_id", "cluster_id", "cluster__name")
    )
    named = {policy.id: str(policy.parsed().autoscaling.template) for policy in policies}
    found = {}
    for template in templates:
        mine = [p for p in policies if named[p.id] == str(template.id) or (template.is_default and not named[p.id])]
        ids = {p.id for p in mine}
        found[template.id] = Uses(
            tuple((p.id, p.name) for p in mine),
            tuple((cluster, name) for policy, cluster, name in links if policy in ids),
            tuple((cluster, name) for t, cluster, name in own if t == template.id),
        )
    return found


def judge(blueprint: Blueprint, region: str = "") -> conflicts.Verdict:
    """How a template, saved or still being written, is judged by specifications and prices. One query."""
    types = conflicts.allowed_types(blueprint, catalogue())
    return conflicts.judge(blueprint, catalogue(), quotes([t.name for t in types], region))


def family_prices(region: str = "") -> dict[str, Decimal]:
    """The lowest list price an hour of each family, for the grid of families. One query."""
    known = quotes(catalogue().types, region)
    found: dict[str, Decimal] = {}
    for name, quote in known.items():
        family = catalogue().types[name].family
        if quote.on_demand is not None and quote.on_demand < found.get(family, Decimal(1_000_000)):
            found[family] = quote.on_demand
    return found
