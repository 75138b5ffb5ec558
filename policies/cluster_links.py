"""What policies add to the cluster registry: two bulk actions, and the rules that drift is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from clusters.analysis.drift import TemplateRules
from clusters.extensions import BulkAction, Choice
from clusters.models import Cluster
from core.actor import Actor
from policies import selectors, services
from policies.enums import PERMISSION_MANAGE
from policies.models import NodeTemplate, Policy

MOST = 100
NONE = "none"


def _templates(actor: Actor) -> Sequence[Choice]:
    rows = NodeTemplate.objects.visible_to(actor).order_by("name").values_list("id", "name")[:MOST]
    found = [Choice(str(template_id), name) for template_id, name in rows]
    return [*found, Choice(NONE, "as the policy says")] if found else []


def _apply_template(actor: Actor, cluster: Cluster, choice: str) -> None:
    template_id = None if choice == NONE else UUID(choice)
    services.apply_template(actor=actor, cluster_id=cluster.id, template_id=template_id)


def _policies(actor: Actor) -> Sequence[Choice]:
    rows = Policy.objects.visible_to(actor).order_by("name").values_list("id", "name")[:MOST]
    return [Choice(str(policy_id), name) for policy_id, name in rows]


def _apply_policy(actor: Actor, cluster: Cluster, choice: str) -> None:
    services.apply_policy(actor=actor, policy_id=UUID(choice), cluster_ids=[cluster.id])


def rules_of(cluster: Cluster) -> TemplateRules | None:
    """What the template that binds this cluster allows; None without one."""
    actor = Actor.system("drift", cluster.organization_id)
    row = selectors.template_of(actor=actor, cluster_id=cluster.id)
    return row.blueprint().rules() if row else None


TEMPLATE = BulkAction("template", "Apply template", "template", PERMISSION_MANAGE, _templates, _apply_template)
POLICY = BulkAction("policy", "Apply policy", "adjustments-horizontal", PERMISSION_MANAGE, _policies, _apply_policy)
