"""Writing the outbox: who hears of an event, and when at the earliest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import Membership, Organization
from core import clock
from core.actor import Actor
from core.redaction import redact_text
from core.tasks import send_on_commit
from notifications import events
from notifications.models import Channel, Delivery, Preference, PushSubscription
from notifications.quiet import end_of_quiet, next_digest

DIRECT = "mail"


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
    data: Mapping[str, Any] | None = None,
) -> int:
    """Tell everybody of the organization who wants to hear of `event`; the number of messages put into the outbox.

    Rows are written in the caller's transaction, so what is rolled back is never told; sending happens later, with
    retries. `dedupe_key` ("budget:2026-03-18") makes a second call with the same key change nothing. `url` is absolute.
    `user_ids` narrows the persons (channels hear it all the same); `data` is for the programs behind webhooks. Secrets in the texts are masked. Raises KeyError
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
        "data": dict(data or {}),
        "created_at": clock.now(),
    }
    zone = Organization.objects.values_list("timezone", flat=True).get(pk=org_id)
    rows = [Delivery(**facts, channel=c, **_timing(c, kind, c.timezone)) for c in _channels(org_id, kind)]
    rows += _to_people(org_id, kind, facts, user_ids, zone)
    if not rows:
        return 0
    with transaction.atomic():
        Delivery.objects.for_org(org_id).bulk_create(rows, ignore_conflicts=bool(dedupe_key))
        send_on_commit("notifications.deliver")
    return len(rows)


def _channels(org_id: UUID, kind: events.Event) -> list[Channel]:
    return [c for c in Channel.objects.for_org(org_id).filter(enabled=True) if _wants(kind, c.events)]


def _wants(kind: events.Event, chosen: Sequence[str]) -> bool:
    """Whether a list of chosen events, where an empty one is everything, holds this kind."""
    return kind.name in chosen or (not chosen and not kind.asked)


def mail_once(
    *, organization_id: UUID, address: str, subject: str, body: str, url: str = "", button: str = "Open in Curfew"
) -> Delivery:
    """One e-mail to somebody who may be no member yet, through the outbox, in the caller's transaction."""
    row = Delivery(
        organization_id=organization_id,
        address=address,
        event=DIRECT,
        subject=" ".join(subject.split())[:200],
        body=body[:4000],
        url=url[:700],
        button=button[:60],
        created_at=clock.now(),
        not_before=clock.now(),
    )
    with transaction.atomic():
        row.save(force_insert=True)
        send_on_commit("notifications.deliver")
    return row


def _to_people(
    org_id: UUID, kind: events.Event, facts: dict[str, Any], user_ids: Iterable[Any] | None, zone: str
) -> list[Delivery]:
    """A row for each mailbox and each browser. Present members only: who left hears nothing more."""
    members = Membership.objects.for_org(org_id).values("user_id")
    wanted = Preference.objects.for_org(org_id).filter(user_id__in=members, user__is_active=True)
    if user_ids is not None:
        wanted = wanted.filter(user_id__in=list(user_ids))
    rows: list[Delivery] = []
    pushed: dict[Any, dict[str, Any]] = {}
    for wish in wanted.select_related("user"):
        timing = _timing(wish, kind, wish.user.timezone or zone)
        if wish.enabled and (not wish.events or kind.name in wish.events):
            rows.append(Delivery(**facts, user_id=wish.user_id, **timing))
        if wish.push_enabled and (not wish.push_events or kind.name in wish.push_events):
            pushed[wish.user_id] = _timing(wish, kind, wish.user.timezone or zone, digest=False)
    if pushed:
        found = PushSubscription.objects.filter(user_id__in=pushed)
        rows.extend(Delivery(**facts, push=browser, **pushed[browser.user_id]) for browser in found)
    return rows


def _timing(place: Channel | Preference, kind: events.Event, zone: str, *, digest: bool = True) -> dict[str, Any]:
    now = clock.now()
    if kind.urgent:
        return {"not_before": now, "batch": False}
    due = now
    if digest and place.digest_minutes:
        due = next_digest(now, place.digest_minutes, zone)
    due = end_of_quiet(due, place.quiet_start, place.quiet_end, zone)
    return {"not_before": due, "batch": due > now}
