"""Finding node templates and policies by name and id."""

from __future__ import annotations

from uuid import UUID

from core.actor import Actor
from core.errors import NotFound
from policies.models import NodeTemplate, Policy


def get_template(*, actor: Actor, template_id: UUID) -> NodeTemplate:
    """One template that the actor may see; NotFound also for another organization's."""
    found: NodeTemplate | None = NodeTemplate.objects.visible_to(actor).filter(id=template_id).first()
    if found is None:
        raise NotFound("There is no such node template.")
    return found


def list_templates(*, actor: Actor, search: str = "") -> list[NodeTemplate]:
    """Templates by name, the default one first."""
    rows = NodeTemplate.objects.visible_to(actor)
    if search:
        rows = rows.filter(name__icontains=search)
    return list(rows.order_by("-is_default", "name"))


def get_policy(*, actor: Actor, policy_id: UUID) -> Policy:
    """One policy that the actor may see; NotFound also for another organization's."""
    found: Policy | None = Policy.objects.visible_to(actor).filter(id=policy_id).first()
    if found is None:
        raise NotFound("There is no such policy.")
    return found


def list_policies(*, actor: Actor) -> list[Policy]:
    """Policies by name."""
    return list(Policy.objects.visible_to(actor).order_by("name"))
