"""Sending what the outbox holds: claimed by a conditional update, retried with growing waits, given up after ten attempts."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.db.models import F

from core import clock
from core.encryption import unseal
from core.live import publish
from notifications import events, senders
from notifications.enums import ChannelKind, State
from notifications.models import Channel, Delivery, PushSubscription
from notifications.services.preferences import channel_stop_token, stop_token

log = logging.getLogger(__name__)
MOST_ATTEMPTS = 10
LEASE = timedelta(minutes=5)
FIRST_WAIT, LONGEST_WAIT = 30.0, 3600.0
TOGETHER = 50


def deliver_due(*, limit: int = 200) -> int:
    """Send what is due, at most `limit` messages; the number of rows that were sent. Safe to run many times at once."""
    now = clock.now()
    rows = Delivery.objects.all_orgs()
    rows.filter(state=State.SENDING, lease_until__lt=now).update(state=State.WAITING, lease=None)
    due = list(
        rows.filter(state=State.WAITING, not_before__lte=now)
        .order_by("not_before", "created_at")
        .select_related("channel")[:limit]
    )
    return sum(_send(group) for group in _groups(due))


def send_now(delivery: Delivery) -> bool:
    """One attempt for one row at once; whether it was sent."""
    return _send([delivery]) == 1


def _groups(due: Sequence[Delivery]) -> list[list[Delivery]]:
    """Rows that go together: those of a digest, and those of a channel that has used up its hour."""
    together: dict[tuple[UUID, object], list[Delivery]] = {}
    groups: list[list[Delivery]] = []
    left: dict[UUID, int] = {}
    for row in due:
        if row.channel is not None and row.channel_id not in left:
            left[row.channel.id] = row.channel.hourly_limit - _sent_last_hour(row.channel)
        crowded = row.channel is not None and left[row.channel.id] <= 0
        if row.batch or crowded:
            if crowded and not row.batch and _postpone(row):
                continue
            place = (row.organization_id, row.channel_id or row.push_id or row.user_id or row.address)
            group = together.setdefault(place, [])
            if not group or len(group) >= TOGETHER:
                group = together[place] = []
                groups.append(group)
            group.append(row)
        else:
            groups.append([row])
            if row.channel is not None:
                left[row.channel.id] -= 1
    return groups


def _sent_last_hour(channel: Channel) -> int:
    """Messages that left, a digest counting once."""
    since = clock.now() - timedelta(hours=1)
    return (
        Delivery.objects.for_org(channel.organization_id)
        .filter(channel=channel, state=State.SENT, sent_at__gt=since)
        .values("lease")
        .distinct()
        .count()
    )


def _postpone(row: Delivery) -> bool:
    """What is over the limit of the hour waits ten minutes and goes together with the rest."""
    later = clock.now() + timedelta(minutes=10)
    Delivery.objects.all_orgs().filter(id=row.id, state=State.WAITING).update(not_before=later, batch=True)
    return True


def _send(group: list[Delivery]) -> int:
    lease, now = uuid4(), clock.now()
    ids = [row.id for row in group]
    mine = Delivery.objects.all_orgs()
    mine.filter(id__in=ids, state=State.WAITING).update(
        state=State.SENDING, lease=lease, lease_until=now + LEASE, attempts=F("attempts") + 1
    )
    held = list(
        mine.filter(lease=lease, state=State.SENDING)
        .select_related("channel", "user", "push", "organization")
        .order_by("created_at")
    )
    if not held:
        return 0
    try:
        _hand_over(held)
    except senders.Gone:
        gone = [row.push_id for row in held if row.push_id]
        PushSubscription.objects.filter(id__in=gone).delete()  # its messages go with it
        return 0
    except senders.SendFailed as failed:
        _failed(held, lease, failed)
        return 0
    done = mine.filter(lease=lease, state=State.SENDING).update(
        state=State.SENT, sent_at=clock.now(), lease_until=None, error=""
    )
    mine.filter(lease=lease, state=State.SENT).exclude(address="").update(url="", body="")
    publish(held[0].organization_id, "accounts", ids)
    return done


def _hand_over(held: Sequence[Delivery]) -> None:
    items = [senders.Item(str(r.id), r.event, r.subject, r.body, r.url, r.created_at.isoformat(), r.data) for r in held]
    first = held[0]
    if first.push is not None:
        _push(first.push, items, urgent=any(_is_urgent(row.event) for row in held))
    elif first.user is not None:
        _to_person(first, first.user.email, items)
    elif first.address:
        words = f"You get this because somebody of {first.organization.name} asked for it."
        senders.send_email([first.address], items, organization=first.organization.name, why=words, button=first.button)
    elif first.channel is not None:
        _to_channel(first.channel, first.organization.name, items)
    else:
        raise senders.SendFailed("The place to send it to is gone.", final=True)


def _to_person(first: Delivery, email: str, items: Sequence[senders.Item]) -> None:
    senders.send_email(
        [email],
        items,
        unsubscribe=lambda _: _stop_url(stop_token(first.organization_id, first.user_id)),
        organization=first.organization.name,
        why="You get this because you asked Curfew for it, in Settings, My notifications.",
    )


def _to_channel(channel: Channel, organization: str, items: Sequence[senders.Item]) -> None:
    if not channel.enabled:
        raise senders.SendFailed("The channel is turned off.", final=True)
    secrets = unseal(channel.secrets, bound_to=f"channel:{channel.id}")
    if channel.kind == ChannelKind.SLACK:
        senders.send_slack(secrets["url"], items)
    elif channel.kind == ChannelKind.WEBHOOK:
        senders.send_webhook(secrets["url"], secrets["secret"], items)
    else:
        senders.send_email(
            channel.addresses,
            items,
            unsubscribe=lambda address: _stop_url(channel_stop_token(channel, address)),
            organization=organization,
            why=f"You get this because {organization} sends the channel “{channel.name}” to you.",
        )


def _push(browser: PushSubscription, items: Sequence[senders.Item], *, urgent: bool) -> None:
    keys = unseal(browser.secrets, bound_to=f"push:{browser.id}")
    senders.send_push(keys["endpoint"], keys, items, urgent=urgent)
    PushSubscription.objects.filter(id=browser.id).update(sent_at=clock.now())


def _is_urgent(event: str) -> bool:
    try:
        return events.get(event).urgent
    except KeyError:
        return False


def _stop_url(token: str) -> str:
    return f"{settings.CURFEW_BASE_URL}/settings/notifications/stop/{token}"


def _failed(held: Sequence[Delivery], lease: UUID, failed: senders.SendFailed) -> None:
    for row in held:
        dead = failed.final or row.attempts >= MOST_ATTEMPTS
        Delivery.objects.all_orgs().filter(id=row.id, lease=lease, state=State.SENDING).update(
            state=State.DEAD if dead else State.WAITING,
            error=str(failed)[:500],
            not_before=_next(row.attempts, failed.retry_after),
            lease_until=None,
        )
        log.warning(
            "notification_failed",
            extra={"delivery": str(row.id), "attempt": row.attempts, "dead": dead, "reason": str(failed)},
        )
    publish(held[0].organization_id, "accounts", [row.id for row in held])


def _next(attempts: int, asked: float) -> datetime:
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempts - 1, 12)) * random.uniform(0.8, 1.2)  # noqa: S311  spreads retries
    return clock.now() + timedelta(seconds=max(wait, min(asked, LONGEST_WAIT)))
