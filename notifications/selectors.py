"""Reads of channels, preferences and the outbox: scoped, evaluated."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from core.actor import Actor
from core.errors import Forbidden, NotFound
from notifications import events
from notifications.enums import State
from notifications.models import Channel, Delivery, Preference, PushSubscription

VIEW = "notifications.view"
SHARED = Q(channel__isnull=False) | ~Q(address="")  # a person's own mails and browsers are theirs


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One message as the page shows it."""

    delivery: Delivery
    to: str
    what: str

    @property
    def is_dead(self) -> bool:
        return self.delivery.state == State.DEAD


@dataclass(frozen=True, slots=True)
class Wish:
    """One kind of event on a person's page."""

    name: str
    label: str
    urgent: bool
    by_email: bool
    by_push: bool


def wishes(*, emails: Collection[str], pushes: Collection[str]) -> list[Wish]:
    """Every kind that can be chosen, with what is chosen; an empty collection stands for everything but single tasks."""
    return [
        Wish(e.name, e.label, e.urgent, *(e.name in chosen if chosen else not e.asked for chosen in (emails, pushes)))
        for e in events.all_events()
        if e.name != "notifications.test"
    ]


def browsers(*, actor: Actor) -> list[PushSubscription]:
    """The actor's own browsers that take push messages, the newest first."""
    return list(PushSubscription.objects.filter(user_id=actor.id).order_by("-created_at"))


def get_channel(*, actor: Actor, channel_id: UUID) -> Channel:
    """A channel of the actor's organization. Raises NotFound."""
    actor.require(VIEW, "see notification channels")
    found: Channel | None = Channel.objects.visible_to(actor).filter(id=channel_id).first()
    if found is None:
        raise NotFound("There is no such channel.")
    return found


def channels(*, actor: Actor) -> list[Channel]:
    """The organization's channels by name."""
    actor.require(VIEW, "see notification channels")
    return list(Channel.objects.visible_to(actor).order_by("name"))


def deliveries(*, actor: Actor, dead: bool = False, limit: int = 50) -> list[DeliveryView]:
    """The newest messages to channels (a person's own e-mails are theirs), or only those that were given up."""
    actor.require(VIEW, "see notification channels")
    rows = Delivery.objects.visible_to(actor).filter(SHARED).select_related("channel").order_by("-created_at")
    if dead:
        rows = rows.filter(state=State.DEAD)
    return [DeliveryView(row, str(row.channel or row.address), events.label_of(row.event)) for row in rows[:limit]]


def first_sent_at(organization_id: UUID, dedupe_prefix: str, since: datetime) -> datetime | None:
    """When the first message written `since` whose key begins so reached somebody; None when none has."""
    sent = Delivery.objects.for_org(organization_id).filter(
        created_at__gte=since, dedupe_key__startswith=dedupe_prefix, state=State.SENT
    )
    found: datetime | None = sent.order_by("sent_at").values_list("sent_at", flat=True).first()
    return found


def dead_count(*, actor: Actor) -> int:
    """How many messages to channels were given up."""
    return Delivery.objects.visible_to(actor).filter(SHARED, state=State.DEAD).count()


def preference(*, actor: Actor) -> Preference:
    """The actor's own wishes; the default, unsaved, when there are none."""
    found = Preference.objects.visible_to(actor).filter(user_id=actor.id).first()
    if found is None and actor.org_id is not None:
        return Preference(organization_id=actor.org_id, user_id=actor.id)
    if found is None:
        raise Forbidden("Act in one organization to choose notifications.")
    return found
