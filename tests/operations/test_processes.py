"""Real processes on one database file: who wins a claim, what a `kill -9` leaves, who keeps a lease alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests import prepared

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
WORKERS = 4
OPERATIONS = 60


def environment(data: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    return {**kept, "CURFEW_DATA": str(data), "DJANGO_SETTINGS_MODULE": "config.settings"}


def start(data: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.operations.worker", *arguments]
    return subprocess.Popen(command, env=environment(data), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str], seconds: float = 120) -> dict:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err[-2000:]
    return json.loads(out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("race")
    prepared.put_into(folder)
    return folder


def test_each_operation_is_run_by_exactly_one_of_four_processes(data: Path) -> None:
    ids = result(start(data, "request", str(OPERATIONS)))["ids"]
    workers = [start(data, "race", *ids) for _ in range(WORKERS)]
    ran = [result(w) for w in workers]
    rings = Counter(name for one in ran for name in one["rang"])
    assert rings == Counter(dict.fromkeys(ids, 1))
    assert sum(bool(one["rang"]) for one in ran) > 1, "only one process ever won: nothing was raced"
    rows = result(start(data, "show", *ids))["rows"]
    assert {row["status"] for row in rows} == {"succeeded"}
    assert {row["fence"] for row in rows} == {1}


def test_two_requests_at_once_make_one_active_operation(data: Path) -> None:
    resource = "6b1f3a54-0000-4000-8000-000000000001"
    asked = [start(data, "ask", resource) for _ in range(WORKERS)]
    outcomes = [result(one) for one in asked]
    made = {one["made"] for one in outcomes if one["made"]}
    assert len(made) == 1
    assert {one["conflict"] for one in outcomes if one["conflict"]} <= made


def test_the_same_key_at_once_makes_one_operation(data: Path) -> None:
    resource = "6b1f3a54-0000-4000-8000-000000000002"
    asked = [start(data, "ask", resource, "noon") for _ in range(WORKERS)]
    assert len({result(one)["made"] for one in asked}) == 1


def test_after_kill_9_the_successor_goes_on_from_the_checkpoint(data: Path) -> None:
    (name,) = result(start(data, "request", "1"))["ids"]
    victim = start(data, "hang", name)
    assert victim.stdout is not None
    assert victim.stdout.readline().strip() == "hanging"
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)
    assert result(start(data, "show", name))["rows"][0]["status"] == "running"
    deadline = time.monotonic() + 30
    while result(start(data, "reap"))["reaped"] == 0:
        assert time.monotonic() < deadline, "the dead worker's lease never ran out"
    finished = result(start(data, "race", name))
    assert finished["rang"] == [name]
    row = result(start(data, "show", name))["rows"][0]
    assert (row["status"], row["state"]) == ("succeeded", {"pulled": True})
    assert row["fence"] == 3  # claimed, reaped, claimed


def test_a_slow_call_keeps_its_lease_while_others_reap(data: Path) -> None:
    (name,) = result(start(data, "request", "1"))["ids"]
    slow = start(data, "slow", name)
    assert slow.stdout is not None
    assert slow.stdout.readline().strip() == "ringing"
    reaped = 0
    while slow.poll() is None:
        reaped += result(start(data, "reap"))["reaped"]
    assert result(slow)["outcome"] == "succeeded"
    assert reaped == 0
    assert result(start(data, "show", name))["rows"][0]["fence"] == 1
