"""What every node provider promises, held against a real Docker engine, moto, an ARM fake and a Cloud Run fake."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloudnodes.providers.base import InstanceState, NodeProvider, Scaling
from cloudnodes.providers.registry import provider_for
from core.providers import (
    InvalidRequest,
    NotFound,
)
from tests.contract.worlds import (
    GONE,
    RUNNING,
    STOPPED,
    ArmWorld,
    AwsWorld,
    CloudRunWorld,
    DockerWorld,
    World,
    follow,
    wait_for,
)

pytestmark = pytest.mark.integration


@pytest.fixture(params=["docker", "aws", "azure", "gcp"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    value = request.getfixturevalue
    if request.param == "docker":
        docker = DockerWorld(value("docker_engine"))
        yield docker
        docker.close()
    elif request.param == "aws":
        aws = AwsWorld(value("aws"))
        yield aws
        aws.close()
    elif request.param == "azure":
        yield ArmWorld(value("arm"), value("certificates"))
    else:
        yield CloudRunWorld(value("cloud_run"))


class TestNodeProviderContract:
    """One suite, four clouds."""

    def test_it_keeps_the_protocol(self, world: World) -> None:
        assert isinstance(world.provider(), NodeProvider)

    def test_discover_lists_tagged_nodes_over_all_pages(self, world: World) -> None:
        tagged = {world.make(f"node-{n}") for n in range(3)}
        plain = {world.make(f"plain-{n}", tagged=False) for n in range(2)}
        provider = world.provider()
        found = {i.provider_id: i for i in provider.discover()}
        assert tagged <= found.keys()
        assert not plain & found.keys()
        every = {i.provider_id for i in provider.discover(include_untagged=True)}
        assert tagged | plain <= every

    def test_a_node_is_described_whole(self, world: World) -> None:
        node = world.make("node")
        (instance,) = (i for i in world.provider().discover() if i.provider_id == node)
        assert (instance.node_type, instance.gpu_tier, instance.state) == ("FLUX Dev", "t4", STOPPED)
        assert str(instance.hourly_cost) == "0.25"
        assert instance.name
        assert instance.instance_type
        assert instance.labels_source in {"tags", "labels", "annotations"}
        assert instance.launched_at is None
        assert instance.scaling is Scaling.MANUAL
        assert instance == world.provider().describe([node])[node], "discover and describe must agree"

    def test_untagged_nodes_say_so(self, world: World) -> None:
        node = world.make("plain", tagged=False)
        instance = world.provider().describe([node])[node]
        assert (instance.node_type, instance.labels_source, instance.hourly_cost) == ("", "none", None)

    def test_start_runs_it(self, world: World) -> None:
        node = world.make("node")
        provider = world.provider()
        started = provider.start(node, token="op-1")
        assert not started.already
        assert started.words
        assert follow(provider, started.continuation) is None
        seen = wait_for(provider, node, RUNNING)
        assert GONE not in seen
        instance = provider.describe([node])[node]
        if instance.launched_at is not None:
            assert abs(datetime.now(UTC) - instance.launched_at) < timedelta(minutes=2)

    def test_stop_ends_the_charges(self, world: World) -> None:
        node = world.make("node")
        provider = world.provider()
        follow(provider, provider.start(node, token="op-1").continuation)
        wait_for(provider, node, RUNNING)
        stopped = provider.stop(node, token="op-2")
        assert not stopped.already
        assert follow(provider, stopped.continuation) is None
        seen = wait_for(provider, node, STOPPED)
        assert InstanceState.STOPPED_BILLING not in seen

    def test_repeated_orders_change_nothing(self, world: World) -> None:
        node = world.make("node")
        provider = world.provider()
        assert provider.stop(node, token="op-0").already
        follow(provider, provider.start(node, token="op-1").continuation)
        wait_for(provider, node, RUNNING)
        for _ in range(3):
            again = world.provider().start(node, token="op-1")
            assert again.already
            assert again.words
        assert provider.describe([node])[node].state is RUNNING
        assert world.orders("start") == 1
        follow(provider, provider.stop(node, token="op-2").continuation)
        wait_for(provider, node, STOPPED)
        assert world.provider().stop(node, token="op-2").already
        assert world.orders("stop") == 1

    def test_another_process_can_follow(self, world: World) -> None:
        node = world.make("node")
        started = world.provider().start(node, token="op-1")
        other = world.provider()
        assert follow(other, started.continuation) is None
        wait_for(other, node, RUNNING)
        assert other.check(started.continuation).done, "following again after the end is harmless"

    def test_missing_nodes_are_gone(self, world: World) -> None:
        kept, deleted = world.make("kept"), world.make("deleted")
        world.delete(deleted)
        found = world.provider().describe([kept, deleted, world.never_was()])
        assert [found[i].state for i in (kept, deleted, world.never_was())] == [STOPPED, GONE, GONE]
        assert deleted not in {i.provider_id for i in world.provider().discover(include_untagged=True)}

    def test_many_are_described_in_one_go(self, world: World) -> None:
        nodes = [world.make(f"node-{n}") for n in range(5)]
        found = world.provider().describe([*nodes, world.never_was(), nodes[0]])
        assert {i: d.state for i, d in found.items()} == dict.fromkeys(nodes, STOPPED) | {world.never_was(): GONE}

    def test_nothing_asked_nothing_described(self, world: World) -> None:
        assert world.provider().describe([]) == {}

    @pytest.mark.parametrize("verb", ["start", "stop"])
    def test_orders_for_nothing_are_not_found(self, world: World, verb: str) -> None:
        with pytest.raises(NotFound) as caught:
            getattr(world.provider(), verb)(world.never_was(), token="op-1")
        assert not caught.value.transient
        assert caught.value.next_step

    @pytest.mark.parametrize("wrong", ["", "../../etc", "https://evil.example/x"])
    def test_an_id_of_another_kind_never_reaches_anything(self, world: World, wrong: str) -> None:
        with pytest.raises((NotFound, InvalidRequest)):
            world.provider().start(wrong, token="op-1")

    def test_an_empty_continuation_is_done(self, world: World) -> None:
        assert world.provider().check("").succeeded

    def test_nothing_to_probe_is_unknown(self, world: World) -> None:
        assert world.provider().probe("") is None


def test_a_connection_without_cloud_nodes_is_refused() -> None:
    class Market:
        credentials: Any = type("C", (), {"provider": "vast"})()

        def verify(self) -> Any:
            raise AssertionError

    with pytest.raises(InvalidRequest):
        provider_for(Market())
