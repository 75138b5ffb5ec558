"""What only Azure does."""

from __future__ import annotations

import time

import pytest

from cloudnodes.providers.base import InstanceState, NodeProvider
from core.providers import (
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
from tests.contract.worlds import (
    STOPPED,
    ArmWorld,
    follow,
)
from tests.fakes.arm import SUBSCRIPTION, FakeArm, arm_error
from tests.fakes.server import HTML, Answer, Certificates

pytestmark = pytest.mark.integration


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
        expected = {"starting": InstanceState.STARTING, "deallocating": InstanceState.STOPPING}.get(
            power, InstanceState.UNKNOWN
        )
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
            (
                "AllocationFailed",
                "Allocation failed. We do not have sufficient capacity for the requested VM size in this region.",
                CapacityUnavailable,
            ),
            ("ZonalAllocationFailed", "Allocation failed in zone 1.", CapacityUnavailable),
            ("OverconstrainedAllocationRequest", "Required features are not supported.", CapacityUnavailable),
            (
                "OperationNotAllowed",
                "Operation could not be completed as it results in exceeding approved standardNCASv3 Cores quota.",
                QuotaExceeded,
            ),
            ("InternalExecutionError", "An internal execution error occurred.", Unreachable),
        ],
    )
    def test_a_start_that_fails_late(
        self, arm: FakeArm, provider: NodeProvider, code: str, message: str, kind: type[ProviderError]
    ) -> None:
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
    def test_a_start_that_is_refused(
        self, arm: FakeArm, provider: NodeProvider, answer: Answer, kind: type[ProviderError]
    ) -> None:
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

    @pytest.mark.parametrize(
        "continuation",
        [
            "nonsense",
            '{"url": "https://evil.example/subscriptions/x/operations/1"}',
            f'{{"url": "https://evil.example/subscriptions/{SUBSCRIPTION}/providers/x"}}',
            '{"verb": "start"}',
        ],
    )
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

    @pytest.mark.parametrize("status", [403, 404, 407])
    def test_a_stray_page_is_not_a_vanished_machine(self, arm: FakeArm, provider: NodeProvider, status: int) -> None:
        node = arm.add("node").id
        arm.fail("/virtualMachines/node", Answer(status, HTML, kind="text/html"))
        with pytest.raises(BadAnswer):
            provider.describe([node])
