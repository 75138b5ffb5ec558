"""The continuous copy from the side that serves to the other, by orders in the answers to heartbeats."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from core import clock
from core.providers import ProviderError
from gpu_fleet import gateway
from gpu_fleet.enums import FAILBACK, FAILOVER, RECOVER, Side, StandbyState
from gpu_fleet.models import FleetSettings, Machine, Standby
from gpu_fleet.services import leases
from gpu_fleet.services.states import tell_pages
from operations import services as operations
from operations.models import Operation

TAG = "curfew-sync"
# A push or pull that nobody has told the end of for so long is given up.
GIVEN_UP = timedelta(minutes=30)
WITH_US = (FAILOVER, FAILBACK, RECOVER)
KEPT_COPIES = 3


def orders(row: Machine, operation: Operation | None, rules: FleetSettings) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the machine has a standby, and what it is to do for the copy now."""
    standby = leases.standby_of(row)
    if standby is None or not standby.enabled or row.rental_id is None:
        return False, []
    free = operation is None or operation.kind in WITH_US
    side = leases.side_of(row)
    if standby.holder in (Side.NOBODY, side):
        found = (
            _push(standby, row) if free and standby.holder == side and standby.holder_rental == row.rental_id else None
        )
    else:
        found = _pull(standby, row)
    if found is None or any(job.get("id") == found["id"] for job in row.told.get("jobs") or []):
        return True, []  # nothing to do, or it is at it already
    try:
        repository = gateway.repository_for_machine(row, rules)
    except ProviderError as bad:
        _note(standby, push_error=bad.message[:300])
        return True, []
    owner = gateway.owner_of(row)
    return True, [
        {
            **found,
            "paths": owner.wanted.get("paths") or ["/workspace"],
            "repository": repository.location,
            "password": repository.password,
            "environment": dict(repository.environment),
            "host": f"curfew-{owner.id.hex[:12]}-copy",
            "tuning": {"compression": "auto", "pack_size": 16},
        }
    ]


def _push(standby: Standby, row: Machine) -> dict[str, Any] | None:
    now = clock.now()
    open_order = standby.asked_at is not None and standby.asked_epoch == standby.epoch
    if open_order and standby.asked_at is not None and now - standby.asked_at > GIVEN_UP:
        open_order = False
    if not open_order:
        if standby.state == StandbyState.PREPARING or standby.spare_id is None:
            return None
        last = standby.pushed_through
        due = standby.pushed_epoch != standby.epoch or last is None or standby.final
        if not due and last is not None and now - last < timedelta(seconds=standby.interval_seconds):
            return None
        _note(standby, cycle=standby.cycle + 1, asked_at=now, asked_epoch=standby.epoch)
    return {
        "id": f"push-{standby.id.hex[:8]}-{standby.epoch}-{standby.cycle}",
        "kind": "push",
        "tags": [TAG],
        "last": standby.pushed_snapshot,
        "backup_options": ["--ignore-inode", "--ignore-ctime"],
    }


def _pull(standby: Standby, row: Machine) -> dict[str, Any] | None:
    if not standby.pushed_snapshot or caught_up(standby, row.rental_id):
        return None
    side = leases.side_of(row)
    name = f"{standby.pushed_snapshot[:12]}-{(row.rental_id or row.id).hex[:6]}-{standby.pull_try}"
    return {
        "id": f"pull-{standby.id.hex[:8]}-{name}",
        "kind": "pull",
        "snapshot": standby.pushed_snapshot,
        "agreed": standby.agreed_snapshot,
        "mode": "mirror" if side == Side.CPU else "merge",
        "label": row.name[:40],
    }


def caught_up(standby: Standby, rental_id: UUID | None) -> bool:
    """Whether the follower on this rental has the newest snapshot."""
    return bool(
        standby.pushed_snapshot
        and standby.pulled_snapshot == standby.pushed_snapshot
        and standby.pulled_rental == rental_id
    )


def hear(row: Machine, jobs: list[dict[str, Any]]) -> None:
    """What the machine reports of pushes and pulls. Inside the caller's transaction."""
    mine = [job for job in jobs if job.get("kind") in ("push", "pull") and job.get("state") in ("done", "failed")]
    standby = leases.standby_of(row) if mine else None
    if standby is None:
        return
    row_now = leases.held(standby.id)
    if row_now is None:
        return
    for job in mine:
        (_heard_push if job["kind"] == "push" else _heard_pull)(row_now, row, job)


def _heard_push(standby: Standby, row: Machine, job: Mapping[str, Any]) -> None:
    wanted = f"push-{standby.id.hex[:8]}-{standby.epoch}-{standby.cycle}"
    if job.get("id") != wanted or standby.asked_at is None or standby.holder != leases.side_of(row):
        return  # of an earlier epoch: what a fenced machine writes counts for nothing
    told: Mapping[str, Any] = job.get("result") if isinstance(job.get("result"), dict) else {}  # type: ignore[assignment]
    snapshot = str(told.get("snapshot_id") or "")[:64]
    if job["state"] != "done" or not snapshot:
        _note(standby, asked_at=None, push_error=str(job.get("error") or "no snapshot was told")[:300])
        return
    _note(
        standby,
        asked_at=None,
        pushed_snapshot=snapshot,
        pushed_through=standby.asked_at,
        pushed_epoch=standby.epoch,
        push_seconds=(clock.now() - standby.asked_at).total_seconds(),
        push_error="",
        final=False,
    )
    if standby.pulled_snapshot == snapshot:
        _note(standby, pulled_through=standby.pushed_through)
    tell_pages(row)


def _heard_pull(standby: Standby, row: Machine, job: Mapping[str, Any]) -> None:
    order = _pull(standby, row)
    if order is None or job.get("id") != order["id"]:
        return
    told: Mapping[str, Any] = job.get("result") if isinstance(job.get("result"), dict) else {}  # type: ignore[assignment]
    if job["state"] != "done":
        _note(standby, pull_try=standby.pull_try + 1, pull_error=str(job.get("error") or "it could not")[:300])
        return
    fields: dict[str, Any] = {
        "pulled_snapshot": standby.pushed_snapshot,
        "pulled_through": standby.pushed_through,
        "pulled_rental": row.rental_id,
        "pull_error": "",
        "conflicts": standby.conflicts + int(told.get("conflicts") or 0),
    }
    if standby.state == StandbyState.SYNCING and row.is_spare:
        fields["state"] = StandbyState.READY
    _note(standby, **fields)
    tell_pages(row)


def ask_final(*, standby: Standby) -> None:
    """One more push before sides change, whatever the interval says."""
    with transaction.atomic():
        row = leases.held(standby.id)
        if row is not None and not row.final:
            # an order that was given before the program ended does not count
            _note(row, final=True, asked_at=None, cycle=row.cycle + 1)
    standby.refresh_from_db()


def _note(standby: Standby, **fields: Any) -> None:
    Standby.objects.for_org(standby.organization_id).filter(id=standby.id).update(**fields)
    for name, value in fields.items():
        setattr(standby, name, value)


def forget_copies() -> int:
    """Of the copies' snapshots the newest few stay; returns how many went. Nothing while an operation is under way."""
    count = 0
    for standby in Standby.objects.all_orgs().exclude(pushed_snapshot="").select_related("machine"):
        if operations.active_operation("gpu_machine", standby.machine_id) is not None:
            continue
        try:
            count += _forget(standby)
        except ProviderError:
            continue  # the next hour tries again; nothing is lost by keeping one
    return count


def _forget(standby: Standby) -> int:
    from gpu_fleet.services.settings import settings_of

    repository = gateway.repository_of(standby.machine, settings_of(standby.organization_id))
    rows = [row for row in repository.snapshots() if TAG in (row.get("tags") or [])]
    rows.sort(key=lambda row: str(row.get("time")))
    needed = {standby.pushed_snapshot[:8], standby.pulled_snapshot[:8]}
    old = [str(row["id"]) for row in rows[:-KEPT_COPIES] if str(row["id"])[:8] not in needed]
    if old:
        repository.forget(old)
    return len(old)
