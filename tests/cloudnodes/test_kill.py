"""`kill -9` at every write and every provider call of a start and a stop; a fresh runner goes on from what was committed.

A kill is a BaseException: nothing of ours catches it, open transactions roll back, the lease is left to run out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from cloudnodes import services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import InstanceState
from costs.models import Interval, UsageEvent
from operations import runner
from operations import services as operations
from operations.models import Operation
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import Time, Worker, nodes_of
from tests.cloudnodes.test_observe import fresh
from tests.personas import Persona

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
S = InstanceState
WRITES = ("INSERT", "UPDATE", "DELETE")
# The boundaries are the same on both databases: SQLite dies at each of them, PostgreSQL at every fourth.
STEP = 4 if connection.vendor == "postgresql" else 1


class Killed(BaseException):
    """The process ends here."""


class Killer:
    """Counts boundaries (before and after each write and each provider call) and kills at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.seen, self.where = at, 0, ""

    def boundary(self, where: str) -> None:
        self.seen += 1
        if self.seen == self.at:
            self.where = where
            raise Killed(where)

    def query(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        write = sql.lstrip().upper().startswith(WRITES)
        if write:
            self.boundary(f"before {sql[:60]}")
        answer = execute(sql, params, many, context)
        if write:
            self.boundary(f"after {sql[:60]}")
        return answer


@contextmanager
def armed(cloud: MemoryCloud, at: int) -> Iterator[Killer]:
    killer = Killer(at)
    cloud.before = lambda verb: killer.boundary(f"before {verb}")
    cloud.after = lambda verb: killer.boundary(f"after {verb}")
    try:
        with connection.execute_wrapper(killer.query):
            yield killer
    finally:
        cloud.before = cloud.after = lambda verb: None


def run_with_kill(worker: Worker, cloud: MemoryCloud, account_id: Any, at: int) -> str:
    """Run what is due until it has ended, die once at boundary `at`, let the lease run out, go on. The poller polls on.

    Returns where it died, "" when there were fewer boundaries.
    """
    died = ""
    for _ in range(200):
        if not died:
            with armed(cloud, at) as killer:
                try:
                    worker.once()
                except Killed as kill:
                    died = str(kill)
            at -= killer.seen
        else:
            runner.reap_expired()
            worker.once()
        if not Operation.objects.all_orgs().filter(status__in=["queued", "running"]).exists():
            return died
        worker.time.go(2)
        services.poll_account(account_id=account_id)
    raise AssertionError(f"never ended after {died}")


def check_ledger(node: CloudNode, cloud: MemoryCloud, now: Any) -> None:
    """As many awake stretches as the provider ran it, each as long as it ran, within a look; no event twice."""
    awake = list(Interval.objects.all_orgs().filter(resource_id=node.id, phase="awake").order_by("started_at"))
    runs = [state for _, state in cloud.machines[node.provider_id].history].count(S.RUNNING)
    assert len(awake) == runs
    ledger = sum(((i.ended_at or now) - i.started_at).total_seconds() for i in awake)
    assert abs(ledger - cloud.billed_seconds(node.provider_id, now)) <= 4
    keys = list(UsageEvent.objects.all_orgs().filter(resource_id=node.id).order_by("id").values_list("key", flat=True))
    assert [int(k.split(":")[0]) for k in keys] == list(range(1, len(keys) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("follow", [False, True], ids=["described", "followed"])
def test_killed_at_every_boundary_of_a_start(
    follow: bool, account: Any, cloud: MemoryCloud, scan: Callable, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.boot, cloud.health, cloud.follow = 5.0, 3.0, follow
    places = []
    for number in range(1, 500, STEP):
        name = f"i-{number}"
        cloud.machines.clear()
        cloud.tokens.clear()
        cloud.add(name, health_endpoint=f"http://10.0.0.1/{name}")
        services.sync_discovered(account=account, instances=cloud.discover(), at=time.now)
        node = next(n for n in nodes_of(account) if n.provider_id == name)
        operation = services.request_start(actor=olga.actor, node_id=node.id)
        died = run_with_kill(worker, cloud, account.id, number)
        operation.refresh_from_db()
        row = fresh(node)
        assert (operation.status, row.observed_state, row.desired_state) == ("succeeded", "awake", "awake"), died
        assert cloud.starts[name] == 1, f"started {cloud.starts[name]} times after {died}"
        assert cloud.tokens == [str(operation.id)], f"ordered again after {died}"
        check_ledger(node, cloud, time.now)
        CloudNode.objects.all_orgs().filter(id=node.id).update(gone_at=time.now)
        if not died:
            break
        places.append(died)
    assert len(places) > 30 // STEP
    assert STEP > 1 or any(p == "after start" for p in places)
    assert STEP > 1 or any(p.startswith("after INSERT") for p in places)


@pytest.mark.slow
def test_killed_at_every_boundary_of_a_stop(
    account: Any, cloud: MemoryCloud, scan: Callable, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.halt = 5.0
    places = []
    for number in range(1, 500, STEP):
        name = f"i-{number}"
        cloud.machines.clear()
        cloud.add(name, S.RUNNING)
        services.sync_discovered(account=account, instances=cloud.discover(), at=time.now)
        node = next(n for n in nodes_of(account) if n.provider_id == name)
        time.go(30)
        operation = services.request_stop(actor=olga.actor, node_id=node.id)
        died = run_with_kill(worker, cloud, account.id, number)
        operation.refresh_from_db()
        row = fresh(node)
        assert (operation.status, row.observed_state, row.desired_state) == ("succeeded", "asleep", "asleep"), died
        assert cloud.stops[name] == 1, died
        check_ledger(node, cloud, time.now)
        CloudNode.objects.all_orgs().filter(id=node.id).update(gone_at=time.now)
        if not died:
            break
        places.append(died)
    assert len(places) > 20 // STEP


@pytest.mark.slow
def test_killed_at_every_boundary_of_a_cancelled_start(
    account: Any, cloud: MemoryCloud, scan: Callable, olga: Persona, worker: Worker, time: Time
) -> None:
    """Whatever the moment, a cancelled start ends asleep, and nothing is started twice."""
    cloud.boot = 20.0
    for number in range(1, 500, STEP):
        name = f"i-{number}"
        cloud.machines.clear()
        cloud.add(name)
        services.sync_discovered(account=account, instances=cloud.discover(), at=time.now)
        node = next(n for n in nodes_of(account) if n.provider_id == name)
        operation = services.request_start(actor=olga.actor, node_id=node.id)
        worker.once()
        operations.cancel_operation(actor=olga.actor, operation_id=operation.id)
        died = run_with_kill(worker, cloud, account.id, number)
        operation.refresh_from_db()
        assert (operation.status, fresh(node).observed_state, fresh(node).desired_state) == (
            "cancelled",
            "asleep",
            "asleep",
        ), died
        assert (cloud.starts[name], cloud.machines[name].instance.state) == (1, S.STOPPED), died
        check_ledger(node, cloud, time.now)
        CloudNode.objects.all_orgs().filter(id=node.id).update(gone_at=time.now)
        if not died:
            return
    raise AssertionError("boundaries never ended")
