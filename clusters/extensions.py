"""What apps above add to clusters without being imported: bulk actions, the node template that a cluster must
follow, and lines on its page.

They register in their `AppConfig.ready()`. Nothing registered means that the choice is not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clusters.analysis.drift import TemplateRules
from clusters.models import Cluster
from core.actor import Actor


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that may be applied: a template, a schedule."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class BulkAction:
    """An action of the registry's bulk bar. `choices(actor)` are offered to whoever has `permission`;
    `apply(actor, cluster, choice id)` is a service: it checks, audits, and raises CurfewError when it refuses."""

    key: str
    label: str
    icon: str
    permission: str
    choices: Callable[[Actor], Sequence[Choice]]
    apply: Callable[[Actor, Cluster, str], Any]


@dataclass(frozen=True, slots=True)
class Notice:
    """One line on a cluster's page with a link: what an app above has found there. `gold`: it is about money."""

    text: str
    url: str
    link: str
    gold: bool = True


_notices: list[Callable[[Actor, Cluster], Notice | None]] = []
_bulk: dict[str, BulkAction] = {}
_templates: list[Callable[[Cluster], TemplateRules | None]] = []
_pool_owners: list[Callable[[Cluster, str], str]] = []


def register_bulk(action: BulkAction) -> None:
    _bulk[action.key] = action


def bulk_actions(actor: Actor) -> list[BulkAction]:
    """Those that the actor may use, in the order of registration."""
    return [action for action in _bulk.values() if actor.can(action.permission)]


def bulk_action(key: str) -> BulkAction | None:
    return _bulk.get(key)


def register_templates(rules_of: Callable[[Cluster], TemplateRules | None]) -> None:
    """`rules_of(cluster)` gives what its node template allows, None when none is applied to it."""
    if rules_of not in _templates:
        _templates.append(rules_of)


def template_rules(cluster: Cluster) -> TemplateRules | None:
    """What the cluster's node template allows; None without one."""
    return next((rules for source in _templates if (rules := source(cluster)) is not None), None)


def register_pool_owner(source: Callable[[Cluster, str], str]) -> None:
    """`source(cluster, pool)` names what writes that NodePool and would set it back, "" when nothing does."""
    if source not in _pool_owners:
        _pool_owners.append(source)


def pool_owner(cluster: Cluster, name: str) -> str:
    """What writes a NodePool, "" when only people do."""
    return next((owner for source in _pool_owners if (owner := source(cluster, name))), "")


def register_notice(source: Callable[[Actor, Cluster], Notice | None]) -> None:
    """`source(actor, cluster)` says what the cluster's page should tell, None for nothing."""
    if source not in _notices:
        _notices.append(source)


def notices(actor: Actor, cluster: Cluster) -> list[Notice]:
    """What apps above have to say about a cluster."""
    return [found for source in _notices if (found := source(actor, cluster)) is not None]
