"""Restore files: a snapshot as JSON, which wakes the cluster without the row that it came from."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from audit import services as audit
from clusters.models import Cluster
from clusters.services import steering
from clusters.sleeping import services
from clusters.sleeping.models import SleepSnapshot
from clusters.sleeping.snapshot import FORMAT, Decision, GroupEntry, read_entries
from core import clock
from core.actor import Actor
from core.errors import Conflict, InvalidInput, NotFound

LARGEST = 32 * 1024 * 1024
KIND = "curfew-restore-file"


def restore_file(snapshot: SleepSnapshot) -> dict[str, Any]:
    """The file's content. It holds sizes and names, no secrets."""
    return {
        "kind": KIND,
        "format": FORMAT,
        "id": str(snapshot.id),
        "cluster": {"name": snapshot.cluster_name, "uid": snapshot.cluster_uid},
        "taken_at": snapshot.taken_at.isoformat(),
        "asleep_at": snapshot.asleep_at.isoformat() if snapshot.asleep_at else None,
        "entries": snapshot.entries,
        "groups": snapshot.groups,
        "decision": snapshot.decision,
        "how": "python manage.py wake --from-snapshot THIS_FILE --cluster NAME",
    }


def read_file(text: str | bytes) -> dict[str, Any]:
    """Check a restore file and return its content. Raises InvalidInput with what is wrong."""
    if len(text) > LARGEST:
        raise InvalidInput("A restore file of more than 32 MB is not taken.")
    try:
        raw = json.loads(text)
        if raw["kind"] != KIND or raw["format"] != FORMAT:
            raise ValueError("another kind or format")
        read_entries(raw["entries"])
        [GroupEntry.read(group) for group in raw["groups"]]
        Decision.read(raw["decision"])
        UUID(raw["id"])
        datetime.fromisoformat(raw["taken_at"])
    except (ValueError, KeyError, TypeError, AttributeError) as bad:
        raise InvalidInput(f"This is no restore file of Curfew: {bad}.") from None
    return dict(raw)


def find_snapshot(*, actor: Actor, snapshot_id: UUID) -> SleepSnapshot:
    """Raises NotFound."""
    found: SleepSnapshot | None = SleepSnapshot.objects.visible_to(actor).filter(id=snapshot_id).first()
    if found is None:
        raise NotFound("There is no such snapshot.")
    return found


def adopt(*, actor: Actor, cluster: Cluster, content: dict[str, Any]) -> SleepSnapshot:
    """Make a file the cluster's open snapshot, so that a wake restores it; the open one of the same id is returned.

    Raises Conflict when the cluster sleeps by another snapshot, or the file is another cluster's.
    """
    actor.require(steering.OPERATE, "wake clusters from a file")
    uid = str((content.get("cluster") or {}).get("uid") or "")
    if uid and cluster.uid and uid != cluster.uid:
        raise Conflict(f"This file is of another cluster than {cluster.name}.", code="other_cluster")
    with transaction.atomic():
        row = Cluster.objects.for_org(cluster.organization_id).select_for_update(of=("self",)).get(id=cluster.id)
        known = services.open_snapshot(row)
        if known is not None:
            if str(known.id) == content["id"]:
                return known
            raise Conflict(f"{row.name} sleeps by another snapshot ({known.id}).", code="other_snapshot")
        old = SleepSnapshot.objects.for_org(row.organization_id).filter(id=content["id"]).first()
        made = old or SleepSnapshot(id=UUID(content["id"]), organization_id=row.organization_id)
        made.cluster, made.cluster_name, made.cluster_uid = row, row.name, row.uid
        made.taken_at = datetime.fromisoformat(content["taken_at"])
        made.asleep_at = made.asleep_at or clock.now()
        made.restored_at = made.handed_over_at = None
        made.entries, made.groups, made.decision = content["entries"], content["groups"], content["decision"]
        if made.awake_hourly is None:
            made.awake_hourly, made.awake_source = row.hourly_cost, row.price_source
        made.save()
        audit.record(
            actor=actor,
            verb="cluster.restored_from_file",
            target=row,
            detail=f"{len(made.entries)} objects and {len(made.groups)} groups of {made.taken_at:%Y-%m-%d %H:%M} UTC",
            organization_id=row.organization_id,
        )
    return made


__all__ = ["adopt", "find_snapshot", "read_file", "restore_file"]
