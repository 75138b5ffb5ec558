"""The sandbox cloud as a child process of the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from core import startup
from launcher import paths, runlock

pytestmark = pytest.mark.integration


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/_sandbox/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_it_answers_is_restarted_when_it_dies_and_ends_with_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(startup, "SANDBOX_RESTART_SECONDS", 0.05)
    port = runlock.bind_only("127.0.0.1", 0)
    with startup.Sandbox(port, tmp_path / "logs" / "sandbox.log", tmp_path / "sandbox.state") as sandbox:
        assert sandbox.wait_ready(60)
        assert answers(port)
        first = sandbox.process
        assert first is not None
        first.kill()
        assert eventually(lambda: sandbox.process is not first and answers(port))
        assert [record.message for record in caplog.records] == ["sandbox_ended"]
        second = sandbox.process
    assert second is not None
    assert second.poll() is not None
    assert not answers(port)
    assert f"{port}\n" in (tmp_path / "logs" / "sandbox.log").read_text()


PARENT = """
import sys, time
from pathlib import Path
import django
django.setup()
from core.startup import Sandbox
with Sandbox(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[2] + ".state")) as sandbox:
    print(sandbox.wait_ready(60), flush=True)
    time.sleep(60)
"""


def test_it_does_not_outlive_a_server_that_was_killed(tmp_path: Path) -> None:
    port = runlock.bind_only("127.0.0.1", 0)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(port), str(tmp_path / "sandbox.log")],
        cwd=paths.ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "True\n"
    assert answers(port)
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=10)
    assert eventually(lambda: not answers(port))
