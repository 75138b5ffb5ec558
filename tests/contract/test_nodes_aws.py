"""What only EC2 does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cloudnodes.providers.base import InstanceState, NodeProvider
from cloudnodes.providers.registry import provider_for
from core.providers import (
    AuthenticationFailed,
    BadAnswer,
    CapacityUnavailable,
    Conflict,
    InvalidRequest,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from tests.contract import connections as to
from tests.contract.worlds import (
    GONE,
    RUNNING,
    STOPPED,
    AwsWorld,
    wait_for,
)
from tests.fakes.aws import SandboxAws

pytestmark = pytest.mark.integration


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
        self,
        node: tuple[AwsWorld, NodeProvider, str],
        code: str,
        status: int,
        kind: type[ProviderError],
        transient: bool,
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
        world.server.fail(
            "StopInstances",
            code="UnauthorizedOperation",
            status=403,
            message="You are not authorized to perform this operation. Encoded authorization failure message: xYz1234",
        )
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
            connection = to.aws_keys(
                aws,
                region="us-east-1",
                **{
                    k: v
                    for k, v in aws.credentials()["accounts"][1].items()
                    if k in {"access_key_id", "secret_access_key"}
                },
                aws_account_id="222222222222",
            )
            assert [i.provider_id for i in provider_for(connection, region="us-west-2").discover()] == [node]
        finally:
            world.close()
