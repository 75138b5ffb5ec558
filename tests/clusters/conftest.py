"""A connected cluster, its token, prices, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts import selectors as accounts
from accounts.models import AgentToken
from clusters import services
from clusters.models import Cluster
from core import clock
from costs.models import CatalogPrice
from operations import runner
from operations.models import Operation
from tests.clusters.report import Reporter, cluster
from tests.personas import Persona

START = datetime(2031, 6, 12, 9, 0, tzinfo=UTC)
PRICES = {"m5.large": "0.107", "m5.xlarge": "0.214", "m5.2xlarge": "0.428", "c5.2xlarge": "0.384", "r5.xlarge": "0.282"}


class Time:
    """`time.go(5)` lets five seconds pass."""

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
def prices(db: None) -> None:
    """List prices of the fake cluster's types in its region, on-demand and spot."""
    for kind, hourly in PRICES.items():
        for lifecycle, factor in (("on_demand", Decimal(1)), ("spot", Decimal("0.3"))):
            CatalogPrice.objects.create(
                provider="aws",
                region="eu-west-1",
                instance_type=kind,
                lifecycle=lifecycle,
                hourly=Decimal(hourly) * factor,
                source="tests",
                as_of=date(2026, 1, 1),
            )


class Joined:
    """A cluster with its agent's token; the agent's messages go straight into the services."""

    def __init__(self, made: services.Connected, reporter: Reporter) -> None:
        self.made, self.reporter = made, reporter
        self.id = made.cluster.id
        found = accounts.agent_token(made.token)
        assert found is not None
        self.token: AgentToken = found

    @property
    def row(self) -> Cluster:
        row: Cluster = Cluster.objects.all_orgs().get(id=self.id)
        return row

    def send(self, body: bytes) -> tuple[int, dict[str, Any]]:
        return services.ingest_snapshot(token=self.token, body=body)

    def beat(self, **more: Any) -> tuple[int, dict[str, Any]]:
        return services.record_heartbeat(token=self.token, body=self.reporter.beat(**more))

    def report(self, **more: Any) -> Cluster:
        """A full report and its figures."""
        status, answer = self.send(self.reporter.full(**more))
        assert status == 200, answer
        services.refigure(cluster_id=self.id)
        return self.row


@pytest.fixture
def join(alice: Persona) -> Callable[..., Joined]:
    """Connect a cluster: `join("prod", nodes=3, pods=20)`."""

    def connect(
        name: str = "lark-prod", *, nodes: int = 3, pods: int = 20, who: Persona = alice, **facts: Any
    ) -> Joined:
        made = services.create_cluster(actor=who.actor, name=name, **facts)
        return Joined(made, Reporter(cluster(nodes, pods), uid=f"uid-of-{name}"))

    return connect


@pytest.fixture
def api_of() -> Callable[[Persona], APIClient]:
    """By session: bearer tokens are judged by the wall clock."""

    def make(persona: Persona) -> APIClient:
        client = APIClient()
        client.force_login(persona.user)
        return client

    return make


def run_group_change() -> Operation:
    """Run the change of a node group that was ordered."""
    asked: Operation = Operation.objects.all_orgs().get(kind="cluster.group", finished_at=None)
    runner.run_operation(asked.id)
    asked.refresh_from_db()
    return asked
