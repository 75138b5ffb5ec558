"""Snapshots: written by the machine, verified here. Nothing is destroyed on the word of a machine alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from audit import services as audit
from core import clock
from core.actor import Actor
from core.errors import InvalidState, NotFound
from core.live import publish
from gpu_fleet import gateway
from gpu_fleet.enums import OPERATE, TOPIC, SnapshotState
from gpu_fleet.models import Machine, Snapshot, Standby
from gpu_fleet.providers.restic import Repository
from gpu_fleet.services.settings import settings_of
from gpu_fleet.services.states import locked
from operations import services as operations
from operations.models import Operation
from operations.registry import OperationFailed

WORKER = "gpu_snapshots"
# Files that are read back and hashed: all when there are few, else so many by chance, within so many bytes.
SAMPLED_FILES = 12
# Longer than forgetting may take, see `Repository.run`.
CLEARING = timedelta(minutes=35)
SAMPLED_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the machine's hashes."""

    path: str
    kind: str
    size: int
    sha256: str


def begin_snapshot(*, machine: Machine, operation: Operation, reason: str) -> Snapshot:
    """The row of the operation's snapshot, made once. Refuses a machine whose restore was not proven."""
    with transaction.atomic():
        known = Snapshot.objects.for_org(machine.organization_id).filter(operation_id=operation.id).first()
        if known is not None:
            found: Snapshot = known
            return found
        if not machine.restored:
            raise InvalidState("Its files were not proven to be back, so nothing is backed up from it.")
        row = Snapshot(
            organization_id=machine.organization_id,
            machine=machine,
            generation=machine.generation,
            operation_id=operation.id,
            parent=latest_verified(machine),
            paths=machine.wanted.get("paths") or ["/workspace"],
            reason=reason[:100],
            created_at=clock.now(),
        )
        row.save(force_insert=True)
        _publish(row)
    return row


def latest_verified(machine: Machine) -> Snapshot | None:
    """What a wake restores."""
    rows = Snapshot.objects.for_org(machine.organization_id).filter(machine=machine, state=SnapshotState.VERIFIED)
    found: Snapshot | None = rows.order_by("-created_at").first()
    return found


def note_written(*, snapshot: Snapshot, result: Mapping[str, Any]) -> Snapshot:
    """What the machine says that it wrote."""
    facts = {
        "state": SnapshotState.WRITTEN,
        "restic_id": str(result.get("snapshot_id") or "")[:64],
        "digest": str(result.get("digest") or "")[:64],
        "files": int(result.get("files") or 0),
        "size": int(result.get("size") or 0),
        "added": int(result.get("added") or 0),
        "written_at": clock.now(),
    }
    with transaction.atomic():
        rows = Snapshot.objects.for_org(snapshot.organization_id).filter(id=snapshot.id, state=SnapshotState.WRITING)
        if rows.update(**facts):
            _publish(snapshot)
    snapshot.refresh_from_db()
    return snapshot


def verify_snapshot(*, snapshot: Snapshot, machine: Machine) -> dict[str, Any]:
    """Compare what is in the repository with the hashes that were made on the machine. Raises OperationFailed.

    Checked are: the snapshot's id and paths, every path with its kind and size, the digest over all hashes, and the
    content of sampled files, read back. Returns what was checked.
    """
    repository = gateway.repository_of(machine, settings_of(machine.organization_id))
    listed = _listed(snapshot)
    told = _find(repository, snapshot)
    if sorted(told.get("paths") or []) != sorted(snapshot.paths):
        raise _bad("The snapshot holds other folders than were asked for.")
    wanted = {entry.path: entry for entry in listed}
    kinds = {"file": "f", "dir": "d", "symlink": "l"}
    roots = tuple(f"{path.rstrip('/')}/" for path in snapshot.paths)
    found = {
        str(node["path"]): (kinds.get(str(node["type"]), "?"), int(node.get("size") or 0))
        for node in repository.listing(snapshot.restic_id)
        if str(node["path"]) in snapshot.paths or str(node["path"]).startswith(roots)
    }
    _compare(wanted, found)
    sample = _sample(listed, str(snapshot.id))
    for entry in sample:
        if repository.sha256(snapshot.restic_id, entry.path) != entry.sha256:
            raise _bad(f"{entry.path} is not in the snapshot as it was on the machine.")
    return {
        "entries": len(wanted),
        "files": snapshot.files,
        "read_back": len(sample),
        "bytes_read": sum(e.size for e in sample),
    }


def _listed(snapshot: Snapshot) -> list[Listed]:
    file = gateway.manifest_file(snapshot.organization_id, snapshot.id)
    if not file.is_file():
        raise _bad("The machine did not hand over its hashes.")
    summed = hashlib.sha256()
    entries = []
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            text = line.rstrip("\n")
            summed.update(text.encode() + b"\n")
            told = json.loads(text)
            entries.append(Listed(str(told["path"]), str(told["kind"]), int(told["size"]), str(told["sha256"])))
    if summed.hexdigest() != snapshot.digest:
        raise _bad("The hashes that were handed over are not those that the machine told of.")
    if sum(1 for entry in entries if entry.kind == "f") != snapshot.files:
        raise _bad("The machine told another number of files than it hashed.")
    return entries


def _find(repository: Repository, snapshot: Snapshot) -> dict[str, Any]:
    if len(snapshot.restic_id) < 8:
        raise _bad("The machine told no snapshot.")
    for row in repository.snapshots():
        if str(row.get("id") or "").startswith(snapshot.restic_id):
            return row
    raise _bad("The repository does not have the snapshot that the machine told of.")


def _compare(wanted: Mapping[str, Listed], found: Mapping[str, tuple[str, int]]) -> None:
    missing = [path for path in wanted if path not in found]
    if missing:
        raise _bad(f"{len(missing)} of {len(wanted)} paths are not in the snapshot, such as {missing[0]}.")
    more = [path for path, (kind, _) in found.items() if path not in wanted and kind != "?"]
    if more:
        raise _bad(f"The snapshot holds {len(more)} paths that were not hashed, such as {more[0]}.")
    for path, entry in wanted.items():
        kind, size = found[path]
        if kind != entry.kind or (kind == "f" and size != entry.size):
            raise _bad(f"{path} has another kind or size in the snapshot.")


def _sample(listed: Iterable[Listed], seed: str) -> list[Listed]:
    """The largest file within the bound and others by a chance that the machine cannot know."""
    files = [entry for entry in listed if entry.kind == "f"]
    chosen: list[Listed] = []
    left = SAMPLED_BYTES
    for entry in random.Random(f"{seed}:{random.SystemRandom().random()}").sample(files, len(files)):  # noqa: S311  which files, not a secret
        if len(chosen) == SAMPLED_FILES:
            break
        if entry.size <= left:
            chosen.append(entry)
            left -= entry.size
    return chosen


def _bad(words: str) -> OperationFailed:
    return OperationFailed(
        words,
        code="not_verified",
        next_step="The machine was left as it is. Try again; look at the snapshot's page if it fails again.",
    )


def mark_verified(*, snapshot: Snapshot, machine: Machine, checks: Mapping[str, Any]) -> None:
    """From now on a machine may be destroyed on the strength of it."""
    with transaction.atomic():
        rows = Snapshot.objects.for_org(snapshot.organization_id).filter(id=snapshot.id, state=SnapshotState.WRITTEN)
        if rows.update(state=SnapshotState.VERIFIED, verified_at=clock.now(), checks=dict(checks), error=""):
            audit.record(
                actor=Actor.system(WORKER, snapshot.organization_id),
                verb="gpu.snapshot_verified",
                target=machine,
                detail=f"{snapshot.restic_id}: {checks.get('entries')} paths, {checks.get('read_back')} files read back",
                operation_id=snapshot.operation_id,
                organization_id=snapshot.organization_id,
            )
            _publish(snapshot)
    snapshot.refresh_from_db()


def mark_failed(*, snapshot: Snapshot, words: str) -> None:
    """It can never be the ground for destroying anything, nor be restored."""
    with transaction.atomic():
        rows = Snapshot.objects.for_org(snapshot.organization_id).filter(
            id=snapshot.id, state__in=[SnapshotState.WRITING, SnapshotState.WRITTEN]
        )
        if rows.update(state=SnapshotState.FAILED, error=words[:500]):
            audit.record(
                actor=Actor.system(WORKER, snapshot.organization_id),
                verb="gpu.snapshot_failed",
                target=snapshot.machine,
                outcome="failed",
                detail=words,
                operation_id=snapshot.operation_id,
                organization_id=snapshot.organization_id,
            )
            _publish(snapshot)


def adopt(*, snapshot: Snapshot, machine: Machine, operation: Operation) -> Snapshot:
    """A snapshot of another machine as one of this machine: copied between their repositories by this server, and
    verified anew against the hashes that were made where it was written. Safe to repeat."""
    rules = settings_of(machine.organization_id)
    target = gateway.repository_of(machine, rules)
    target.ensure()
    copied = target.copy_from(gateway.repository_of(snapshot.machine, rules), snapshot.restic_id)
    with transaction.atomic():
        rows = Snapshot.objects.for_org(machine.organization_id)
        row: Snapshot | None = rows.filter(operation_id=operation.id, machine=machine).first()
        if row is None:
            row = Snapshot(
                organization_id=machine.organization_id,
                machine=machine,
                generation=machine.generation,
                operation_id=operation.id,
                paths=snapshot.paths,
                restic_id=copied,
                digest=snapshot.digest,
                files=snapshot.files,
                size=snapshot.size,
                state=SnapshotState.WRITTEN,
                reason=f"of {snapshot.machine.name}"[:100],
                created_at=clock.now(),
                written_at=clock.now(),
            )
            row.save(force_insert=True)
    if row.state == SnapshotState.VERIFIED:
        return row
    source = gateway.manifest_file(snapshot.organization_id, snapshot.id)
    file = gateway.manifest_file(row.organization_id, row.id)
    if source.is_file():
        part = file.with_suffix(".part")
        part.write_bytes(source.read_bytes())
        part.replace(file)
    mark_verified(snapshot=row, machine=machine, checks=verify_snapshot(snapshot=row, machine=machine))
    return row


def note_restored(*, machine: Machine, snapshot: Snapshot) -> None:
    """The files are proven to be back: the machine may be backed up again."""
    with transaction.atomic():
        Machine.objects.for_org(machine.organization_id).filter(id=machine.id).update(restored=True)
        Snapshot.objects.for_org(machine.organization_id).filter(id=snapshot.id).update(restored_at=clock.now())
        _publish(snapshot)
    machine.restored = True


def verify_again(*, actor: Actor, snapshot_id: UUID | str) -> Snapshot:
    """Check a snapshot anew, now. Raises OperationFailed with words when it is not as it should be."""
    actor.require(OPERATE, "verify snapshots")
    row = find_snapshot(actor=actor, snapshot_id=snapshot_id)
    if row.state != SnapshotState.VERIFIED:
        raise InvalidState("Only a verified snapshot can be checked again.")
    _real(row)
    checks = verify_snapshot(snapshot=row, machine=row.machine)
    with transaction.atomic():
        Snapshot.objects.visible_to(actor).filter(id=row.id).update(verified_at=clock.now(), checks=checks)
        audit.record(actor=actor, verb="gpu.snapshot_verified", target=row.machine, organization_id=row.organization_id)
        _publish(row)
    row.refresh_from_db()
    return row


def find_snapshot(*, actor: Actor, snapshot_id: UUID | str) -> Snapshot:
    """One that the actor may see. Raises NotFound."""
    actor.require("gpu.view", "see snapshots")
    try:
        key = snapshot_id if isinstance(snapshot_id, UUID) else UUID(str(snapshot_id))
    except ValueError:
        raise NotFound("There is no such snapshot.") from None
    found = Snapshot.objects.visible_to(actor).select_related("machine", "machine__account").filter(id=key).first()
    if found is None or found.state == SnapshotState.DELETED:
        raise NotFound("There is no such snapshot.")
    row: Snapshot = found
    return row


def delete_snapshot(*, actor: Actor, snapshot_id: UUID | str) -> None:
    """Forget one. The newest verified snapshot of a machine that is asleep is all there is of it: refused."""
    actor.require("gpu.manage", "delete snapshots")
    row = find_snapshot(actor=actor, snapshot_id=snapshot_id)
    machine = row.machine
    newest = latest_verified(machine)
    if newest is not None and newest.id == row.id and machine.gone_at is None:
        raise InvalidState("This is the newest verified snapshot of the machine; a wake needs it.", code="needed")
    if operations.active_operation("gpu_machine", machine.id) is not None:
        raise InvalidState("Something is under way on its machine. Wait for it.", code="operation_active")
    _real(row)
    _forget(machine, [row])
    with transaction.atomic():
        audit.record(
            actor=actor,
            verb="gpu.snapshot_deleted",
            target=machine,
            detail=row.restic_id,
            organization_id=row.organization_id,
        )


def _real(row: Snapshot) -> None:
    """Refuse for what the demo's history tells of: there is no repository behind it."""
    if row.machine.account.is_sandbox:
        raise InvalidState(
            "This snapshot is part of the demo's simulated history; no file is behind it.", code="simulated"
        )


def _forget(machine: Machine, rows: list[Snapshot]) -> None:
    # one that was told again stands in several rows
    kept = Snapshot.objects.for_org(machine.organization_id).filter(machine=machine)
    kept = kept.exclude(state=SnapshotState.DELETED).exclude(id__in=[row.id for row in rows])
    still = set(kept.values_list("restic_id", flat=True))
    written = sorted({row.restic_id for row in rows if row.restic_id} - still)
    if written:
        # no operation is under way; only a standby's copy could be writing
        copied = Standby.objects.for_org(machine.organization_id).filter(machine=machine, enabled=True).exists()
        with _clearing(machine):
            gateway.repository_of(machine, settings_of(machine.organization_id)).forget(written, alone=not copied)
    note_forgotten(machine=machine, rows=rows)


def note_forgotten(*, machine: Machine, rows: Sequence[Snapshot]) -> None:
    """They are out of the repository."""
    with transaction.atomic():
        ids = [row.id for row in rows]
        Snapshot.objects.for_org(machine.organization_id).filter(id__in=ids).update(
            state=SnapshotState.DELETED, deleted_at=clock.now()
        )
        publish(machine.organization_id, TOPIC, [machine.id])
    for row in rows:
        gateway.manifest_file(row.organization_id, row.id).unlink(missing_ok=True)


@contextmanager
def _clearing(machine: Machine) -> Iterator[None]:
    """Nothing is written to or read from the repository by an operation while space is freed in it, and none begins.

    Raises InvalidState when one is under way or somebody else frees space. A process that is killed in the middle
    leaves the mark, which ends by itself.
    """
    with transaction.atomic():
        row = locked(machine.id)
        now = clock.now()
        if row is None or is_clearing(row) or operations.active_operation("gpu_machine", machine.id) is not None:
            raise InvalidState("Something is under way on its machine. Wait for it.", code="operation_active")
        row.clearing_until = now + CLEARING
        row.save(update_fields=["clearing_until"])
    try:
        yield
    finally:
        Machine.objects.for_org(machine.organization_id).filter(id=machine.id).update(clearing_until=None)


def is_clearing(machine: Machine) -> bool:
    """Whether space is being freed in its repository now, so that a backup or restore has to wait."""
    return machine.clearing_until is not None and machine.clearing_until > clock.now()


def apply_retention(*, machine: Machine) -> int:
    """Forget verified snapshots beyond the newest N, never the newest, never while something is under way."""
    rules = settings_of(machine.organization_id)
    if machine.account.is_sandbox:
        return 0
    if operations.active_operation("gpu_machine", machine.id) is not None:
        return 0
    rows = Snapshot.objects.for_org(machine.organization_id).filter(machine=machine, state=SnapshotState.VERIFIED)
    old = list(rows.order_by("-created_at")[max(1, rules.keep_last) :])
    if old:
        _forget(machine, old)
    return len(old)


def _publish(row: Snapshot) -> None:
    publish(row.organization_id, TOPIC, [row.machine_id])
