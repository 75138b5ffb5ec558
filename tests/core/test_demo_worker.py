"""The worker beside the demo: invited until it has joined, and gone when the demo ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core import demo_worker


def test_it_is_invited_until_it_has_joined(tmp_path: Path) -> None:
    assert not demo_worker.is_wanted(tmp_path)
    demo_worker.invite(tmp_path, "first")
    (tmp_path / "demo-worker").mkdir()  # it was started, but no engine answered
    demo_worker.invite(tmp_path, "second")
    assert (tmp_path / demo_worker.FILE).read_text() == "second"
    assert (tmp_path / demo_worker.FILE).stat().st_mode & 0o077 == 0
    (tmp_path / "demo-worker" / "token.json").write_text("{}")
    demo_worker.invite(tmp_path, "third")
    assert (tmp_path / demo_worker.FILE).read_text() == "second"


def test_it_ends_with_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Child:
        def __init__(self, command: list[str], **_: object) -> None:
            started.append(command)

        def terminate(self) -> None:
            started.append(["ended"])

        def wait(self, seconds: float) -> None:
            pass

    monkeypatch.setattr(demo_worker.subprocess, "Popen", Child)
    (tmp_path / "logs").mkdir()
    demo_worker.invite(tmp_path, "cfe_1")
    with demo_worker.beside(tmp_path, "http://127.0.0.1:8000", "unix:///an/engine.sock"):
        assert started[0][:4] == [sys.executable, "-m", "agent", "worker"]
        assert started[0][started[0].index("--enrol") + 1] == "cfe_1"
        assert started[0][started[0].index("--docker") + 1] == "unix:///an/engine.sock"
        assert len(started) == 1
    assert started[1:] == [["ended"]]
