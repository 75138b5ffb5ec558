"""What one person wants by e-mail, and the link in each e-mail that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core import signing
from django.db import transaction

from accounts.models import User
from audit import services as audit
from core.actor import Actor, ActorKind
from core.errors import Forbidden, InvalidInput, NotFound
from notifications import events as registry
from notifications.models import Channel, Preference

SALT = "notifications.stop"
DIGESTS = (0, 15, 60, 1440)


def save_preference(
    *,
    actor: Actor,
    enabled: bool,
    events: Sequence[str] = (),
    push_enabled: bool = False,
    push_events: Sequence[str] = (),
    quiet_start: time | None = None,
    quiet_end: time | None = None,
    digest_minutes: int = 0,
) -> Preference:
    """Keep the actor's own wishes in the organization it acts in. Raises InvalidInput per field, Forbidden for no person."""
    if actor.kind != ActorKind.USER or actor.org_id is None:
        raise Forbidden("Only a person has notification preferences.")
    errors = check([*events, *push_events], quiet_start, quiet_end, "UTC", digest_minutes)
    if errors:
        raise InvalidInput(errors=errors)
    values = {
        "enabled": enabled,
        "events": sorted(set(events)),
        "push_enabled": push_enabled,
        "push_events": sorted(set(push_events)),
        "quiet_start": quiet_start,
        "quiet_end": quiet_end,
        "digest_minutes": digest_minutes,
    }
    with transaction.atomic():
        saved, _ = Preference.objects.for_org(actor.org_id).update_or_create(
            organization_id=actor.org_id, user_id=actor.id, defaults=values
        )
    return saved


def check(
    events: Sequence[str], quiet_start: time | None, quiet_end: time | None, timezone: str, digest_minutes: int
) -> dict[str, list[str]]:
    """What is wrong, by field; also for channels."""
    errors: dict[str, list[str]] = {}
    known = {e.name for e in registry.all_events()}
    if set(events) - known:
        errors["events"] = ["Choose from the list."]
    if (quiet_start is None) != (quiet_end is None):
        errors["quiet_end"] = ["Give both times or none."]
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        errors["timezone"] = ["There is no such time zone."]
    if digest_minutes not in DIGESTS:
        errors["digest_minutes"] = ["Choose from the list."]
    return errors


def stop_token(organization_id: UUID, user_id: Any) -> str:
    """What the link in an e-mail carries: it can end e-mails to this person, and nothing else."""
    return signing.dumps([str(organization_id), str(user_id)], salt=SALT)


def channel_stop_token(channel: Channel, address: str) -> str:
    """The same for one address of an e-mail channel."""
    return signing.dumps([str(channel.organization_id), str(channel.id), address], salt=SALT)


def stop(*, token: str, really: bool) -> str:
    """End the e-mails of the person or address in the token when `really`; the address, masked. NotFound for a forged token."""
    try:
        organization_id, *whom = signing.loads(token, salt=SALT)
    except signing.BadSignature as forged:
        raise NotFound("This link does not work.") from forged
    if len(whom) == 2:
        address = _stop_channel(organization_id, whom[0], whom[1], really)
    else:
        address = _stop_person(organization_id, whom[0], really)
    name, _, domain = address.partition("@")
    return f"{name[:1]}…@{domain}"


def _stop_person(organization_id: str, user_id: str, really: bool) -> str:
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise NotFound("This link does not work.")
    if really:
        Preference.objects.for_org(organization_id).filter(user_id=user_id).update(enabled=False)
    return user.email


def _stop_channel(organization_id: str, channel_id: str, address: str, really: bool) -> str:
    with transaction.atomic():
        channel = Channel.objects.for_org(organization_id).select_for_update().filter(id=channel_id).first()
        if really and channel is not None and address in channel.addresses:
            before = list(channel.addresses)
            channel.addresses = [a for a in before if a != address]
            channel.enabled = channel.enabled and bool(channel.addresses)
            channel.hint = ", ".join(channel.addresses)[:120]
            channel.save(update_fields=["addresses", "enabled", "hint"])
            audit.record(
                actor=Actor.system("unsubscribe_link", channel.organization_id),
                verb="channel.changed",
                target=channel,
                changes={"addresses": [before, channel.addresses]},
            )
    return address
