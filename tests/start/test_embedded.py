"""Worker and beat as threads: restarted when they die, stopped in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from config import embedded
from launcher import keys, paths
from tests import prepared


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "RESTART_SECONDS", (0.01,))


def wait_for(condition: threading.Event) -> None:
    assert condition.wait(10)


def test_a_part_that_ends_is_started_again_and_that_is_logged(quick: None, caplog: pytest.LogCaptureFixture) -> None:
    third = threading.Event()
    runs: list[int] = []

    def body() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise RuntimeError("broken pipe")
        if len(runs) == 3:
            third.set()
            part.stopping.wait(10)

    part = embedded._Part("worker", body)
    part.thread.start()
    wait_for(third)
    part.stopping.set()
    part.thread.join(10)
    assert not part.thread.is_alive()
    assert (runs, part.restarts) == ([0, 1, 2], 2)
    assert [record.message for record in caplog.records] == [
        "embedded_part_failed",
        "embedded_part_ended",
        "embedded_part_ended",
    ]


def test_stopping_does_not_wait_for_the_pause_before_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "RESTART_SECONDS", (60.0,))
    began = threading.Event()
    part = embedded._Part("beat", began.set)
    part.thread.start()
    wait_for(began)
    started = time.monotonic()
    part.stopping.set()
    part.thread.join(10)
    assert not part.thread.is_alive()
    assert time.monotonic() - started < 5


SCRIPT = """
import json, os, threading, time
import django
django.setup()
from config import embedded
from config.celery import app
embedded.RESTART_SECONDS = (0.05,)
ran, blocked, go = [], threading.Event(), threading.Event()

@app.task(name="tests.note")
def note(word):
    ran.append(word)

@app.task(name="tests.block")
def block():
    blocked.set()
    go.wait(60)

def wait(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()

parts = embedded.Embedded()
parts.start()
for queue in embedded.QUEUES:
    app.send_task("tests.note", args=[queue], queue=queue)
all_queues = wait(lambda: sorted(ran) == sorted(embedded.QUEUES))
parts.worker.stop()                       # the worker ends behind our back
restarted = wait(lambda: parts.restarts == 1)
app.send_task("tests.note", args=["again"], queue="fast")
again = wait(lambda: "again" in ran)
app.send_task("tests.block", queue="cloud")
blocked.wait(20)
began = time.monotonic()
clean = parts.stop(1.0)
print(json.dumps({"all_queues": all_queues, "restarted": restarted, "again": again, "clean": clean,
                  "seconds": time.monotonic() - began}), flush=True)
os._exit(0)
"""


def test_the_real_worker_serves_every_queue_survives_its_death_and_stops_in_time(tmp_path: Path) -> None:
    keys.ensure(tmp_path, defaults={}, environ={})
    prepared.put_into(tmp_path)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CURFEW_", "DJANGO_"))}
    clean = {name: value for name, value in clean.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**clean, "CURFEW_DATA": str(tmp_path), "DJANGO_SETTINGS_MODULE": "config.settings"},
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result.pop("seconds") < 10  # the blocked task would take 60
    assert result == {"all_queues": True, "restarted": True, "again": True, "clean": False}
