"""Workers and tasks for the tests of the room."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts import services as accounts
from core import clock
from taskrunner import services
from taskrunner.models import Task, Worker
from tests.personas import Persona

START = datetime(2031, 6, 12, 9, 0, tzinfo=UTC)


class Time:
    """`time.go(5)` lets five seconds pass."""

    def __init__(self) -> None:
        self.now = START

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    moving = Time()
    monkeypatch.setattr(clock, "now", lambda: moving.now)
    return moving


@pytest.fixture
def join(alice: Persona) -> Callable[..., Worker]:
    """`join("w1", cpu=4000)`: a worker that has enrolled."""

    def make(name: str = "anvil", persona: Persona = alice, **facts: Any) -> Worker:
        _, text = accounts.create_enrolment_token(actor=persona.actor, kind="worker", name="test")
        worker, _ = services.register(
            enrolment=text, facts={"name": name, "cpu": 4000, "memory": 8192, "storage": 100_000, **facts}
        )
        return worker

    return make


@pytest.fixture
def submit(alice: Persona) -> Callable[..., Task]:
    """`submit("build", priority=5)`: a task of alice's."""

    def make(name: str = "build", persona: Persona = alice, needs: Any = (), **fields: Any) -> Task:
        return services.submit(
            actor=persona.actor, fields={"name": name, "image": "busybox:1", "command": ["true"], **fields}, needs=needs
        )

    return make
