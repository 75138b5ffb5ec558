"""Browsers that take push messages: a person's own, added and removed by that person."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from django.db import transaction

from accounts.models import User
from audit import services as audit
from core import clock, ssrf
from core.actor import Actor, ActorKind
from core.encryption import seal
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from notifications import webpush
from notifications.models import Delivery, Preference, PushSubscription
from notifications.services.delivering import send_now

MOST = 20


def add_browser(*, actor: Actor, endpoint: str, p256dh: str, auth: str, browser: str = "") -> PushSubscription:
    """Keep a subscription that a browser made, and turn push on. The same one again changes nothing.

    The address is judged like every address that is given to us. Raises InvalidInput per field, Conflict beyond twenty.
    """
    user_id, org_id = _person(actor)
    errors: dict[str, list[str]] = {}
    try:
        webpush.check_keys(p256dh, auth)
    except webpush.BadSubscription as bad:
        errors["keys"] = [str(bad)]
    if len(endpoint) > 2000:
        errors["endpoint"] = ["The address is too long."]
    else:
        try:
            ssrf.check_url(endpoint)
        except (ssrf.Refused, ssrf.Unreachable) as refused:
            errors["endpoint"] = [refused.message]
    if errors:
        raise InvalidInput(errors=errors)
    digest = hashlib.sha256(endpoint.encode()).hexdigest()
    with transaction.atomic():
        mine = PushSubscription.objects.filter(user_id=user_id)
        known = mine.filter(digest=digest).first()
        if known is None and mine.count() >= MOST:
            raise Conflict("Twenty browsers take messages already. Remove one first.", code="too_many_browsers")
        PushSubscription.objects.filter(digest=digest).exclude(user_id=user_id).delete()  # the browser changed hands
        row = known or PushSubscription(id=uuid4(), user_id=user_id, digest=digest, created_at=clock.now())
        kept = {"endpoint": endpoint, "p256dh": p256dh, "auth": auth}
        row.secrets = seal(kept, bound_to=f"push:{row.id}")
        row.host, row.browser = (urlsplit(endpoint).hostname or "")[:120], browser[:80]
        row.save()
        wish, _ = Preference.objects.for_org(org_id).get_or_create(
            organization_id=org_id, user_id=user_id, defaults={"push_enabled": True}
        )
        if known is None:
            if not wish.push_enabled:
                wish.push_enabled = True
                wish.save(update_fields=["push_enabled"])
            audit.record(
                actor=actor,
                verb="browser.added",
                target_kind="browser",
                target_id=str(row.id),
                target_label=row.browser,
            )
    return row


def remove_browser(*, actor: Actor, browser_id: UUID) -> None:
    """Push nothing more to one of the actor's own browsers. NotFound for anybody else's."""
    user_id, _ = _person(actor)
    with transaction.atomic():
        row = PushSubscription.objects.filter(id=browser_id, user_id=user_id).first()
        if row is None:
            raise NotFound("There is no such browser.")
        audit.record(
            actor=actor, verb="browser.removed", target_kind="browser", target_id=str(row.id), target_label=row.browser
        )
        row.delete()


def test_browser(*, actor: Actor, browser_id: UUID) -> Delivery | None:
    """Push a test message at once; its row says how it went, None when the browser took its subscription back."""
    user_id, org_id = _person(actor)
    browser = PushSubscription.objects.filter(id=browser_id, user_id=user_id).first()
    if browser is None:
        raise NotFound("There is no such browser.")
    now = clock.now()
    row: Delivery = Delivery.objects.for_org(org_id).create(
        organization_id=org_id,
        push=browser,
        event="notifications.test",
        subject="Test message from Curfew",
        body="This browser hears what you choose in Settings, My notifications.",
        created_at=now,
        not_before=now,
    )
    send_now(row)
    return Delivery.objects.for_org(org_id).filter(id=row.id).first()


def _person(actor: Actor) -> tuple[UUID, UUID]:
    if actor.kind != ActorKind.USER or actor.org_id is None:
        raise Forbidden("Only a person has browsers.")
    if not User.objects.filter(pk=actor.id, is_active=True).exists():
        raise Forbidden("Only a person has browsers.")
    return UUID(actor.id), actor.org_id
