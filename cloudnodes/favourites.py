"""Nodes that a person marked, to find and wake them quickly. A person's own affair: shown to nobody else, not audited."""

from __future__ import annotations

from uuid import UUID

from cloudnodes import services
from cloudnodes.automatic_models import Favourite
from cloudnodes.models import CloudNode
from cloudnodes.services.orders import find_node
from core import clock
from core.actor import Actor


def mark(*, actor: Actor, node_id: UUID, on: bool) -> bool:
    """Mark or unmark; whether anything changed. NotFound for another organization's node."""
    node = find_node(actor=actor, node_id=node_id)
    actor.require("nodes.view", "mark cloud nodes")
    mine = Favourite.objects.for_org(node.organization_id).filter(user_id=actor.id, node=node)
    if not on:
        return mine.delete()[0] > 0
    _, created = Favourite.objects.for_org(node.organization_id).get_or_create(
        user_id=actor.id,
        node=node,
        defaults={"organization_id": node.organization_id, "created_at": clock.now()},
    )
    return bool(created)


def ids_of(actor: Actor) -> set[UUID]:
    """The ids of the actor's favourites."""
    return set(Favourite.objects.visible_to(actor).filter(user_id=actor.id).values_list("node_id", flat=True))


def wake_all(*, actor: Actor) -> services.Applied:
    """Wake every favourite that is off. Each stands for itself, as in Start all."""
    actor.require("nodes.operate", "wake cloud nodes")
    nodes = CloudNode.objects.visible_to(actor).filter(
        id__in=ids_of(actor), gone_at=None, managed=True, scaling="manual"
    )
    off = [n.id for n in nodes if not n.is_on]
    return services.apply_changes(actor=actor, on=off, reason="Start favourites") if off else services.Applied()
