"""What happened to nodes outside Curfew: started, stopped, deleted, untagged; when, and what the provider says of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audit.models import AuditEntry
from cloudnodes.attribution import ATTRIBUTED
from cloudnodes.enums import provider_words
from cloudnodes.models import CloudNode
from core import clock
from core.actor import Actor

VERBS = ("node.changed_outside", "node.gone", "node.lost")
DAYS = 30
MOST = 200


@dataclass(frozen=True, slots=True)
class Drift:
    """One change that Curfew noticed and did not make; `by` whom, as the cloud's own log says ("" while it does not).
    `node` is None when its account was disconnected since."""

    at: datetime
    what: str
    name: str
    detail: str
    node: CloudNode | None
    now: str
    account: str
    by: str = ""


def list_drift(*, actor: Actor) -> list[Drift]:
    """Changes from outside in the last thirty days, the newest first; Forbidden without nodes.view."""
    actor.require("nodes.view", "see what changed outside")
    rows: Any = AuditEntry.objects.visible_to(actor).filter(verb__in=VERBS, at__gt=clock.now() - timedelta(days=DAYS))
    found = list(rows.order_by("-at")[:MOST])
    ids = {entry.target_id for entry in found}
    nodes = {
        str(n.id): n
        for n in CloudNode.objects.visible_to(actor)
        .filter(id__in=[i for i in ids if i])
        .select_related("node_type", "account")
    }
    told = AuditEntry.objects.visible_to(actor).filter(
        verb=ATTRIBUTED, at__gt=clock.now() - timedelta(days=DAYS), target_id__in=ids
    )
    by = {str((e.changes or {}).get("entry", ["", ""])[1]): e.detail for e in told}
    return [_drift(entry, nodes.get(entry.target_id), by.get(str(entry.id), "")) for entry in found]


def _drift(entry: Any, node: CloudNode | None, by: str) -> Drift:
    what = {
        "node.gone": "Deleted outside",
        "node.lost": "Cannot be seen",
    }.get(entry.verb) or (
        "Started outside" if (entry.changes or {}).get("state", ["", ""])[1] == "awake" else "Stopped outside"
    )
    return Drift(
        at=entry.at,
        what=what,
        name=entry.target_label,
        detail=entry.detail,
        node=node,
        now="" if node is None else "gone" if node.gone_at else str(node.observed_state),
        account=f"{provider_words(node.provider).label}, {node.account.name}" if node else "",
        by=by,
    )
