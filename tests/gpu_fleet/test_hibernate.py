"""Hibernation with real restic and the agent's real work: killed at every checkpoint, lied to, changed under its hands."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import AgentToken
from agent.machine import manifest as trees
from agent.machine import restoring, work
from agent.machine.manifest import parse
from core.errors import CurfewError
from costs.models import Interval
from gpu_fleet import services
from gpu_fleet.models import FleetSettings, Machine, Snapshot
from gpu_fleet.providers.restic import Repository
from operations import runner
from operations.models import Operation
from tests.gpu_fleet.conftest import Fleet
from tests.gpu_fleet.test_race import market
from tests.personas import Persona

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed"),
]


class Killed(BaseException):
    """As `kill -9` would."""


class Disk:
    """The disk of whatever machine is rented now, and the agent that works on it. `lie` changes what it reports."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.folder = fleet, folder
        self.lie: Callable[[dict[str, Any]], None] = lambda report: None
        self.before_backup: Callable[[], None] = lambda: None
        self.done: dict[str, dict[str, Any]] = {}
        self.machine: Machine | None = None

    def new(self) -> None:
        """Another host: nothing is there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def fill(self) -> None:
        (self.folder / "deep/er").mkdir(parents=True)
        for n in range(30):
            (self.folder / f"deep/er/small {n}.txt").write_text(f"{n}\n" * n)
        (self.folder / "model.bin").write_bytes(hashlib.sha256(b"seed").digest() * 40_000)
        (self.folder / "link").symlink_to("deep/er")
        (self.folder / "model.bin").chmod(0o640)

    def digest(self) -> str:
        from agent.machine.manifest import build

        return build([str(self.folder)]).digest

    def work(self) -> None:
        """Carry out what the last heartbeat asked for; the report goes with the next one."""
        for number, reply in self.fleet.replies.items():
            for order in reply.get("orders") or []:
                if order["kind"] in ("backup", "restore") and order["id"] not in self.done:
                    self._carry_out(order)
                    self.fleet.jobs[str(number)] = [*self.fleet.jobs.get(str(number), []), self.done[order["id"]]]

    def _carry_out(self, order: dict[str, Any]) -> None:
        if order["kind"] == "backup":
            self.before_backup()
        report: dict[str, Any] = {"id": order["id"], "kind": order["kind"], "percent": 100}
        try:
            result = {"backup": work.backup, "restore": restoring.restore}[order["kind"]](order, lambda **facts: None)
            report |= {"state": "done", "result": result}
        except (work.Failed, trees.Unreadable, OSError) as bad:
            report |= {"state": "failed", "error": str(bad)}
        self.lie(report)
        self.done[order["id"]] = report


@pytest.fixture
def disk(
    fleet: Fleet, deploy: Callable[..., Machine], tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Disk]:
    """A machine that is awake, with files, whose repository is a folder here."""
    settings.CURFEW_DATA = tmp_path / "data"
    made = Disk(fleet, tmp_path / "workspace")
    made.new()
    market(fleet, 30)
    made.machine = deploy(paths=[str(made.folder)])
    plain = runner.run_operation
    monkeypatch.setattr("gpu_fleet.gateway.repository_for_machine", _reached)

    def token() -> AgentToken:
        rows = AgentToken.objects.all_orgs().filter(resource_id=made.machine.id, revoked_at=None)
        return rows.order_by("-created_at").first()

    def upload(order: dict[str, Any], tree: Any) -> None:
        body = gzip.compress("\n".join(tree.lines()).encode())
        services.keep_manifest(token=token(), order_id=order["id"], body=body)

    monkeypatch.setattr(work, "upload", upload)
    monkeypatch.setattr(
        restoring,
        "_download",
        lambda order: parse(
            gzip.decompress(services.read_manifest(token=token(), snapshot_id=order["manifest"])).decode().splitlines()
        ),
    )
    agents = fleet.agents

    def speak() -> None:
        agents()
        made.work()

    monkeypatch.setattr(fleet, "agents", speak)
    fleet.until_done()
    made.fill()
    assert plain is runner.run_operation
    yield made
    shutil.rmtree(tmp_path / "data", ignore_errors=True)


def _reached(machine: Machine, rules: FleetSettings, operation: Any = None) -> Repository:
    from gpu_fleet import gateway

    return gateway.repository_of(machine, rules)


def _again(machine: Machine) -> Machine:
    machine.refresh_from_db()
    return machine


def _hibernate(disk: Disk, alice: Persona) -> Operation:
    assert disk.machine is not None
    operation = services.request_hibernate(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    operation.refresh_from_db()
    return operation


def test_it_sleeps_on_a_proven_snapshot_and_wakes_with_every_byte(disk: Disk, alice: Persona) -> None:
    before = disk.digest()
    assert _hibernate(disk, alice).status == "succeeded"
    assert disk.fleet.world.instances == {}
    machine = _again(disk.machine)
    assert (machine.observed_state, machine.rental) == ("asleep", None)
    snapshot = Snapshot.objects.for_org(machine.organization_id).get()
    assert (snapshot.state, snapshot.files) == ("verified", 31)
    assert snapshot.checks["read_back"] == 12
    disk.new()
    disk.fleet.time.go(3600)
    services.request_wake(actor=alice.actor, machine_id=machine.id)
    disk.fleet.until_done()
    assert disk.digest() == before
    machine = _again(machine)
    assert (machine.observed_state, machine.restored, machine.generation) == ("awake", True, 2)
    rows = Interval.objects.for_org(machine.organization_id).filter(resource_id=machine.id).order_by("started_at")
    assert [row.phase for row in rows] == ["awake", "asleep", "awake"]
    assert rows[0].ended_at == rows[1].started_at
    assert rows[1].awake_price == rows[0].price


LIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another digest": lambda r: r["result"].update(digest="0" * 64),
    "a snapshot that is none": lambda r: r["result"].update(snapshot_id="deadbeef"),
    "no snapshot": lambda r: r["result"].update(snapshot_id=""),
    "fewer files": lambda r: r["result"].update(files=3),
    "failure": lambda r: r.update(state="failed", error="disk full"),
}


@pytest.mark.parametrize("lie", LIES)
def test_nothing_is_destroyed_on_the_word_of_a_machine_alone(disk: Disk, alice: Persona, lie: str) -> None:
    disk.lie = LIES[lie]
    operation = _hibernate(disk, alice)
    assert operation.status == "failed"
    assert len(disk.fleet.world.instances) == 1
    assert _again(disk.machine).rental is not None
    assert not Snapshot.objects.all_orgs().filter(state="verified").exists()


def test_a_snapshot_that_lacks_or_changes_a_file_is_not_believed(
    disk: Disk, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = work.upload

    def cheat(order: dict[str, Any], tree: Any) -> None:
        lines = [json.loads(line) for line in tree.lines()]
        lines[-1] = {**lines[-1], "path": lines[-1]["path"] + ".gone"}
        fake = parse(json.dumps(line, sort_keys=True, separators=(",", ":")) for line in lines)
        real(order, fake)
        disk.lie = lambda report: report["result"].update(digest=fake.digest)

    monkeypatch.setattr(work, "upload", cheat)
    operation = _hibernate(disk, alice)
    assert (operation.status, operation.error_code) == ("failed", "not_verified")
    assert len(disk.fleet.world.instances) == 1


def test_a_failed_restore_never_becomes_the_parent_of_a_backup(disk: Disk, alice: Persona) -> None:
    _hibernate(disk, alice)
    disk.new()

    def lose(report: dict[str, Any]) -> None:
        if report["kind"] == "restore":
            report["result"]["missing"] = 2

    disk.lie = lose
    services.request_wake(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    machine = _again(disk.machine)
    assert (machine.observed_state, machine.restored, machine.error_code) == ("trouble", False, "restore_failed")
    for ask in (services.request_hibernate, services.request_snapshot):
        with pytest.raises(CurfewError, match="not proven to be back"):
            ask(actor=alice.actor, machine_id=machine.id)
    disk.lie = lambda report: None
    snapshot = Snapshot.objects.for_org(machine.organization_id).get(state="verified")
    services.request_restore(actor=alice.actor, machine_id=machine.id, snapshot_id=snapshot.id)
    disk.fleet.until_done()
    assert _again(machine).restored


def test_work_that_begins_during_the_backup_keeps_it_awake(disk: Disk, alice: Persona) -> None:
    disk.machine.idle_minutes = 1
    Machine.objects.all_orgs().update(idle_minutes=1)

    def login() -> None:
        disk.fleet.evidence = {"ssh": 1}

    disk.before_backup = login
    for _ in range(12):
        disk.fleet.agents()
        services.check_idle()
        disk.fleet.time.go(10)
    disk.fleet.until_done()
    operation = Operation.objects.all_orgs().get(kind="gpu.hibernate")
    assert (operation.status, operation.error_code) == ("failed", "came_to_life")
    machine = _again(disk.machine)
    assert (machine.observed_state, machine.error_code) == ("awake", "")
    assert len(disk.fleet.world.instances) == 1


def test_killed_at_every_checkpoint_it_ends_well(disk: Disk, alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker dies before and after each of its writes, one after the other, on the way down and up again."""
    before = disk.digest()
    plain = runner.Lease._write
    count = {"writes": 0, "kill_at": -1}

    def write(self: runner.Lease, **fields: Any) -> None:
        count["writes"] += 1
        fatal = count["writes"] == count["kill_at"]
        if fatal and count["writes"] % 2:
            raise Killed
        plain(self, **fields)
        if fatal:
            raise Killed

    monkeypatch.setattr(runner.Lease, "_write", write)
    kills = 0

    def through(ask: Callable[[], Operation]) -> None:
        nonlocal kills
        operation = ask()
        for step in range(400):
            count["writes"], count["kill_at"] = 0, step % 3 + 1
            disk.fleet.agents()
            for due in runner.due_ids():
                try:
                    runner.run_operation(due)
                except Killed:
                    kills += 1
                    disk.fleet.time.go(61)
                    runner.reap_expired()
            services.reap()
            operation.refresh_from_db()
            if operation.is_final or kills > 8:
                break
            disk.fleet.time.go(2)
        count["kill_at"] = -1
        disk.fleet.until_done()
        operation.refresh_from_db()
        assert operation.status == "succeeded", operation.error

    through(lambda: services.request_hibernate(actor=alice.actor, machine_id=disk.machine.id))
    assert disk.fleet.world.instances == {}
    down, kills = kills, 0
    disk.new()
    through(lambda: services.request_wake(actor=alice.actor, machine_id=disk.machine.id))
    assert down > 3
    assert kills > 3
    assert disk.digest() == before
    disk.fleet.settle(60)
    assert len(disk.fleet.world.instances) == 1


def test_a_pause_keeps_the_disk_and_its_price_and_a_move_leaves_its_host(disk: Disk, alice: Persona) -> None:
    machine = disk.machine
    assert machine is not None
    services.request_pause(actor=alice.actor, machine_id=machine.id)
    disk.fleet.until_done()
    assert (_again(machine).observed_state, len(disk.fleet.world.instances)) == ("asleep", 1)
    with pytest.raises(CurfewError, match="paused"):
        services.request_hibernate(actor=alice.actor, machine_id=machine.id)
    services.request_resume(actor=alice.actor, machine_id=machine.id)
    disk.fleet.until_done()
    before, digest = _again(machine).rental.host_id, disk.digest()
    rows = Interval.objects.for_org(machine.organization_id).filter(resource_id=machine.id).order_by("started_at")
    assert [(row.phase, str(row.price.normalize())) for row in rows] == [
        ("awake", "0.4"),
        ("asleep", "0.01"),
        ("awake", "0.4"),
    ]
    operation = services.request_migrate(actor=alice.actor, machine_id=machine.id)
    _move(disk, operation)
    machine = _again(machine)
    assert (machine.observed_state, machine.generation, machine.restored) == ("awake", 2, True)
    assert machine.rental.host_id != before
    assert disk.digest() == digest


def _move(disk: Disk, operation: Operation) -> None:
    """The new host's disk is empty."""
    wiped = False
    for _ in range(600):
        disk.fleet.agents()
        disk.fleet.once()
        services.reap()
        operation.refresh_from_db()
        if not wiped and _again(disk.machine).rental is None:
            disk.new()
            wiped = True
        if operation.is_final:
            break
        disk.fleet.time.go(1)
    assert (operation.status, wiped) == ("succeeded", True), operation.error
