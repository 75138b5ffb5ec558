"""`manage.py up` for real: a server process on a data folder of its own."""

from __future__ import annotations

import http.client
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher import keys, paths, runlock
from tests import prepared

pytestmark = pytest.mark.integration
START_SECONDS = 120
IS_MIGRATED = """
from pathlib import Path
from django.conf import settings
from core.startup import is_migrated
print(is_migrated(Path(settings.CURFEW_DATA)))
"""


@dataclass
class Running:
    """A started server and what it printed."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        with closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def end(self, how: int) -> float:
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(30)
        return time.monotonic() - began

    def text(self) -> str:
        return self.output.read_text(errors="replace")


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    """A data folder whose database was migrated before."""
    keys.ensure(tmp_path, defaults={}, environ={})
    prepared.put_into(tmp_path)
    return tmp_path


def free_port() -> int:
    return runlock.bind_only("127.0.0.1", 0)


def environment(data: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CURFEW_", "DJANGO_"))}
    clean = {name: value for name, value in clean.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    return {**clean, "CURFEW_DATA": str(data)}


@contextmanager
def server(data: Path, port: int | None = None) -> Iterator[Running]:
    """Start and wait until it says that it runs."""
    port = port or free_port()
    keys.ensure(data, defaults={"CURFEW_BASE_URL": f"http://localhost:{port}"}, environ={})
    output = data / f"output-{time.monotonic_ns()}.txt"
    command = [sys.executable, "manage.py", "up", "--no-browser", "--port", str(port)]
    with output.open("wb") as out:
        process = subprocess.Popen(command, cwd=paths.ROOT, env=environment(data), stdout=out, stderr=out)
    running = Running(process, port, output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Curfew is running at" not in running.text():
            assert process.poll() is None, running.text()
            assert time.monotonic() < deadline, running.text()
            time.sleep(0.05)
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def test_it_serves_and_ctrl_c_stops_it_cleanly(migrated: Path) -> None:
    with server(migrated) as running:
        assert running.get("/healthz")[0] == 200
        assert f"http://localhost:{running.port} (" in running.text()
        assert running.end(signal.SIGINT) < 15
        assert running.process.returncode == 0
        assert "Traceback" not in running.text()
        assert '"clean": true' in (migrated / "logs" / "curfew.log").read_text()
    assert runlock.owner_of(migrated) is None
    private = [migrated / "curfew.sqlite3", migrated / "logs" / "curfew.log", migrated / runlock.FILE_NAME]
    assert [path.stat().st_mode & 0o077 for path in private] == [0, 0, 0]


def test_second_start_migrates_nothing_and_sigterm_stops_it(tmp_path: Path) -> None:
    with server(tmp_path) as first:
        assert "Bringing the database up to date" in first.text()
        first.end(signal.SIGINT)
    with server(tmp_path) as second:
        assert "Bringing the database up to date" not in second.text()
        assert second.get("/healthz")[0] == 200
        assert second.end(signal.SIGTERM) < 15
        assert second.process.returncode == 0


def test_a_database_from_elsewhere_is_migrated_in_spite_of_the_stamp(migrated: Path) -> None:
    with closing(sqlite3.connect(migrated / "curfew.sqlite3")) as database:
        database.execute("DELETE FROM django_migrations WHERE id = (SELECT MAX(id) FROM django_migrations)")
        (before,) = database.execute("SELECT COUNT(*) FROM django_migrations").fetchone()
        (newest,) = database.execute("SELECT MAX(id) FROM django_migrations").fetchone()
        database.execute("INSERT INTO django_migrations VALUES (?, 'x', 'y', '2020-01-01')", [newest + 2])
        database.commit()
    assert before > 10
    process = subprocess.run(
        [
            sys.executable,
            "manage.py",
            "shell",
            "-c",
            IS_MIGRATED,
        ],
        cwd=paths.ROOT,
        env=environment(migrated),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.stdout.splitlines()[-1] == "False", process.stdout + process.stderr


def test_after_kill_9_the_next_start_takes_over(migrated: Path) -> None:
    with server(migrated) as first:
        first.end(signal.SIGKILL)
    with server(migrated) as second:
        assert second.get("/healthz")[0] == 200
        second.end(signal.SIGINT)


def test_two_servers_cannot_share_a_data_folder_or_a_port(migrated: Path) -> None:
    with server(migrated) as first:
        again = subprocess.run(
            [sys.executable, "manage.py", "up", "--no-browser", "--port", str(free_port())],
            cwd=paths.ROOT,
            env=environment(migrated),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert again.returncode == 1
        assert f"Another Curfew already uses {migrated} (process {first.process.pid}," in again.stderr
        other = migrated / "other"
        other.mkdir()
        keys.ensure(other, defaults={}, environ={})
        port = subprocess.run(
            [sys.executable, "manage.py", "up", "--no-browser", "--port", str(first.port)],
            cwd=paths.ROOT,
            env=environment(other),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert port.returncode == 1
        assert f"Port {first.port} on 127.0.0.1 is already in use" in port.stderr
        assert not (other / "curfew.sqlite3").exists()
        assert first.get("/healthz")[0] == 200
        first.end(signal.SIGINT)


def test_worker_and_beat_live_inside(migrated: Path) -> None:
    """/readyz turns 200 only when beat has sent the sweep and the worker has run it."""
    with server(migrated) as running:
        deadline = time.monotonic() + 30
        status, body = running.get("/readyz")
        while status != 200 and time.monotonic() < deadline:
            time.sleep(0.2)
            status, body = running.get("/readyz")
        assert status == 200, body
        running.end(signal.SIGINT)
