"""What this app keeps about a person, for their export; and its end with an organization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from django.db.models import Q

from accounts.models import User
from core.actor import Actor
from notifications.enums import State
from notifications.models import Channel, Delivery, Preference, PushSubscription

_WISHES = (
    "organization__name",
    "enabled",
    "events",
    "push_enabled",
    "push_events",
    "quiet_start",
    "quiet_end",
    "digest_minutes",
)


def sections(*, user: User) -> list[tuple[str, Iterator[Mapping[str, Any]]]]:
    """Name and rows of each file."""
    told = Delivery.objects.all_orgs().filter(Q(user=user) | Q(push__user=user)).order_by("created_at")
    return [
        ("notification_wishes", Preference.objects.all_orgs().filter(user=user).values(*_WISHES).iterator()),
        (
            "browsers",
            PushSubscription.objects.filter(user=user).values("browser", "host", "created_at", "sent_at").iterator(),
        ),
        (
            "messages",
            told.values("organization__name", "event", "subject", "body", "state", "created_at", "sent_at").iterator(),
        ),
    ]


def organization_closed(*, actor: Actor, organization_id: UUID) -> None:
    """Channels and what waits for anybody of the organization are dropped with its end."""
    Delivery.objects.for_org(organization_id).filter(state__in=[State.WAITING, State.SENDING]).delete()
    Channel.objects.for_org(organization_id).delete()
