"""The whole way over the real SDKs: real Docker, moto over HTTP, and the fakes of ARM and Cloud Run, by the wall clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from accounts.models import CloudAccount
from cloudnodes import discovery, rules, services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import NodeProvider
from costs.models import Interval, UsageEvent
from operations import runner
from operations import services as operations
from operations.models import Operation
from tests.cloudnodes.test_kill import Killed
from tests.cloudnodes.test_observe import fresh
from tests.contract.conftest import arm, aws, aws_server, certificates, cloud_run, docker_engine  # noqa: F401  fixtures
from tests.contract.worlds import ArmWorld, AwsWorld, CloudRunWorld, DockerWorld, World
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration, pytest.mark.slow]
CLOUDS = ("docker", "aws", "azure", "gcp")


@pytest.fixture(params=CLOUDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    value = request.getfixturevalue
    if request.param == "docker":
        docker = DockerWorld(value("docker_engine"))
        yield docker
        docker.close()
    elif request.param == "aws":
        amazon = AwsWorld(value("aws"))
        yield amazon
        amazon.close()
    elif request.param == "azure":
        yield ArmWorld(value("arm"), value("certificates"))
    else:
        yield CloudRunWorld(value("cloud_run"))


@pytest.fixture
def node(
    world: World, request: pytest.FixtureRequest, olga: Persona, monkeypatch: pytest.MonkeyPatch
) -> tuple[CloudNode, str]:
    """A stopped node, made behind our back and found by a scan, and its provider id."""
    provider_name = request.node.callspec.params["world"]
    account: CloudAccount = make_account(olga.organization, provider_name, "555566667777", region="us-west-2")
    provider: NodeProvider = world.provider()
    monkeypatch.setattr("cloudnodes.gateway.open_provider", lambda account, region="": provider)
    monkeypatch.setattr(discovery, "provider_for", lambda connection, region="": provider)
    monkeypatch.setattr(runner._LeaseKeeper, "start", lambda self: None)
    made = world.make("flux")
    counted = discovery.discover(account, object())
    assert counted["new_cloud_nodes"] >= 1
    return CloudNode.objects.all_orgs().select_related("node_type").get(provider_id=made), made


def run(seconds: float = 60.0) -> None:
    """A worker by the wall clock, until nothing is under way."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for operation_id in runner.due_ids():
            runner.run_operation(operation_id)
        if not Operation.objects.all_orgs().filter(status__in=["queued", "running"]).exists():
            return
        time.sleep(0.2)
    raise AssertionError([(o.kind, o.status, o.step, o.error) for o in Operation.objects.all_orgs()])


def test_wake_and_sleep(node: tuple[CloudNode, str], world: World, olga: Persona) -> None:
    row, _made = node
    assert (row.observed_state, row.node_type.name, row.gpu_tier, str(row.hourly_cost)) == (
        "asleep",
        "FLUX Dev",
        "t4",
        "0.25000000",
    )
    began = time.time()
    services.request_start(actor=olga.actor, node_id=row.id)
    services.request_start(actor=olga.actor, node_id=row.id)
    run()
    woke = time.time()
    assert (fresh(row).observed_state, fresh(row).desired_state) == ("awake", "awake")
    assert world.orders("start") == 1
    services.request_stop(actor=olga.actor, node_id=row.id)
    run()
    assert (fresh(row).observed_state, fresh(row).still_billing) == ("asleep", False)
    assert world.orders("stop") == 1
    awake = Interval.objects.all_orgs().get(resource_id=row.id, phase="awake")
    assert began - 1 <= awake.started_at.timestamp() <= woke + 1
    assert awake.ended_at is not None
    least = rules.MINIMUM.get(row.provider, timedelta(0)).total_seconds()
    assert awake.ended_at.timestamp() <= max(time.time(), awake.started_at.timestamp() + least)
    keys = UsageEvent.objects.all_orgs().filter(resource_id=row.id).order_by("id").values_list("key", flat=True)
    assert list(keys) == ["1:asleep", "2:awake", "3:asleep"]


def test_killed_after_the_order(
    node: tuple[CloudNode, str], world: World, olga: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the provider's answer and our commit; the successor orders nothing again."""
    row, _made = node
    from cloudnodes import executors

    give = executors.NodeStart.give
    died: list[int] = []

    def dying(self: Any, provider: NodeProvider, node: CloudNode, token: str) -> Any:
        answer = give(self, provider, node, token)
        if not died:
            died.append(1)
            raise Killed("after the order")
        return answer

    monkeypatch.setattr(executors.NodeStart, "give", dying)
    operation = services.request_start(actor=olga.actor, node_id=row.id)
    with pytest.raises(Killed):
        runner.run_operation(operation.id)
    Operation.objects.all_orgs().filter(id=operation.id).update(lease_expires_at="2000-01-01T00:00:00Z")
    assert runner.reap_expired() == 1
    run()
    assert fresh(row).observed_state == "awake"
    assert world.orders("start") == 1


def test_cancelled_start_ends_asleep(node: tuple[CloudNode, str], world: World, olga: Persona) -> None:
    row, _made = node
    operation = services.request_start(actor=olga.actor, node_id=row.id)
    runner.run_operation(operation.id)
    operation.refresh_from_db()
    if operation.is_final:
        pytest.skip("it was awake before anybody could cancel")
    operations.cancel_operation(actor=olga.actor, operation_id=operation.id)
    run()
    assert (fresh(row).observed_state, fresh(row).desired_state) == ("asleep", "asleep")


def test_deleted_behind_our_back(node: tuple[CloudNode, str], world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from cloudnodes import rules

    row, made = node
    monkeypatch.setattr(rules, "GONE_AFTER", timedelta(milliseconds=50))
    if isinstance(world, AwsWorld):
        world.made.remove(made)
    world.delete(made)
    for _ in range(2):
        services.poll_account(account_id=row.account_id)
        time.sleep(0.1)
    assert fresh(row).gone_at is not None
    assert not Interval.objects.all_orgs().filter(resource_id=row.id, ended_at=None).exists()
