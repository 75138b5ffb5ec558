"""What every node provider promises, held against a real Docker engine, moto, an ARM fake and a Cloud Run fake."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloudnodes.providers.base import InstanceState, NodeProvider, Scaling, node_type_slug
from cloudnodes.providers.registry import provider_for
from core.providers import (
    AuthenticationFailed,
    BadAnswer,
    CapacityUnavailable,
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from tests.contract import connections as to
from tests.fakes.arm import SUBSCRIPTION, FakeArm, arm_error
from tests.fakes.aws import SandboxAws
from tests.fakes.dockerd import DockerEngine
from tests.fakes.gcp import PARENT, FakeCloudRun, google_error
from tests.fakes.server import HTML, Answer, Certificates

pytestmark = pytest.mark.integration
RUNNING, STOPPED, GONE = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.GONE


class World(ABC):
    """One cloud of the contract: makes nodes behind the provider's back and opens fresh connections."""

    @abstractmethod
    def provider(self) -> NodeProvider:
        """Return a provider on a new connection, as another process would make it."""

    @abstractmethod
    def make(self, name: str, *, tagged: bool = True) -> str:
        """Make a stopped node, of type FLUX Dev and tier t4 when tagged; returns its provider id."""

    @abstractmethod
    def delete(self, provider_id: str) -> None:
        """Delete a node."""

    @abstractmethod
    def never_was(self) -> str:
        """Return a well-formed id of nothing."""

    @abstractmethod
    def orders(self, verb: str) -> int:
        """Return how many start or stop orders reached the cloud and were accepted as a change."""


class DockerWorld(World):
    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine
        self.client = engine.client()
        self.made: list[str] = []
        self.connections: list[Any] = []

    def provider(self) -> NodeProvider:
        self.connections.append(to.docker_local(self.engine.socket))
        return provider_for(self.connections[-1])

    def make(self, name: str, *, tagged: bool = True) -> str:
        labels = {"curfew.node-type": "FLUX Dev", "curfew.gpu-tier": "T4", "curfew.hourly-cost": "0.25"} if tagged else {"other": "label"}
        # PID 1 ignores signals it has no handler for: the trap makes stopping quick.
        command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"]
        container = self.client.containers.create(
            self.engine.busybox(), command, name=f"curfew-contract-{name}-{time.monotonic_ns()}", labels=labels, network_mode="none"
        )
        self.made.append(container.id)
        return str(container.id)

    def delete(self, provider_id: str) -> None:
        self.client.containers.get(provider_id).remove(force=True)

    def never_was(self) -> str:
        return "f" * 64

    def orders(self, verb: str) -> int:
        kind = {"start": "start", "stop": "die"}[verb]
        events = self.client.api.events(since=0, until=int(time.time()) + 1, decode=True, filters={"event": kind, "container": self.made[0]})
        return len(list(events))

    def close(self) -> None:
        for provider_id in self.made:
            for container in self.client.containers.list(all=True, filters={"id": provider_id}):
                container.remove(force=True)
        self.client.close()
        for connection in self.connections:
            connection.close()


class AwsWorld(World):
    def __init__(self, server: SandboxAws) -> None:
        self.server = server
        server.launch_role("curfew-7d1f0c2b9a", account_id="222222222222")
        self.made: list[str] = []

    def provider(self) -> NodeProvider:
        account = "arn:aws:iam::222222222222:role/CurfewAccess"
        return provider_for(to.aws_role(self.server, region="us-west-2", role_arn=account, aws_account_id="222222222222"))

    def make(self, name: str, *, tagged: bool = True) -> str:
        tags = {"Name": name} | ({"curfew:node-type": "FLUX Dev", "curfew:gpu-tier": "T4", "curfew:hourly-cost": "0.25"} if tagged else {})
        made: str = self.server.call(
            "POST", "/_sandbox/instance", {"account_id": "222222222222", "region": "us-west-2", "instance_type": "g4dn.xlarge", "tags": tags}
        )["instance_id"]
        self.made.append(made)
        return made

    def delete(self, provider_id: str) -> None:
        self.server.call("DELETE", "/_sandbox/instance", {"account_id": "222222222222", "region": "us-west-2", "instance_id": provider_id})

    def never_was(self) -> str:
        return "i-0123456789abcdef0"

    def orders(self, verb: str) -> int:
        action = {"start": "StartInstances", "stop": "StopInstances"}[verb]
        return int(self.server.call("GET", "/_sandbox/changes").get(f"{action}/{self.made[0]}", 0))

    def close(self) -> None:
        for made in self.made:
            self.delete(made)


class ArmWorld(World):
    def __init__(self, server: FakeArm, certificates: Certificates) -> None:
        self.server, self.certificates = server, certificates

    def provider(self) -> NodeProvider:
        return provider_for(to.azure_of(self.server, self.certificates))

    def make(self, name: str, *, tagged: bool = True) -> str:
        tags = {"curfew:node-type": "FLUX Dev", "curfew:gpu-tier": "T4", "curfew:hourly-cost": "0.25"} if tagged else {"other": "tag"}
        return self.server.add(name, tags=tags).id

    def delete(self, provider_id: str) -> None:
        del self.server.machines[provider_id.lower()]

    def never_was(self) -> str:
        return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/studio/providers/Microsoft.Compute/virtualMachines/never-was"

    def orders(self, verb: str) -> int:
        return len([r for r in self.server.log if r.method == "POST" and r.path.endswith({"start": "/start", "stop": "/deallocate"}[verb])])


class CloudRunWorld(World):
    def __init__(self, server: FakeCloudRun) -> None:
        self.server = server

    def provider(self) -> NodeProvider:
        return provider_for(to.gcp_of(self.server))

    def make(self, name: str, *, tagged: bool = True) -> str:
        labels = {"curfew-node-type": "flux-dev", "curfew-gpu-tier": "t4"} if tagged else {"other": "label"}
        annotations = {"curfew.node-type": "FLUX Dev", "curfew.hourly-cost": "0.25"} if tagged else {}
        return self.server.add(name, manual=0, labels=labels, annotations=annotations)

    def delete(self, provider_id: str) -> None:
        del self.server.services[provider_id]

    def never_was(self) -> str:
        return f"{PARENT}/services/never-was"

    def orders(self, verb: str) -> int:
        wanted = {"start": lambda n: n > 0, "stop": lambda n: n == 0}[verb]
        return len([b for _, b in self.server.patches if wanted(b["scaling"].get("manualInstanceCount", 0))])


def wait_for(provider: NodeProvider, provider_id: str, state: InstanceState, seconds: float = 20.0) -> list[InstanceState]:
    """Describe until the node is in `state`; returns every state seen on the way."""
    seen: list[InstanceState] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = provider.describe([provider_id])[provider_id].state
        if not seen or seen[-1] is not now:
            seen.append(now)
        if now is state:
            return seen
        time.sleep(0.1)
    raise AssertionError(f"not {state} after {seconds} s, but {seen}")


def follow(provider: NodeProvider, continuation: str, seconds: float = 20.0) -> ProviderError | None:
    """Check until done; returns the error it ended with."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        progress = provider.check(continuation)
        if progress.done:
            return progress.error
        assert progress.words
        assert progress.error is None
        time.sleep(0.1)
    raise AssertionError(f"not done after {seconds} s")


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


class TestEc2:
    """What only EC2 does."""

    @pytest.fixture
    def node(self, aws: SandboxAws) -> Iterator[tuple[AwsWorld, NodeProvider, str]]:
        world = AwsWorld(aws)
        yield world, world.provider(), world.make("node")
        world.close()

    @pytest.mark.parametrize(
        ("code", "status", "kind", "transient"),
        [
            ("InsufficientInstanceCapacity", 500, CapacityUnavailable, True),
            ("VcpuLimitExceeded", 400, QuotaExceeded, False),
            ("InstanceLimitExceeded", 400, QuotaExceeded, False),
            ("RequestLimitExceeded", 503, Throttled, True),
            ("IncorrectInstanceState", 400, Conflict, True),
            ("UnauthorizedOperation", 403, PermissionDenied, False),
            ("ExpiredToken", 400, AuthenticationFailed, False),
            ("Unsupported", 400, CapacityUnavailable, False),
            ("OperationNotPermitted", 400, InvalidRequest, False),
            ("InternalError", 500, Unreachable, True),
        ],
    )
    def test_refused_start(
        self, node: tuple[AwsWorld, NodeProvider, str], code: str, status: int, kind: type[ProviderError], transient: bool
    ) -> None:
        world, provider, provider_id = node
        world.server.fail("StartInstances", code=code, status=status, times=2, message=f"{code} said AWS")
        began = time.monotonic()
        with pytest.raises(ProviderError) as caught:
            provider.start(provider_id, token="op-1")
        assert (type(caught.value), caught.value.transient) == (kind, transient)
        assert "said AWS" in caught.value.detail
        assert caught.value.next_step
        assert time.monotonic() - began < 5, "a refusal is told within five seconds"

    def test_the_missing_permission_is_named(self, node: tuple[AwsWorld, NodeProvider, str]) -> None:
        world, provider, provider_id = node
        world.server.fail("StopInstances", code="UnauthorizedOperation", status=403,
                          message="You are not authorized to perform this operation. Encoded authorization failure message: xYz1234")
        with pytest.raises(PermissionDenied) as caught:
            provider.stop(provider_id, token="op-1")
        assert caught.value.permission == "ec2:StopInstances"
        assert "xYz1234" not in caught.value.detail

    @pytest.mark.parametrize("body", ["html", "half"])
    def test_a_foreign_answer_is_never_an_empty_list(self, node: tuple[AwsWorld, NodeProvider, str], body: str) -> None:
        world, provider, provider_id = node
        for call in (provider.discover, lambda: provider.describe([provider_id])):
            world.server.fail("DescribeInstances", body=body)
            with pytest.raises(BadAnswer):
                call()

    def test_well_formed_foreign_xml_is_no_empty_list_either(self, node: tuple[AwsWorld, NodeProvider, str]) -> None:
        world, provider, provider_id = node
        world.server.fail("DescribeInstances", body="xhtml")
        with pytest.raises(BadAnswer):
            provider.describe([provider_id])

    def test_a_start_while_stopping_is_a_conflict(self, node: tuple[AwsWorld, NodeProvider, str]) -> None:
        _, provider, provider_id = node
        provider.start(provider_id, token="op-1")
        assert provider.describe([provider_id])[provider_id].state is InstanceState.STARTING
        assert provider.start(provider_id, token="op-1").already
        wait_for(provider, provider_id, RUNNING)
        provider.stop(provider_id, token="op-2")
        assert provider.describe([provider_id])[provider_id].state is InstanceState.STOPPING
        with pytest.raises(Conflict):
            provider.start(provider_id, token="op-3")
        wait_for(provider, provider_id, STOPPED)

    def test_seeded_nodes_answer_once_they_run(self, aws: SandboxAws) -> None:
        provider = provider_for(to.aws_keys(aws))
        nodes = {i.name: i for i in provider.discover()}
        assert {(i.node_type, i.gpu_tier, i.instance_type) for i in nodes.values()} == {
            (node_type, tier, size)
            for node_type in ("FLUX Dev", "FLUX Canny", "SDXL Turbo", "Whisper Large")
            for tier, size in (("t4", "g4dn.xlarge"), ("a10g", "g5.xlarge"), ("a100", "p4d.24xlarge"))
        }
        node = nodes["flux-dev-t4-aws-1111"]
        assert provider.probe(node.health_endpoint) is False
        provider.start(node.provider_id, token="op-1")
        wait_for(provider, node.provider_id, RUNNING)
        assert provider.probe(node.health_endpoint) is True
        provider.stop(node.provider_id, token="op-2")
        wait_for(provider, node.provider_id, STOPPED)

    def test_more_ids_than_one_filter_takes(self, node: tuple[AwsWorld, NodeProvider, str]) -> None:
        _, provider, provider_id = node
        ids = [f"i-{n:017x}" for n in range(450)]
        found = provider.describe([*ids, provider_id])
        assert len(found) == 451
        assert found[provider_id].state is STOPPED
        assert {found[i].state for i in ids} == {GONE}

    def test_another_region_of_the_same_connection(self, aws: SandboxAws) -> None:
        world = AwsWorld(aws)
        node = world.make("west")
        try:
            connection = to.aws_keys(aws, region="us-east-1", **{
                k: v for k, v in aws.credentials()["accounts"][1].items() if k in {"access_key_id", "secret_access_key"}
            }, aws_account_id="222222222222")
            assert [i.provider_id for i in provider_for(connection, region="us-west-2").discover()] == [node]
        finally:
            world.close()


class TestAzure:
    """What only Azure does."""

    @pytest.fixture
    def provider(self, arm: FakeArm, certificates: Certificates) -> NodeProvider:
        return ArmWorld(arm, certificates).provider()

    def test_stopped_but_not_deallocated_is_still_charged(self, arm: FakeArm, provider: NodeProvider) -> None:
        node = arm.add("off", power="stopped", tags={"curfew:node-type": "FLUX Dev"}).id
        assert provider.describe([node])[node].state is InstanceState.STOPPED_BILLING
        stopped = provider.stop(node, token="op-1")
        assert not stopped.already, "only deallocation ends the charges"
        assert follow(provider, stopped.continuation) is None
        assert provider.describe([node])[node].state is STOPPED

    @pytest.mark.parametrize("power", ["starting", "deallocating", "unknown", ""])
    def test_states_in_between(self, arm: FakeArm, provider: NodeProvider, power: str) -> None:
        node = arm.add("node", power=power, tags={"curfew:node-type": "FLUX Dev"}).id
        expected = {"starting": InstanceState.STARTING, "deallocating": InstanceState.STOPPING}.get(power, InstanceState.UNKNOWN)
        assert provider.describe([node])[node].state is expected

    def test_an_order_returns_at_once_and_carries_the_token(self, arm: FakeArm, provider: NodeProvider) -> None:
        arm.operation_seconds = 60
        node = arm.add("node").id
        began = time.monotonic()
        started = provider.start(node, token="7c0a2b6e-0d4f-4a7e-9a53-1f0d7a6b9c11")
        assert time.monotonic() - began < 5
        (order,) = arm.requests("/start")
        assert order.headers["x-ms-client-request-id"] == "7c0a2b6e-0d4f-4a7e-9a53-1f0d7a6b9c11"
        assert not provider.check(started.continuation).done

    @pytest.mark.parametrize(
        ("code", "message", "kind"),
        [
            ("AllocationFailed", "Allocation failed. We do not have sufficient capacity for the requested VM size in this region.", CapacityUnavailable),
            ("ZonalAllocationFailed", "Allocation failed in zone 1.", CapacityUnavailable),
            ("OverconstrainedAllocationRequest", "Required features are not supported.", CapacityUnavailable),
            ("OperationNotAllowed", "Operation could not be completed as it results in exceeding approved standardNCASv3 Cores quota.", QuotaExceeded),
            ("InternalExecutionError", "An internal execution error occurred.", Unreachable),
        ],
    )
    def test_a_start_that_fails_late(self, arm: FakeArm, provider: NodeProvider, code: str, message: str, kind: type[ProviderError]) -> None:
        node = arm.add("node").id
        arm.late_failures["start"] = (code, message)
        error = follow(provider, provider.start(node, token="op-1").continuation)
        assert type(error) is kind
        assert error is not None
        assert message in error.detail
        assert error.next_step
        assert provider.describe([node])[node].state is STOPPED

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (arm_error(409, "Conflict", "Another operation is in progress."), Conflict),
            (arm_error(409, "OperationNotAllowed", "exceeding approved Total Regional Cores quota"), QuotaExceeded),
            (arm_error(409, "AllocationFailed"), CapacityUnavailable),
            (arm_error(409, "SkuNotAvailable"), CapacityUnavailable),
            (arm_error(409, "ScopeLocked"), InvalidRequest),
            (arm_error(429, "TooManyRequests", **{"Retry-After": "9"}), Throttled),
            (arm_error(403, "AuthorizationFailed"), PermissionDenied),
            (arm_error(404, "ResourceNotFound"), NotFound),
            (arm_error(503, "ServerTimeout"), Unreachable),
            (Answer(502, HTML, kind="text/html"), Unreachable),
        ],
        ids=["conflict", "quota", "allocation", "sku", "lock", "throttle", "role", "gone", "fault", "proxy"],
    )
    def test_a_start_that_is_refused(self, arm: FakeArm, provider: NodeProvider, answer: Answer, kind: type[ProviderError]) -> None:
        node = arm.add("node").id
        arm.fail("/start", answer)
        with pytest.raises(ProviderError) as caught:
            provider.start(node, token="op-1")
        assert type(caught.value) is kind
        assert len(arm.requests("/start")) == 1, "no hidden retries"

    def test_the_right_that_lacks_is_named(self, arm: FakeArm, provider: NodeProvider) -> None:
        node = arm.add("node", power="running").id
        arm.fail("/deallocate", arm_error(403, "AuthorizationFailed", "The client does not have authorization."))
        with pytest.raises(PermissionDenied) as caught:
            provider.stop(node, token="op-1")
        assert caught.value.permission == "Microsoft.Compute/virtualMachines/deallocate/action"

    @pytest.mark.parametrize("body", [HTML, '{"value": [{"id"', "{}", "[]"], ids=["html", "half", "empty", "list"])
    def test_a_foreign_answer_is_never_an_empty_list(self, arm: FakeArm, provider: NodeProvider, body: str) -> None:
        arm.add("node", tags={"curfew:node-type": "FLUX Dev"})
        arm.fail("/providers/Microsoft.Compute/virtualMachines", Answer(200, body, kind="application/json"))
        with pytest.raises(BadAnswer):
            provider.discover()

    def test_listings_do_not_grow_with_the_machines_of_interest(self, arm: FakeArm, provider: NodeProvider) -> None:
        arm.page_size = 50
        for n in range(40):
            arm.add(f"node-{n}", tags={"curfew:node-type": "FLUX Dev"})
        assert len(provider.discover()) == 40
        assert len([r for r in arm.log if "virtualMachines" in r.path]) == 2

    @pytest.mark.parametrize("continuation", [
        "nonsense", '{"url": "https://evil.example/subscriptions/x/operations/1"}',
        f'{{"url": "https://evil.example/subscriptions/{SUBSCRIPTION}/providers/x"}}', '{"verb": "start"}',
    ])
    def test_the_token_never_travels_elsewhere(self, arm: FakeArm, provider: NodeProvider, continuation: str) -> None:
        with pytest.raises(InvalidRequest):
            provider.check(continuation)
        assert arm.log == []

    def test_an_operation_that_azure_forgot_is_done(self, arm: FakeArm, provider: NodeProvider) -> None:
        started = provider.start(arm.add("node").id, token="op-1")
        arm.operations.clear()
        assert provider.check(started.continuation).succeeded

    def test_a_vanished_role_is_not_a_vanished_machine(self, arm: FakeArm, provider: NodeProvider) -> None:
        node = arm.add("node").id
        arm.fail("/virtualMachines/node", arm_error(404, "SubscriptionNotFound"))
        with pytest.raises(NotFound):
            provider.describe([node])


class TestCloudRun:
    """What only Cloud Run does."""

    @pytest.fixture
    def provider(self, cloud_run: FakeCloudRun) -> NodeProvider:
        return CloudRunWorld(cloud_run).provider()

    def test_a_service_that_scales_to_zero_is_left_alone(self, cloud_run: FakeCloudRun, provider: NodeProvider) -> None:
        node = cloud_run.add("auto", labels={"curfew-node-type": "flux-dev"})
        instance = provider.describe([node])[node]
        assert (instance.scaling, instance.state, instance.node_type, instance.labels_source) == (Scaling.TO_ZERO, RUNNING, "flux-dev", "labels")
        assert node_type_slug("FLUX Dev") == node_type_slug(instance.node_type)
        for order in (provider.start, provider.stop):
            assert order(node, token="op-1").already
        assert cloud_run.patches == []

    @pytest.mark.parametrize(("manual", "minimum", "mode"), [(3, 0, "MANUAL"), (None, 2, "AUTOMATIC")])
    def test_waking_restores_what_was_before(
        self, cloud_run: FakeCloudRun, provider: NodeProvider, manual: int | None, minimum: int, mode: str
    ) -> None:
        node = cloud_run.add("node", manual=manual, minimum=minimum, annotations={"team": "renders"})
        before = str(cloud_run.services[node].scaling)
        follow(provider, provider.stop(node, token="op-1").continuation)
        wait_for(provider, node, STOPPED)
        paths, body = cloud_run.patches[-1]
        assert paths == ["annotations", "scaling.manual_instance_count", "scaling.scaling_mode"], "never the template"
        assert "curfew.scaling-before-sleep" in body["annotations"], "the snapshot travels with the change"
        follow(provider, provider.start(node, token="op-2").continuation)
        wait_for(provider, node, RUNNING)
        after = cloud_run.services[node]
        assert str(after.scaling) == before
        assert after.scaling.scaling_mode.name == mode
        assert dict(after.annotations) == {"run.googleapis.com/ingress": "all", "team": "renders"}

    def test_a_start_without_a_memory_gives_one_instance(self, cloud_run: FakeCloudRun, provider: NodeProvider) -> None:
        node = cloud_run.add("node", manual=0)
        follow(provider, provider.start(node, token="op-1").continuation)
        assert cloud_run.services[node].scaling.manual_instance_count == 1

    def test_a_change_by_somebody_else_is_a_conflict(self, cloud_run: FakeCloudRun, provider: NodeProvider) -> None:
        node = cloud_run.add("node", manual=1)
        cloud_run.fail("PATCH", google_error(409, "ABORTED", "Conflict for resource: the etag does not match."))
        with pytest.raises(Conflict):
            provider.stop(node, token="op-1")

    @pytest.mark.parametrize(
        ("failure", "kind"),
        [
            ((8, "ZONE_RESOURCE_POOL_EXHAUSTED: The zone does not have enough resources available."), CapacityUnavailable),
            ((8, "Quota exceeded for total allowable count of GPUs per project per region."), QuotaExceeded),
            ((7, "Permission 'run.services.update' denied."), PermissionDenied),
            ((13, "Internal error."), Unreachable),
            ((3, "Revision is not ready."), InvalidRequest),
        ],
        ids=["stockout", "quota", "role", "fault", "invalid"],
    )
    def test_a_start_that_fails_late(
        self, cloud_run: FakeCloudRun, provider: NodeProvider, failure: tuple[int, str], kind: type[ProviderError]
    ) -> None:
        node = cloud_run.add("node", manual=0)
        cloud_run.late_failure = failure
        error = follow(provider, provider.start(node, token="op-1").continuation)
        assert type(error) is kind
        assert error is not None
        assert failure[1] in error.detail

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (google_error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Write requests' and limit 'per minute per region'."), Throttled),
            (google_error(503, "UNAVAILABLE", "ZONE_RESOURCE_POOL_EXHAUSTED"), CapacityUnavailable),
            (google_error(503, "UNAVAILABLE", "The service is currently unavailable."), Unreachable),
            (google_error(403, "PERMISSION_DENIED", "Permission 'run.services.update' denied"), PermissionDenied),
            (google_error(400, "INVALID_ARGUMENT", "scaling: bad"), InvalidRequest),
            (Answer(200, HTML, kind="text/html"), BadAnswer),
            (Answer(200, '{"name": "projects', kind="application/json"), BadAnswer),
        ],
        ids=["throttle", "stockout", "fault", "role", "invalid", "html", "half"],
    )
    def test_a_start_that_is_refused(
        self, cloud_run: FakeCloudRun, provider: NodeProvider, answer: Answer, kind: type[ProviderError]
    ) -> None:
        node = cloud_run.add("node", manual=0)
        cloud_run.fail("PATCH", answer)
        with pytest.raises(ProviderError) as caught:
            provider.start(node, token="op-1")
        assert type(caught.value) is kind
        assert len(cloud_run.requests("PATCH")) == 1, "no hidden retries"

    def test_an_empty_answer_does_not_make_services_vanish(self, cloud_run: FakeCloudRun, provider: NodeProvider) -> None:
        nodes = [cloud_run.add(f"node-{n}", manual=0) for n in range(5)]
        cloud_run.fail(f"GET /v2/{PARENT}/services", Answer(200, {}))
        assert {i.state for i in provider.describe(nodes).values()} == {STOPPED}

    @pytest.mark.parametrize("continuation", ["projects/other/locations/us-central1/operations/1", "operations/1", "../../x"])
    def test_operations_of_others_are_not_asked_for(self, cloud_run: FakeCloudRun, provider: NodeProvider, continuation: str) -> None:
        with pytest.raises(InvalidRequest):
            provider.check(continuation)
        assert cloud_run.log == []


@pytest.mark.docker
class TestDocker:
    """What only Docker does."""

    @pytest.fixture
    def docker(self, docker_engine: DockerEngine) -> Iterator[DockerWorld]:
        world = DockerWorld(docker_engine)
        yield world
        world.close()

    def test_a_paused_container_still_holds_its_memory(self, docker: DockerWorld) -> None:
        node, provider = docker.make("node"), docker.provider()
        provider.start(node, token="op-1")
        docker.client.containers.get(node).pause()
        instance = provider.describe([node])[node]
        assert (instance.state, instance.state_reason) == (RUNNING, "paused")
        provider.stop(node, token="op-2")
        assert provider.describe([node])[node].state is STOPPED

    def test_a_container_without_its_gpu(self, docker: DockerWorld) -> None:
        from docker.types import DeviceRequest

        container = docker.client.containers.create(
            docker.engine.busybox(), ["sleep", "9"], network_mode="none", labels={"curfew.node-type": "FLUX Dev"},
            device_requests=[DeviceRequest(driver="nvidia", count=-1, capabilities=[["gpu"]])],
        )
        docker.made.append(container.id)
        with pytest.raises(CapacityUnavailable) as caught:
            docker.provider().start(container.id, token="op-1")
        assert (caught.value.code, caught.value.transient) == ("no_gpu", False)

    def test_readiness_is_asked_of_the_service_itself(self, docker: DockerWorld) -> None:
        from tests.fakes.server import free_port

        port = free_port()
        container = docker.client.containers.create(
            docker.engine.busybox(), ["httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/bin"], network_mode="host", stop_signal="SIGKILL",
            labels={"curfew.node-type": "FLUX Dev", "curfew.port": str(port), "curfew.health-path": "/sh"},
        )
        docker.made.append(container.id)
        provider = docker.provider()
        assert provider.describe([container.id])[container.id].health_endpoint == "", "a stopped container has no address"
        provider.start(container.id, token="op-1")
        instance = provider.describe([container.id])[container.id]
        assert instance.endpoint == f"http://127.0.0.1:{port}"
        assert instance.health_endpoint == f"http://127.0.0.1:{port}/sh"
        deadline = time.monotonic() + 10
        while not provider.probe(instance.health_endpoint) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert provider.probe(instance.health_endpoint) is True
        assert provider.probe(f"http://127.0.0.1:{port}/missing") is False
        assert provider.probe(f"tcp://127.0.0.1:{port}") is True
        provider.stop(container.id, token="op-2")
        assert provider.probe(instance.health_endpoint) is False


def test_a_connection_without_cloud_nodes_is_refused() -> None:
    class Market:
        credentials: Any = type("C", (), {"provider": "vast"})()

        def verify(self) -> Any:
            raise AssertionError

    with pytest.raises(InvalidRequest):
        provider_for(Market())

