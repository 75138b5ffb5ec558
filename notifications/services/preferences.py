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
from core.actor import Actor, ActorKind
from core.errors import Forbidden, InvalidInput, NotFound
from notifications import events as registry
from notifications.models import Preference

SALT = "notifications.stop"
DIGESTS = (0, 15, 60, 1440)


def save_preference(
    *,
    actor: Actor,
    enabled: bool,
    events: Sequence[str] = (),
    quiet_start: time | None = None,
    quiet_end: time | None = None,
    timezone: str = "UTC",
    digest_minutes: int = 0,
) -> Preference:
    """Keep the actor's own wishes in the organization it acts in. Raises InvalidInput per field, Forbidden for no person."""
    if actor.kind != ActorKind.USER or actor.org_id is None:
        raise Forbidden("Only a person has notification preferences.")
    errors = check(events, quiet_start, quiet_end, timezone, digest_minutes)
    if errors:
        raise InvalidInput(errors=errors)
    values = {
        "enabled": enabled,
        "events": sorted(set(events)),
        "quiet_start": quiet_start,
        "quiet_end": quiet_end,
        "timezone": timezone,
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


def stop(*, token: str, really: bool) -> str:
    """End the e-mails of the person in the token when `really`; the address, masked. NotFound for a forged token."""
    try:
        organization_id, user_id = signing.loads(token, salt=SALT)
    except signing.BadSignature as forged:
        raise NotFound("This link does not work.") from forged
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise NotFound("This link does not work.")
    if really:
        Preference.objects.for_org(organization_id).filter(user_id=user_id).update(enabled=False)
    name, _, domain = user.email.partition("@")
    return f"{name[:1]}…@{domain}"
