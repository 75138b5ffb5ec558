"""Reads of channels, preferences and the outbox: scoped, evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core.actor import Actor
from core.errors import Forbidden
from notifications import events
from notifications.enums import State
from notifications.models import Channel, Delivery, Preference

VIEW = "notifications.view"


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One message as the page shows it."""

    delivery: Delivery
    to: str
    what: str

    @property
    def is_dead(self) -> bool:
        return self.delivery.state == State.DEAD


def channels(*, actor: Actor) -> list[Channel]:
    """The organization's channels by name."""
    actor.require(VIEW, "see notification channels")
    return list(Channel.objects.visible_to(actor).order_by("name"))


def deliveries(*, actor: Actor, dead: bool = False, limit: int = 50) -> list[DeliveryView]:
    """The newest messages to channels (a person's own e-mails are theirs), or only those that were given up."""
    actor.require(VIEW, "see notification channels")
    rows = (
        Delivery.objects.visible_to(actor)
        .filter(channel__isnull=False)
        .select_related("channel")
        .order_by("-created_at")
    )
    if dead:
        rows = rows.filter(state=State.DEAD)
    return [DeliveryView(row, str(row.channel or ""), _label(row.event)) for row in rows[:limit]]


def first_sent_at(organization_id: UUID, dedupe_prefix: str, since: datetime) -> datetime | None:
    """When the first message written `since` whose key begins so reached somebody; None when none has."""
    sent = Delivery.objects.for_org(organization_id).filter(
        created_at__gte=since, dedupe_key__startswith=dedupe_prefix, state=State.SENT
    )
    found: datetime | None = sent.order_by("sent_at").values_list("sent_at", flat=True).first()
    return found


def _label(event: str) -> str:
    try:
        return events.get(event).label
    except KeyError:
        return event


def dead_count(*, actor: Actor) -> int:
    """How many messages to channels were given up."""
    return Delivery.objects.visible_to(actor).filter(channel__isnull=False, state=State.DEAD).count()


def preference(*, actor: Actor) -> Preference:
    """The actor's own wishes; the default, unsaved, when there are none."""
    found = Preference.objects.visible_to(actor).filter(user_id=actor.id).first()
    if found is None and actor.org_id is not None:
        return Preference(organization_id=actor.org_id, user_id=actor.id)
    if found is None:
        raise Forbidden("Act in one organization to choose notifications.")
    return found
