"""Hibernate and wake in cycles under faults, with real restic on real files: every manifest must be identical.

    CURFEW_GPU_CYCLES=500 pytest -p no:xdist --timeout=0 tests/gpu_fleet/test_hibernate_cycles.py

Faults: a worker killed at random checkpoints, a storage that fails, an agent that lies, files that change during the
backup. A cycle whose hibernation is refused must leave the machine and its files.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from agent.machine import work
from gpu_fleet import services
from gpu_fleet.providers.restic import Repository, RepositoryError
from operations import runner
from operations.models import Operation

FAULTS = ("killed", "storage", "lie", "changing", "none")


class Killed(BaseException):
    """As `kill -9` would."""


def one_cycle(disk: Any, actor: Any, fault: str, chance: random.Random, monkeypatch: Any) -> dict[str, Any]:
    """One hibernation and, when the machine sleeps, one wake. Returns what became of it."""
    (disk.folder / f"work-{chance.getrandbits(32):08x}.bin").write_bytes(chance.randbytes(chance.randrange(1, 60_000)))
    refused = [0]
    with monkeypatch.context() as patch:
        _arrange(disk, fault, chance, patch, refused)
        before = disk.digest()
        operation = services.request_hibernate(actor=actor, machine_id=disk.machine.id)
        _run(disk)
        operation.refresh_from_db()
    disk.lie, disk.before_backup = (lambda report: None), (lambda: None)
    disk.machine.refresh_from_db()
    told = {"fault": fault, "status": operation.status, "asleep": disk.machine.rental_id is None, "faults": refused[0]}
    if disk.machine.rental_id is not None:
        told["identical"] = disk.digest() == before or fault == "changing"
        return told
    before = disk.digest()  # files that changed before the last, unchanged attempt are part of it
    disk.new()
    services.request_wake(actor=actor, machine_id=disk.machine.id)
    _run(disk)
    told["identical"] = disk.digest() == before
    return told


def _arrange(disk: Any, fault: str, chance: random.Random, patch: Any, count: list[int]) -> None:
    if fault == "killed":
        plain = runner.Lease._write

        def write(self: runner.Lease, **fields: Any) -> None:
            if chance.random() < 0.15:
                count[0] += 1
                raise Killed
            plain(self, **fields)

        patch.setattr(runner.Lease, "_write", write)
    elif fault == "storage":
        whole = Repository.run

        def run(self: Repository, *words: str, **more: Any) -> str:
            if chance.random() < 0.3:
                count[0] += 1
                raise RepositoryError("503 from the storage", code="repository", transient=True)
            return whole(self, *words, **more)

        patch.setattr(Repository, "run", run)
    elif fault == "lie":
        disk.lie = lambda report: report.get("result", {}).update(digest="0" * 64)
    elif fault == "changing":
        _keep_changing(disk, chance, patch, count)


def _keep_changing(disk: Any, chance: random.Random, patch: Any, count: list[int]) -> None:
    left = [chance.randrange(1, 3)]
    plain = work.restic_backup

    def backup(*words: Any) -> dict[str, Any]:
        found = plain(*words)
        if left[0]:
            left[0] -= 1
            count[0] += 1
            Path(disk.folder / "busy.log").write_text(f"{chance.random()}")
        return found

    patch.setattr(work, "restic_backup", backup)


def _run(disk: Any) -> None:
    for _ in range(1500):
        disk.fleet.agents()
        try:
            disk.fleet.once()
        except Killed:
            disk.fleet.time.go(61)
            runner.reap_expired()
        services.reap()
        if not Operation.objects.all_orgs().filter(status__in=["queued", "running"]).exists():
            return
        disk.fleet.time.go(1)
    raise AssertionError("the cycle never ended")
