"""A clock that tests move, an account on the cloud in memory, and a runner that runs what is due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from rest_framework.test import APIClient

from accounts.models import CloudAccount
from cloudnodes import services
from cloudnodes.models import CloudNode
from core import clock
from operations import runner
from operations.models import Operation
from tests.cloudnodes.cloud import MemoryCloud
from tests.personas import Persona, make_account

START = datetime(2031, 6, 12, 9, 0, tzinfo=UTC)


class Time:
    """The clock of a test: `time.go(5)` lets five seconds pass."""

    def __init__(self) -> None:
        self.now = START

    def go(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    moving = Time()
    monkeypatch.setattr(clock, "now", lambda: moving.now)
    return moving


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, time: Time) -> MemoryCloud:
    """The provider of every account."""
    memory = MemoryCloud()
    monkeypatch.setattr("cloudnodes.gateway.open_provider", lambda account, region="": memory)
    return memory


@pytest.fixture
def account(alice: Persona) -> CloudAccount:
    return make_account(alice.organization)


@pytest.fixture
def scan(account: CloudAccount, cloud: MemoryCloud) -> Callable[[], list[CloudNode]]:
    """Scan the account and return its nodes by provider id."""

    def run() -> list[CloudNode]:
        services.sync_discovered(account=account, instances=cloud.discover(), at=clock.now())
        return nodes_of(account)

    return run


def nodes_of(account: CloudAccount) -> list[CloudNode]:
    rows = CloudNode.objects.for_org(account.organization_id).filter(account=account)
    return list(rows.select_related("node_type").order_by("provider_id"))


@pytest.fixture
def node(cloud: MemoryCloud, scan: Callable[[], list[CloudNode]]) -> CloudNode:
    """One stopped EC2 node at $1.20 an hour."""
    cloud.add()
    return scan()[0]


@pytest.fixture
def api_of() -> Callable[[Persona], APIClient]:
    """By session: bearer tokens are judged by the wall clock, and these tests live in another year."""

    def make(persona: Persona) -> APIClient:
        client = APIClient()
        client.force_login(persona.user)
        return client

    return make


class Worker:
    """Runs operations as a worker would: what is due, then time passes, until all have ended."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.outcomes: list[str] = []

    def once(self) -> list[str]:
        outcomes = [runner.run_operation(i) for i in runner.due_ids()]
        self.outcomes += outcomes
        return outcomes

    def until_done(self, step: float = 1.0, most: int = 2000) -> None:
        for _ in range(most):
            self.once()
            if not Operation.objects.all_orgs().filter(status__in=["queued", "running"]).exists():
                return
            self.time.go(step)
        raise AssertionError("the operation never ended")


@pytest.fixture
def worker(time: Time, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Without lease-keeping threads: they would write beside the test's transaction."""
    monkeypatch.setattr(runner._LeaseKeeper, "start", lambda self: None)
    monkeypatch.setattr(runner.random, "uniform", lambda low, high: high)
    return Worker(time)
