"""Real processes on one database file: who wins a claim, what a `kill -9` leaves, who keeps a lease alive."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests import prepared
from tests.live.nursery import Forked, Nursery

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
WORKERS = 4
OPERATIONS = 60


def result(process: Forked, seconds: float = 120) -> dict:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err[-2000:]
    return json.loads(out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Forked]]:
    folder = tmp_path_factory.mktemp("race")
    prepared.put_into(folder)
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    environment = {**kept, "CURFEW_DATA": str(folder), "DJANGO_SETTINGS_MODULE": "config.settings"}
    with Nursery("tests.operations.worker", environment) as nursery:
        yield nursery.start


def test_a_start_loads_no_client_that_it_does_not_need(start: Callable[..., Forked]) -> None:
    """Each would cost every start; this one has SQLite, no Redis and serves no pages."""
    spared = (
        "psycopg",
        "redis",
        "httpx",
        "rest_framework.fields",
        "rest_framework.test",
        "boto3",
        "kubernetes",
        "docker",
    )
    assert result(start("loaded", "django", *spared)) == {"loaded": ["django"]}


def test_processes_of_one_nursery_have_names_of_their_own(start: Callable[..., Forked]) -> None:
    names = {result(start("name"))["name"] for _ in range(3)}
    assert len(names) == 3


def test_each_operation_is_run_by_exactly_one_of_four_processes(start: Callable[..., Forked]) -> None:
    ids = result(start("request", str(OPERATIONS)))["ids"]
    workers = [start("race", *ids) for _ in range(WORKERS)]
    ran = [result(w) for w in workers]
    rings = Counter(name for one in ran for name in one["rang"])
    assert rings == Counter(dict.fromkeys(ids, 1))
    assert sum(bool(one["rang"]) for one in ran) > 1, "only one process ever won: nothing was raced"
    rows = result(start("show", *ids))["rows"]
    assert {row["status"] for row in rows} == {"succeeded"}
    assert {row["fence"] for row in rows} == {1}


def test_two_requests_at_once_make_one_active_operation(start: Callable[..., Forked]) -> None:
    resource = "6b1f3a54-0000-4000-8000-000000000001"
    asked = [start("ask", resource) for _ in range(WORKERS)]
    outcomes = [result(one) for one in asked]
    made = {one["made"] for one in outcomes if one["made"]}
    assert len(made) == 1
    assert {one["conflict"] for one in outcomes if one["conflict"]} <= made


def test_the_same_key_at_once_makes_one_operation(start: Callable[..., Forked]) -> None:
    resource = "6b1f3a54-0000-4000-8000-000000000002"
    asked = [start("ask", resource, "noon") for _ in range(WORKERS)]
    assert len({result(one)["made"] for one in asked}) == 1


def test_after_kill_9_the_successor_goes_on_from_the_checkpoint(start: Callable[..., Forked]) -> None:
    (name,) = result(start("request", "1"))["ids"]
    victim = start("hang", name)
    assert victim.stdout.readline().strip() == "hanging"
    victim.kill9()
    assert result(start("show", name))["rows"][0]["status"] == "running"
    deadline = time.monotonic() + 30
    while result(start("reap"))["reaped"] == 0:
        assert time.monotonic() < deadline, "the dead worker's lease never ran out"
        time.sleep(0.2)
    finished = result(start("race", name))
    assert finished["rang"] == [name]
    row = result(start("show", name))["rows"][0]
    assert (row["status"], row["state"]) == ("succeeded", {"pulled": True})
    assert row["fence"] == 3  # claimed, reaped, claimed


def test_a_slow_call_keeps_its_lease_while_others_reap(start: Callable[..., Forked]) -> None:
    (name,) = result(start("request", "1"))["ids"]
    slow = start("slow", name)
    assert slow.stdout.readline().strip() == "ringing"
    reaped = 0
    while slow.poll() is None:
        reaped += result(start("reap"))["reaped"]
        time.sleep(0.2)
    assert result(slow)["outcome"] == "succeeded"
    assert reaped == 0
    assert result(start("show", name))["rows"][0]["fence"] == 1
