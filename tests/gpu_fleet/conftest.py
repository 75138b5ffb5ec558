"""A clock that tests move, a fake Vast.ai in its time, and a worker that runs what is due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts import selectors as accounts
from accounts.models import CloudAccount
from core import clock
from gpu_fleet import services
from gpu_fleet.models import Machine, Rental
from gpu_fleet.providers.vast import VastProvider
from gpu_fleet.providers.vast_http import Pace, VastApi
from operations import runner
from operations.models import Operation
from tests.fakes.vast import Direct, VastWorld
from tests.fakes.vast.world import KEY
from tests.personas import Persona, make_account

START = datetime(2031, 6, 12, 9, 0, tzinfo=UTC)


class Time:
    """`time.go(5)` lets five seconds pass, for the database, the fake and the pace alike."""

    def __init__(self) -> None:
        self.now = START

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def seconds(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    moving = Time()
    monkeypatch.setattr(clock, "now", lambda: moving.now)
    return moving


class Fleet:
    """A rig: the fake, its transport, agents that speak for running rentals, and a worker."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.world = VastWorld(lambda: time.seconds)
        self.transport = Direct(self.world)
        self.pace = Pace(clock=lambda: time.seconds, sleep=time.go)
        self.provider = VastProvider(VastApi(KEY, self.transport, self.pace))
        self.outcomes: list[str] = []
        self.speaking = True
        self.evidence: dict[str, Any] = {}
        self.jobs: dict[str, list[dict[str, Any]]] = {}
        self.replies: dict[int, dict[str, Any]] = {}
        self.tokens: dict[int, str] = {}
        self.next_beat: dict[int, float] = {}
        self.paced = False

    def agents(self) -> None:
        """The agent of every running rental of ours sends a heartbeat; `paced`, only as often as it was last told."""
        if not self.speaking:
            return
        for instance in self.world.running():
            if self.paced and self.time.seconds < self.next_beat.get(instance.id, 0.0):
                continue
            given = self.tokens.get(instance.id) or instance.env.get("CURFEW_TOKEN", "")
            token = accounts.agent_token(given) if given else None
            if token is None or not instance.host.fate.login:
                continue
            reply = services.record_beat(token=token, body=self.body(instance.id))
            self.replies[instance.id] = reply
            self.next_beat[instance.id] = self.time.seconds + float(reply["interval"])
            if reply.get("token"):
                self.tokens[instance.id] = reply["token"]

    def body(self, number: int) -> dict[str, Any]:
        quiet = {
            "seconds": 30, "gpus": [0.0], "cpu": 1.0, "disk": 0.0, "net": 0.0, "ssh": 0, "kernels": 0, "jobs": 0,
        }  # fmt: skip
        return {
            "instance_id": f"vast_{number}",
            "version": "1",
            "host_keys": ["ssh-ed25519 AAAA"],
            "evidence": {**quiet, **self.evidence},
            "jobs": self.jobs.get(str(number), []),
        }

    def once(self) -> None:
        self.outcomes += [runner.run_operation(i) for i in runner.due_ids()]

    def until_done(self, most: int = 1500, step: float = 1.0) -> None:
        for _ in range(most):
            self.agents()
            self.once()
            services.reap()
            if not Operation.objects.all_orgs().filter(status__in=["queued", "running"]).exists():
                return
            self.time.go(step)
        raise AssertionError(f"it never ended: {self.outcomes[-5:]}")

    def settle(self, seconds: int = 120) -> None:
        """Time for the reaper."""
        for _ in range(seconds // 4):
            services.reap()
            services.sweep_late()
            self.time.go(4)


@pytest.fixture
def fleet(time: Time, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    rig = Fleet(time)
    monkeypatch.setattr("gpu_fleet.gateway.open_provider", lambda account: rig.provider)
    monkeypatch.setattr("gpu_fleet.gateway.login", lambda rental, key: "")
    monkeypatch.setattr(runner._LeaseKeeper, "start", lambda self: None)
    monkeypatch.setattr(runner.random, "uniform", lambda low, high: high)
    return rig


@pytest.fixture
def account(alice: Persona) -> CloudAccount:
    return make_account(alice.organization, provider="vast", number="4711", method="api_key", region="")


@pytest.fixture
def deploy(alice: Persona, account: CloudAccount) -> Callable[..., Machine]:
    """Ask for a machine: `deploy("ember", strategy="cheapest")`."""

    def ask(name: str = "ember", **wanted: Any) -> Machine:
        machine, _ = services.create_machine(actor=alice.actor, name=name, account_id=account.id, wanted=wanted)
        return machine

    return ask


def lanes_of(machine: Machine) -> list[Rental]:
    return list(Rental.objects.for_org(machine.organization_id).filter(machine=machine).order_by("round", "host_id"))
