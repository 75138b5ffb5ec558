"""What the worker's agent does when the platform does not answer: no container starts, or the one that runs is killed."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from agent.transport import Unreachable
from agent.worker import running
from agent.worker.engine import Order
from agent.worker.running import Running

ORDER = {
    "task": "t1", "name": "build", "fence": 1, "image": "busybox:1", "command": [], "environment": {}, "secrets": {},
    "files": {}, "network": True, "resources": {"cpu": 100, "memory": 64, "storage": 0, "gpus": 0},
    "timeout_seconds": 60, "host_mounts": [],
}  # fmt: skip


class Reply:
    status, ok, retry_after = 200, True, 0.0

    def json(self) -> dict[str, Any]:
        return {"cancel": False, "log": {}}


class Platform:
    """Answers, or does not. Keeps what it was asked."""

    def __init__(self) -> None:
        self.there = threading.Event()
        self.asked: list[str] = []

    def request(self, method: str, path: str, **options: Any) -> Reply:
        self.asked.append(path.rsplit("/", 1)[1])
        if not self.there.is_set():
            time.sleep(0.01)
            raise Unreachable("the cable is out")
        return Reply()


class Machine:
    """An engine whose container runs until it is killed."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.running = threading.Event()

    def __getattr__(self, name: str) -> Any:
        def act(*args: Any, **options: Any) -> Any:
            self.did.append(name)
            if name == "start":
                self.running.set()
            if name == "kill":
                self.running.clear()
            if name == "exit":
                return None if self.running.is_set() else running.Exit(137, False, "")
            return {"create": "c1", "figures": {}, "age": 0.0, "log": iter(())}.get(name)

        return act


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(running, "FIRST_LEASE_SECONDS", 0.8)
    monkeypatch.setattr(running, "RENEW_SECONDS", 0.2)
    platform, machine = Platform(), Machine()
    return platform, machine, Running(lambda: platform, machine, Order.read(ORDER), 1.2)  # type: ignore[arg-type]


def test_no_container_starts_before_the_first_renewal(play: Any) -> None:
    platform, machine, run = play
    run.run()
    assert "start" not in machine.did
    assert machine.did[-2:] == ["remove", "give_back"]
    assert set(platform.asked) == {"renew"}


@pytest.mark.alone
def test_it_starts_once_the_platform_answers_and_goes_when_it_falls_silent(play: Any) -> None:
    platform, machine, run = play
    thread = threading.Thread(target=run.run, daemon=True)
    thread.start()
    time.sleep(0.2)
    assert "start" not in machine.did
    platform.there.set()
    assert machine.running.wait(5)
    time.sleep(0.5)
    assert "kill" not in machine.did  # it is renewed
    platform.there.clear()
    silent = time.monotonic()
    while machine.running.is_set():
        time.sleep(0.01)
        assert time.monotonic() - silent < 1.2, "killed before the platform gives the task away"
    thread.join(10)
    assert not thread.is_alive()
    assert "finish" not in platform.asked
