"""Who started, stopped or deleted a node outside Curfew: asked of the cloud's own log after the change was noticed.

Logs know an event some minutes late, so each change is asked for a few times, further and further apart. What was learned
is an audit entry of its own, written once however often it is learned.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import transaction

from audit import services as audit
from audit.models import AuditEntry
from cloudnodes import gateway
from cloudnodes.models import CloudNode
from cloudnodes.providers.load import Switched, TellsWho
from cloudnodes.services.observe import OUTSIDE, label_of, locked
from core import clock
from core.actor import Actor
from core.live import publish
from core.providers import ProviderError

log = logging.getLogger(__name__)
ATTRIBUTED = "node.attributed"
# Minutes after a change was noticed at which its log is asked.
ASKED_AT = (1, 5, 10, 20, 45)
# The change was made at some moment before it was noticed: Curfew may have been off, or the account unreadable.
BEFORE = timedelta(hours=6)
AFTER = timedelta(minutes=1)
ATTRIBUTER = "attribution"


@dataclass(frozen=True, slots=True)
class Change:
    """One change to ask about: `how` start, stop or delete."""

    entry: Any
    node: CloudNode
    how: str


def attribute_due() -> int:
    """Ask about every change that is due; how many were attributed now."""
    return sum(_attribute(change) for change in _due(clock.now()))


def _due(now: datetime) -> list[Change]:
    since = now - timedelta(minutes=ASKED_AT[-1] + 5)
    rows: Any = AuditEntry.objects.all_orgs().filter(verb__in=("node.changed_outside", "node.gone"), at__gt=since)
    entries = list(rows.order_by("at")[:500])
    if not entries:
        return []
    nodes = {str(n.id): n for n in CloudNode.objects.all_orgs().filter(id__in=[e.target_id for e in entries])}
    known = _known([e.target_id for e in entries], since)
    found = []
    for entry in entries:
        node = nodes.get(entry.target_id)
        if node is None or str(entry.id) in known or not _turn(entry, now):
            continue
        found.append(Change(entry, node, _how(entry)))
    return found


def _how(entry: Any) -> str:
    if entry.verb == "node.gone":
        return "delete"
    return "start" if (entry.changes or {}).get("state", ["", ""])[1] == "awake" else "stop"


def _turn(entry: Any, now: datetime) -> bool:
    """Whether it is time to ask about it (again). The cache only saves questions: without it one is asked twice."""
    minutes = (now - entry.at).total_seconds() / 60
    turns = [n for n in ASKED_AT if n <= minutes]
    return bool(turns) and cache.add(f"cloudnodes.attribution.{entry.id}.{turns[-1]}", 1, 7200)


def _known(target_ids: list[str], since: datetime) -> set[str]:
    rows = AuditEntry.objects.all_orgs().filter(verb=ATTRIBUTED, at__gt=since, target_id__in=target_ids)
    return {str((changes or {}).get("entry", ["", ""])[1]) for changes in rows.values_list("changes", flat=True)}


def _attribute(change: Change) -> bool:
    """Ask the cloud, outside any transaction, and write down what it said."""
    at = change.entry.at
    try:
        provider = gateway.provider_of(change.node)
        if not isinstance(provider, TellsWho):
            return False
        found = provider.who_switched(change.node.provider_id, how=change.how, since=at - BEFORE, until=at + AFTER)
    except ProviderError as refused:
        log.info("attribution_refused", extra={"node": str(change.node.id), "code": refused.code})
        return False
    return found is not None and _write(change, found)


def _write(change: Change, found: Switched) -> bool:
    with transaction.atomic():
        node = locked(change.node.id)
        if node is None or str(change.entry.id) in _known([str(node.id)], change.entry.at - AFTER):
            return False
        audit.record(
            actor=Actor.system(ATTRIBUTER, node.organization_id),
            verb=ATTRIBUTED,
            target=node,
            target_label=label_of(node),
            detail=f"{found.by}, {found.event} at {found.at:%Y-%m-%d %H:%M:%S} UTC",
            changes={"entry": [None, str(change.entry.id)], "by": [None, found.by]},
        )
        if (
            node.cause == OUTSIDE
            and node.cause_at is not None
            and node.cause_at <= change.entry.at
            and change.how != "delete"
        ):
            done = "Started" if change.how == "start" else "Stopped"
            if node.cause_label == f"{done} outside Curfew":
                node.cause_label = f"{done} outside Curfew by {found.by}"[:200]
                node.save(update_fields=["cause_label"])
        publish(node.organization_id, "nodes", [node.id])
    return True
