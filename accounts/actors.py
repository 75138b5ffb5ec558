"""Small questions about actors."""

from __future__ import annotations

from uuid import UUID

from core.actor import Actor
from core.errors import Forbidden


def own_organization(actor: Actor) -> UUID:
    """The organization that the actor acts in; a component that acts in none has to be narrowed to one first."""
    if actor.org_id is None:
        raise Forbidden("This needs an organization to act in.", permission="organization")
    return actor.org_id
