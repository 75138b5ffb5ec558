"""Hibernate and wake in cycles under faults, with real restic on real files: every manifest must be identical.

    python -m tests.campaigns.gpu_hibernate --cycles 500 --seed 1

Faults: a worker killed at random checkpoints, a storage that fails, an agent that lies, files that change during the
backup, a repository whose disk is full (a real ENOSPC: restic sees its `data` folder as one page of memory), a lock of
a check that was killed, a folder that is missing. A cycle whose hibernation is refused must leave the machine and its
files. Of the files `CURFEW_GPU_SAMPLE` (4) are read back each time, in place of the 12 of the product: reading back is
a run of restic for each. The key of the repository is one that opens at once (`restic_key.py`); its data are the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django

django.setup()  # for `python -m`; under pytest it was done

from agent.machine import work  # noqa: E402
from gpu_fleet import gateway, services  # noqa: E402
from gpu_fleet.providers.restic import Repository, RepositoryError  # noqa: E402
from gpu_fleet.services.settings import settings_of  # noqa: E402
from operations import runner  # noqa: E402
from operations.models import Operation  # noqa: E402
from tests.campaigns.restic_key import make_cheap  # noqa: E402

FAULTS = ("killed", "storage", "lie", "changing", "disk_full", "lock", "missing", "none")
FULL = """#!/bin/sh
case " $* " in
*" backup "*) exec unshare -m sh -c 'mount -t tmpfs -o size=4k none "$RESTIC_REPOSITORY/data" && exec {restic} "$@"' sh "$@" ;;
*) exec {restic} "$@" ;;
esac
"""


def open_at_once(monkeypatch: Any) -> None:
    """Repositories that are made from now on have a key that is quick to open."""
    plain = Repository.ensure

    def ensure(self: Repository) -> bool:
        made = plain(self)
        if made:
            make_cheap(Path(self.location), self.password)
        return made

    monkeypatch.setattr(Repository, "ensure", ensure)


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
    if fault == "missing":
        _away(disk).rename(disk.folder)
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
    doers = {
        "killed": _kill,
        "storage": _break_storage,
        "lie": _lie,
        "changing": _keep_changing,
        "disk_full": _fill,
        "lock": _leave_lock,
        "missing": _mislay,
    }
    if fault in doers:
        doers[fault](disk, chance, patch, count)


def _kill(disk: Any, chance: random.Random, patch: Any, count: list[int]) -> None:
    plain = runner.Lease._write

    def write(self: runner.Lease, **fields: Any) -> None:
        if chance.random() < 0.15:
            count[0] += 1
            raise Killed
        plain(self, **fields)

    patch.setattr(runner.Lease, "_write", write)


def _break_storage(disk: Any, chance: random.Random, patch: Any, count: list[int]) -> None:
    whole = Repository.run

    def run(self: Repository, *words: str, **more: Any) -> str:
        if chance.random() < 0.3:
            count[0] += 1
            raise RepositoryError("503 from the storage", code="repository", transient=True)
        return whole(self, *words, **more)

    patch.setattr(Repository, "run", run)


def _lie(disk: Any, chance: random.Random, patch: Any, count: list[int]) -> None:
    count[0] += 1
    disk.lie = lambda report: report.get("result", {}).update(digest="0" * 64)


def _mislay(disk: Any, chance: random.Random, patch: Any, count: list[int]) -> None:
    count[0] += 1
    disk.before_backup = lambda: disk.folder.is_dir() and disk.folder.rename(_away(disk))


def _away(disk: Any) -> Path:
    return Path(disk.folder).with_name("mislaid")


def _fill(disk: Any, chance: random.Random, patch: Any, count: list[int]) -> None:
    """The disk of the repository is full for the first few backups."""
    tools = Path(disk.folder).with_name("tools")
    tools.mkdir(exist_ok=True)
    program = tools / "restic"
    program.write_text(FULL.format(restic=shutil.which("restic")))
    program.chmod(0o755)
    left = [chance.randrange(1, 5)]
    plain, path = work.restic_backup, os.environ["PATH"]

    def backup(*words: Any) -> dict[str, Any]:
        if not left[0]:
            return plain(*words)
        left[0] -= 1
        count[0] += 1
        with patch.context() as inner:
            inner.setenv("PATH", f"{tools}:{path}")
            try:
                return plain(*words)
            except work.Failed as bad:
                if "no space left on device" not in str(bad):
                    raise RuntimeError(f"this disk was to be full: {bad}") from bad
                raise

    patch.setattr(work, "restic_backup", backup)


def _leave_lock(disk: Any, chance: random.Random, patch: Any, count: list[int]) -> None:
    """Kill a check of the repository with its exclusive lock in place."""
    repository = gateway.repository_of(disk.machine, settings_of(disk.machine.organization_id))
    repository.ensure()
    locks = Path(repository.location) / "locks"
    child = repository._start(["check"])
    until = time.monotonic() + 120
    while not any(locks.iterdir()) and child.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    count[0] += any(locks.iterdir())


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
    disk.fleet.paced = True
    for _ in range(1500):
        disk.fleet.agents()
        try:
            disk.fleet.once()
        except Killed:
            disk.fleet.time.go(61)
            runner.reap_expired()
        services.reap()
        active = Operation.objects.all_orgs().filter(status__in=["queued", "running"])
        due = active.order_by("not_before").values_list("not_before", flat=True).first()
        if due is None:
            return
        disk.fleet.time.go(max(1.0, min(5.0, due.timestamp() - disk.fleet.time.seconds)))
    raise AssertionError("the cycle never ended")


def main(arguments: list[str]) -> int:
    """The full campaign: pytest runs of their own, one for each machine, some at once; what they counted is added up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--machines", type=int, default=4, help="each with a repository and a seed of its own")
    parser.add_argument("--at-once", type=int, default=2)
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    bounds = [asked.cycles * n // asked.machines for n in range(asked.machines + 1)]
    with ThreadPoolExecutor(asked.at_once) as pool:
        runs = [pool.submit(_of_machine, asked.seed, *pair) for pair in itertools.pairwise(bounds)]
        failed = sum(run.result()[0] != 0 for run in runs)
    told: Counter[str] = Counter()
    for run in runs:
        told.update(run.result()[1])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = {"seconds": round(time.monotonic() - began), "processor_seconds": round(used.ru_utime + used.ru_stime)}
    sys.stdout.write(json.dumps({**told, **spent, "machines_with_findings": failed}) + "\n")
    return 1 if failed else 0


def _of_machine(seed: int, first: int, end: int) -> tuple[int, dict[str, int]]:
    environment = {
        **os.environ,
        "CURFEW_GPU_CYCLES": str(end - first),
        "CURFEW_GPU_FIRST": str(first),
        "CURFEW_GPU_SEED": str(seed * 1_000_000 + first),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:xdist", "--timeout=0"]
    child = subprocess.Popen(
        [*command, "tests/gpu_fleet/test_hibernate_cycles.py"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    found: dict[str, int] = {}
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith('{"cycles"'):
            found = json.loads(line)
        if '"event": "operation_run"' not in line:
            sys.stdout.write(f"{first}: {line}")
            sys.stdout.flush()
    return child.wait(), found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
