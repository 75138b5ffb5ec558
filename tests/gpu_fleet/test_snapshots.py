"""Two timers, the hot set, snapshots in other machines, a bucket on S3, and a lock that a killed backup left."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from agent.machine import restoring
from core.errors import InvalidState
from costs.models import Interval
from gpu_fleet import gateway, services
from gpu_fleet.models import FleetSettings, Machine, Snapshot
from gpu_fleet.providers.restic import Repository, RepositoryError
from operations.models import Operation
from tests.fakes.s3 import moto_server
from tests.gpu_fleet.test_hibernate import Disk
from tests.gpu_fleet.test_hibernate import disk as disk_fixture
from tests.personas import Persona

disk = disk_fixture
pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed"),
]


def again(machine: Machine | None) -> Machine:
    assert machine is not None
    machine.refresh_from_db()
    return machine


def test_it_stops_soon_and_is_destroyed_later(disk: Disk, alice: Persona) -> None:
    FleetSettings.objects.all_orgs().update(destroy_after_minutes=30)
    services.request_doze(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    machine = again(disk.machine)
    assert (machine.observed_state, machine.provider_state, machine.dozed is None) == ("asleep", "stopped", False)
    left = machine.destroy_at - disk.fleet.time.now
    assert timedelta(minutes=28) < left <= timedelta(minutes=30)
    services.request_wake(actor=alice.actor, machine_id=machine.id)  # within the time it goes on where it is
    disk.fleet.until_done()
    machine = again(machine)
    assert (machine.observed_state, machine.generation, machine.dozed_id, machine.destroy_at) == (
        "awake",
        1,
        None,
        None,
    )
    services.request_doze(actor=alice.actor, machine_id=machine.id)
    disk.fleet.until_done()
    before = disk.digest()
    assert services.check_idle() == []
    disk.fleet.time.go(31 * 60)
    assert services.check_idle() == [machine.id]
    disk.fleet.until_done()
    machine = again(machine)
    assert (machine.rental_id, machine.error_code, machine.observed_state) == (None, "", "asleep")
    disk.new()
    services.request_wake(actor=alice.actor, machine_id=machine.id)
    disk.fleet.until_done()
    assert (again(machine).generation, disk.digest()) == (2, before)
    phases = Interval.objects.all_orgs().filter(resource_id=machine.id).order_by("started_at")
    assert [row.phase for row in phases][-1] == "awake"


def test_a_stopped_machine_that_was_not_saved_is_not_destroyed(disk: Disk, alice: Persona) -> None:
    services.request_pause(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    disk.fleet.time.go(86_400)
    assert services.check_idle() == []
    with pytest.raises(Exception, match="paused"):
        services.request_hibernate(actor=alice.actor, machine_id=disk.machine.id)


def test_what_is_hot_comes_first_and_the_rest_follows(
    disk: Disk,
    alice: Persona,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restoring, "SMALL", 1000)
    monkeypatch.setattr(restoring, "TWO_BATCHES", 100_000)
    monkeypatch.setattr(restoring, "LARGE_FILE", 100_000)
    (disk.folder / "weights").mkdir()
    (disk.folder / "weights/needed.bin").write_bytes(os.urandom(300_000))
    (disk.folder / "weights/[odd]*.bin").write_bytes(os.urandom(200_000))
    (disk.folder / ".curfew").mkdir()
    (disk.folder / ".curfew/hot").write_text("weights/needed\n")
    before = disk.digest()
    services.request_hibernate(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    disk.new()
    there: dict[str, bool] = {}
    told_usable = threading.Event()
    plain, bring = restoring.restore, restoring._bring

    def behind(*words: Any) -> None:
        assert told_usable.wait(60), "it waits for what is to come behind"
        bring(*words)

    def restore(order: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
        def hear(**facts: Any) -> None:
            if facts.get("usable"):
                names = ("model.bin", "weights/needed.bin", "weights/[odd]*.bin", "deep/er/small 3.txt")
                there.update({name: (disk.folder / name).exists() for name in names})
                told_usable.set()
            tell(**facts)

        return plain(order, hear)

    monkeypatch.setattr(restoring, "restore", restore)
    monkeypatch.setattr(restoring, "_bring", behind)
    services.request_wake(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    assert there == {
        "model.bin": False,
        "weights/needed.bin": True,
        "weights/[odd]*.bin": False,
        "deep/er/small 3.txt": True,
    }
    assert disk.digest() == before


def test_a_snapshot_comes_into_another_machine(
    disk: Disk,
    alice: Persona,
    deploy: Callable[..., Machine],
) -> None:
    services.request_hibernate(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    before = disk.digest()
    (snapshot,) = Snapshot.objects.all_orgs().filter(state="verified")
    first, disk.machine = disk.machine, deploy("fern", paths=[str(disk.folder)])
    disk.new()
    disk.fleet.until_done()
    services.request_restore(actor=alice.actor, machine_id=disk.machine.id, snapshot_id=snapshot.id)
    disk.fleet.until_done()
    assert disk.digest() == before
    mine = Snapshot.objects.all_orgs().get(machine=disk.machine)
    assert (mine.state, mine.digest, mine.reason) == ("verified", snapshot.digest, f"of {first.name}")
    other = deploy("gale", paths=["/elsewhere"])
    with pytest.raises(Exception, match="does not save"):
        services.request_restore(actor=alice.actor, machine_id=other.id, snapshot_id=snapshot.id)


@pytest.fixture
def s3() -> Iterator[str]:
    keys = {"aws_access_key_id": "server", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    with moto_server() as url:
        boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="snapshots")
        yield url


def test_a_whole_life_with_the_repository_in_a_bucket(
    disk: Disk,
    alice: Persona,
    s3: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Real restic against a real HTTP S3; the machine gets keys of its own by AssumeRole."""
    services.change_settings(
        actor=alice.actor,
        storage="s3",
        bucket="snapshots",
        endpoint=s3,
        region="us-east-1",
        role_arn="arn:aws:iam::123456789012:role/curfew-snapshots",
        access_key="server",
        secret_key="secret",
    )
    monkeypatch.setattr("gpu_fleet.gateway.repository_for_machine", REAL)
    given: list[dict[str, str]] = []
    plain = Disk._carry_out

    def carry_out(self: Disk, order: dict[str, Any]) -> None:
        given.append(dict(order["environment"]))
        plain(self, order)

    monkeypatch.setattr(Disk, "_carry_out", carry_out)
    before = disk.digest()
    services.request_hibernate(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    (snapshot,) = Snapshot.objects.all_orgs().filter(state="verified")
    disk.new()
    services.request_wake(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    operation = Operation.objects.all_orgs().order_by("-created_at").first()
    assert (disk.digest(), operation.status) == (before, "succeeded"), operation.error
    assert all("AWS_SESSION_TOKEN" in keys and keys["AWS_ACCESS_KEY_ID"] != "server" for keys in given)
    stored = boto3.client(
        "s3", endpoint_url=s3, aws_access_key_id="server", aws_secret_access_key="secret", region_name="us-east-1"
    ).list_objects_v2(Bucket="snapshots")["Contents"]
    assert all(row["Key"].startswith(f"curfew/{disk.machine.id}/") for row in stored)
    assert snapshot.restic_id


REAL = gateway.repository_for_machine


def test_a_lock_that_a_killed_backup_left_stops_neither_backup_nor_retention(tmp_path: Path) -> None:
    repository = Repository(str(tmp_path / "repository"), "secret", cache=str(tmp_path / "cache"))
    repository.ensure()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.bin").write_bytes(os.urandom(400_000))
    repository.run("backup", str(tree))
    (tree / "b.bin").write_bytes(os.urandom(150_000_000))
    # on another host, as far as restic can tell: its lock counts as alive for half an hour
    child = subprocess.Popen(
        ["unshare", "--uts", "sh", "-c", 'hostname gone && exec restic backup "$0"', str(tree)],
        env={**os.environ, "RESTIC_REPOSITORY": repository.location, "RESTIC_PASSWORD": "secret"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    locks = tmp_path / "repository/locks"
    end = time.monotonic() + 20
    while not _written(locks) and time.monotonic() < end and child.poll() is None:
        time.sleep(0.005)
    child.kill()
    child.wait()
    if not _written(locks):
        pytest.skip("a host of another name cannot be played here")
    repository.run("backup", str(tree))
    with pytest.raises(RepositoryError, match="could not be used"):
        repository.forget([repository.snapshots()[0]["id"]])
    first = repository.snapshots()[0]["id"]
    repository.forget([first], alone=True)
    assert first not in [row["id"] for row in repository.snapshots()]
    assert not _written(locks)


def test_no_backup_begins_while_old_snapshots_are_removed(
    disk: Disk, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    FleetSettings.objects.all_orgs().update(keep_last=1)
    for n in range(2):
        (disk.folder / "more.txt").write_text(str(n))
        services.request_snapshot(actor=alice.actor, machine_id=disk.machine.id)
        disk.fleet.until_done()
        disk.fleet.time.go(60)
    machine, plain, asked = again(disk.machine), Repository.forget, []

    def forget(self: Repository, ids: list[str], *, alone: bool = False) -> None:
        with pytest.raises(InvalidState):
            services.apply_retention(machine=machine)  # another worker at the same time
        asked.append(services.request_hibernate(actor=alice.actor, machine_id=machine.id))
        orders = set(disk.done)
        for _ in range(5):
            disk.fleet.agents()
            disk.fleet.once()
            disk.fleet.time.go(3)
        asked[0].refresh_from_db()
        assert asked[0].step == "Waiting until old snapshots are removed"
        assert set(disk.done) == orders
        plain(self, ids, alone=alone)

    monkeypatch.setattr(Repository, "forget", forget)
    assert services.apply_retention(machine=machine) == 1
    assert again(disk.machine).clearing_until is None
    assert services.apply_retention(machine=machine) == 0  # something is under way
    disk.fleet.until_done()
    asked[0].refresh_from_db()
    assert (asked[0].status, again(disk.machine).rental) == ("succeeded", None)


def _written(locks: Path) -> list[str]:
    """Whole locks; one that is being written has a longer name."""
    return [file.name for file in locks.iterdir() if len(file.name) == 64]
