"""A person's named filters of the log."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from audit.models import SavedView
from audit.selectors import PERMISSION
from core.actor import Actor, ActorKind
from core.errors import Forbidden, InvalidInput, NotFound

MOST = 30


def save_view(*, actor: Actor, name: str, query: str) -> SavedView:
    """Keep the query string under a name of the actor's own; the same name again replaces it. Raises InvalidInput."""
    actor.require(PERMISSION, "save a view of the audit log")
    if actor.kind != ActorKind.USER or actor.org_id is None:
        raise Forbidden("Only a person has saved views.")
    if not 0 < len(name.strip()) <= 60:
        raise InvalidInput(errors={"name": ["Give the view a name of 1 to 60 characters."]})
    if len(query) > 600:
        raise InvalidInput(errors={"query": ["This filter is too long to keep."]})
    mine = SavedView.objects.for_org(actor.org_id).filter(user_id=actor.id)
    if mine.count() >= MOST and not mine.filter(name=name.strip()).exists():
        raise InvalidInput(errors={"name": [f"There are {MOST} saved views; remove one first."]})
    with transaction.atomic():
        saved, _ = mine.update_or_create(
            organization_id=actor.org_id, user_id=actor.id, name=name.strip(), defaults={"query": query}
        )
    return saved


def remove_view(*, actor: Actor, view_id: UUID) -> None:
    """Forget one of the actor's own views; NotFound for anybody else's."""
    removed, _ = SavedView.objects.visible_to(actor).filter(id=view_id, user_id=actor.id).delete()
    if not removed:
        raise NotFound("There is no such view.")
