"""Routes of node templates and policies."""

from __future__ import annotations

from core import clock
from policies.document import Document
from policies.models import NodeTemplate, Policy
from tests.access.matrix import World, page


def build(world: World) -> None:
    """A template and a policy."""
    org, now = world.alice.organization, clock.now()
    template = NodeTemplate.objects.for_org(org).create(
        organization=org, name="General", created_at=now, updated_at=now
    )
    policy = Policy.objects.for_org(org).create(
        organization=org, name="Careful", document=Document().to_json(), created_at=now, updated_at=now
    )
    world.ids.update(node_template=str(template.id), policy=str(policy.id))


ROUTES = [
    page("/node-templates/"),
    page("/node-templates/{node_template}/", stranger=404),
    page("/policies/"),
    page("/policies/{policy}/", stranger=404),
]
