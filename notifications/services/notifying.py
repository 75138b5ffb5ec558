"""Writing the outbox: who hears of an event, and when at the earliest."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import transaction

from accounts.models import Membership
from core import clock
from core.actor import Actor
from core.redaction import redact_text
from core.tasks import send_on_commit
from notifications import events
from notifications.models import Channel, Delivery, Preference


def notify(
    *,
    event: str,
    subject: str,
    body: str = "",
    url: str = "",
    dedupe_key: str = "",
    actor: Actor | None = None,
    organization_id: UUID | None = None,
    user_ids: Iterable[Any] | None = None,
) -> int:
    """Tell everybody of the organization who wants to hear of `event`; the number of messages put into the outbox.

    Rows are written in the caller's transaction, so what is rolled back is never told; sending happens later, with
    retries. `dedupe_key` ("budget:2026-03-18") makes a second call with the same key change nothing. `url` is absolute.
    `user_ids` narrows the persons (channels hear it all the same). Secrets in the texts are masked. Raises KeyError
    for an event that is not registered.
    """
    kind = events.get(event)
    org_id = organization_id or (actor.org_id if actor else None)
    if org_id is None:
        raise RuntimeError(f"notify({event}) without an organization")
    facts = {
        "organization_id": org_id,
        "event": event,
        "subject": " ".join(redact_text(subject).split())[:200],
        "body": redact_text(body)[:4000],
        "url": url[:500],
        "dedupe_key": dedupe_key[:200],
        "created_at": clock.now(),
    }
    rows = [Delivery(**facts, channel=c, **_timing(c, kind)) for c in _channels(org_id, event)]
    rows += [Delivery(**facts, user_id=p.user_id, **_timing(p, kind)) for p in _people(org_id, event, user_ids)]
    if not rows:
        return 0
    with transaction.atomic():
        Delivery.objects.for_org(org_id).bulk_create(rows, ignore_conflicts=bool(dedupe_key))
        send_on_commit("notifications.deliver")
    return len(rows)


def _channels(org_id: UUID, event: str) -> list[Channel]:
    return [c for c in Channel.objects.for_org(org_id).filter(enabled=True) if not c.events or event in c.events]


def _people(org_id: UUID, event: str, user_ids: Iterable[Any] | None) -> list[Preference]:
    """Preferences of present members only: who left hears nothing more."""
    members = Membership.objects.for_org(org_id).values("user_id")
    wanted = Preference.objects.for_org(org_id).filter(enabled=True, user_id__in=members)
    if user_ids is not None:
        wanted = wanted.filter(user_id__in=list(user_ids))
    return [p for p in wanted if not p.events or event in p.events]


def _timing(place: Channel | Preference, kind: events.Event) -> dict[str, Any]:
    now = clock.now()
    if kind.urgent:
        return {"not_before": now, "batch": False}
    due = end_of_quiet(now, place.quiet_start, place.quiet_end, place.timezone)
    if place.digest_minutes:
        step = timedelta(minutes=place.digest_minutes)
        midnight = datetime.combine(now.date(), time(), now.tzinfo)
        due = max(due, midnight + (int((now - midnight) / step) + 1) * step)
    return {"not_before": due, "batch": due > now}


def end_of_quiet(now: datetime, start: time | None, end: time | None, timezone: str) -> datetime:
    """`now`, or the end of the quiet hours that it lies in; hours may span midnight."""
    if start is None or end is None or start == end:
        return now
    local = now.astimezone(ZoneInfo(timezone))
    inside = start <= local.time() < end if start < end else local.time() >= start or local.time() < end
    if not inside:
        return now
    day = local.date() + timedelta(days=1) if start > end and local.time() >= start else local.date()
    return datetime.combine(day, end, ZoneInfo(timezone)).astimezone(now.tzinfo)
