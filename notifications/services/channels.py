"""Channels of an organization: added with a checked address, tested, turned off, removed. Every change is recorded."""

from __future__ import annotations

import secrets as random_text
from collections.abc import Sequence
from datetime import time
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from audit import services as audit
from core import clock, ssrf
from core.actor import Actor
from core.encryption import seal
from core.errors import Forbidden, InvalidInput, InvalidState, NotFound
from notifications.enums import ChannelKind, State
from notifications.models import Channel, Delivery
from notifications.services.delivering import send_now
from notifications.services.preferences import check

MANAGE = "notifications.manage"


def add_channel(
    *,
    actor: Actor,
    name: str,
    kind: str,
    url: str = "",
    addresses: Sequence[str] = (),
    events: Sequence[str] = (),
    quiet_start: time | None = None,
    quiet_end: time | None = None,
    timezone: str = "UTC",
    digest_minutes: int = 0,
    hourly_limit: int = 60,
) -> tuple[Channel, str]:
    """A new channel, and for a webhook the signing secret, shown this once. Raises InvalidInput per field.

    `url` is judged now and again at each call; it is kept encrypted, since who knows it can post.
    """
    actor.require(MANAGE, "add notification channels")
    if actor.org_id is None:
        raise Forbidden("Act in one organization to add a channel.")
    errors = check(events, quiet_start, quiet_end, timezone, digest_minutes) | _problems(name, kind, url, addresses)
    if not 1 <= hourly_limit <= 1000:
        errors["hourly_limit"] = ["1 to 1000 an hour."]
    if Channel.objects.for_org(actor.org_id).filter(name=name.strip()).exists():
        errors["name"] = ["There is a channel of that name."]
    if errors:
        raise InvalidInput(errors=errors)
    channel_id, secret = uuid4(), f"whsec_{random_text.token_urlsafe(32)}" if kind == ChannelKind.WEBHOOK else ""
    kept = {"url": url, "secret": secret} if kind != ChannelKind.EMAIL else {}
    with transaction.atomic():
        channel = Channel.objects.for_org(actor.org_id).create(
            id=channel_id,
            organization_id=actor.org_id,
            name=name.strip(),
            kind=kind,
            addresses=list(addresses) if kind == ChannelKind.EMAIL else [],
            secrets=seal(kept, bound_to=f"channel:{channel_id}") if kept else "",
            hint=(urlsplit(url).hostname or "")[:120] if kept else ", ".join(addresses)[:120],
            events=sorted(set(events)),
            quiet_start=quiet_start,
            quiet_end=quiet_end,
            timezone=timezone,
            digest_minutes=digest_minutes,
            hourly_limit=hourly_limit,
            created_at=clock.now(),
        )
        audit.record(
            actor=actor,
            verb="channel.added",
            target=channel,
            changes={"kind": [None, kind], "to": [None, channel.hint]},
        )
    return channel, secret


def _problems(name: str, kind: str, url: str, addresses: Sequence[str]) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    if not 0 < len(name.strip()) <= 80:
        errors["name"] = ["Give the channel a name of 1 to 80 characters."]
    if kind not in ChannelKind.values:
        errors["kind"] = ["Choose Slack, e-mail or webhook."]
    elif kind == ChannelKind.EMAIL:
        if not 0 < len(addresses) <= 20:
            errors["addresses"] = ["Give one to twenty addresses."]
        for address in addresses:
            try:
                validate_email(address)
            except ValidationError:
                errors["addresses"] = [f"{address[:80]} is not an e-mail address."]
    else:
        try:
            ssrf.check_url(url)
        except (ssrf.Refused, ssrf.Unreachable) as refused:
            errors["url"] = [refused.message]
    return errors


def get_channel(*, actor: Actor, channel_id: UUID) -> Channel:
    """A channel of the actor's organization; NotFound otherwise."""
    found = Channel.objects.visible_to(actor).filter(id=channel_id).first()
    if found is None:
        raise NotFound("There is no such channel.")
    return found


def change_channel(
    *,
    actor: Actor,
    channel_id: UUID,
    name: str,
    events: Sequence[str] = (),
    quiet_start: time | None = None,
    quiet_end: time | None = None,
    digest_minutes: int = 0,
    hourly_limit: int = 60,
) -> Channel:
    """Change what a channel hears and when; where it leads stays. Raises InvalidInput per field and NotFound."""
    channel = get_channel(actor=actor, channel_id=channel_id)
    actor.require(MANAGE, "change notification channels")
    errors = check(events, quiet_start, quiet_end, channel.timezone, digest_minutes)
    if not 1 <= hourly_limit <= 1000:
        errors["hourly_limit"] = ["1 to 1000 an hour."]
    if not 0 < len(name.strip()) <= 80:
        errors["name"] = ["Give the channel a name of 1 to 80 characters."]
    elif Channel.objects.visible_to(actor).filter(name=name.strip()).exclude(id=channel.id).exists():
        errors["name"] = ["There is a channel of that name."]
    if errors:
        raise InvalidInput(errors=errors)
    values: dict[str, Any] = {
        "name": name.strip(),
        "events": sorted(set(events)),
        "quiet_start": quiet_start,
        "quiet_end": quiet_end,
        "digest_minutes": digest_minutes,
        "hourly_limit": hourly_limit,
    }
    changes = {k: [getattr(channel, k), new] for k, new in values.items() if getattr(channel, k) != new}
    if changes:
        with transaction.atomic():
            for field, value in values.items():
                setattr(channel, field, value)
            channel.save(update_fields=list(values))
            audit.record(
                actor=actor,
                verb="channel.changed",
                target=channel,
                changes={k: [str(old), str(new)] for k, (old, new) in changes.items()},
            )
    return channel


def set_channel_enabled(*, actor: Actor, channel_id: UUID, enabled: bool) -> Channel:
    """Turn a channel on or off; what waits for a channel that is off is given up."""
    channel = get_channel(actor=actor, channel_id=channel_id)
    actor.require(MANAGE, "change notification channels")
    with transaction.atomic():
        if channel.enabled != enabled:
            audit.record(
                actor=actor, verb="channel.changed", target=channel, changes={"enabled": [channel.enabled, enabled]}
            )
        channel.enabled = enabled
        channel.save(update_fields=["enabled"])
    return channel


def remove_channel(*, actor: Actor, channel_id: UUID) -> None:
    """Remove a channel with its messages."""
    channel = get_channel(actor=actor, channel_id=channel_id)
    actor.require(MANAGE, "remove notification channels")
    with transaction.atomic():
        audit.record(actor=actor, verb="channel.removed", target=channel)
        channel.delete()


def test_channel(*, actor: Actor, channel_id: UUID) -> Delivery:
    """Send a test message at once, outside any transaction of the outbox; its row says how it went."""
    channel = get_channel(actor=actor, channel_id=channel_id)
    actor.require(MANAGE, "test notification channels")
    now = clock.now()
    row: Delivery = Delivery.objects.for_org(channel.organization_id).create(
        organization_id=channel.organization_id,
        channel=channel,
        event="notifications.test",
        subject=f"Test message from Curfew to {channel.name}"[:200],
        body=f"{actor.label} asked for this. Nothing else has happened.",
        created_at=now,
        not_before=now,
    )
    send_now(row)
    row.refresh_from_db()
    return row


def retry_delivery(*, actor: Actor, delivery_id: UUID) -> Any:
    """Put a message that was given up back into the outbox. NotFound; InvalidState when it was not given up."""
    found = Delivery.objects.visible_to(actor).filter(id=delivery_id).first()
    if found is None:
        raise NotFound("There is no such message.")
    actor.require(MANAGE, "send messages again")
    with transaction.atomic():
        changed = (
            Delivery.objects.visible_to(actor)
            .filter(id=found.id, state=State.DEAD)
            .update(state=State.WAITING, attempts=0, not_before=clock.now(), error="", lease=None)
        )
        if not changed:
            raise InvalidState("This message was not given up.")
        audit.record(
            actor=actor,
            verb="notification.retried",
            target_kind="notification",
            target_id=str(found.id),
            target_label=found.subject,
        )
    return found
