"""What a cloud refuses is on the page within five seconds: the cause in words, and the next step; nothing is started twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape, unescape

import pytest
from django.test import Client

from cloudnodes import services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import NodeProvider
from operations import runner
from operations.models import Operation
from tests.contract.test_nodes_azure import arm_error
from tests.contract.test_nodes_gcp import google_error
from tests.contract.worlds import ArmWorld, AwsWorld, CloudRunWorld, World
from tests.fakes.arm import FakeArm
from tests.fakes.aws import SandboxAws
from tests.fakes.gcp import FakeCloudRun
from tests.fakes.server import HTML, Answer, Certificates
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.integration, pytest.mark.django_db]
LIMIT = 5.0


@pytest.fixture(autouse=True)
def plain_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the thread that keeps a lease: it would write beside the test's transaction."""
    monkeypatch.setattr(runner._LeaseKeeper, "start", lambda self: None)


class Shown:
    """Starts a node of a world through the ordinary services, and reads its page."""

    def __init__(self, world: World, provider: str, alice: Persona, client: Client, patch: pytest.MonkeyPatch) -> None:
        self.clouds: NodeProvider = world.provider()
        patch.setattr("cloudnodes.gateway.open_provider", lambda account, region="": self.clouds)
        self.provider_id = world.make("node")
        self.account = make_account(alice.organization, provider=provider, number=f"FAULT-{provider}")
        found = [i for i in self.clouds.discover() if i.provider_id == self.provider_id]
        services.sync_discovered(account=self.account, instances=found)
        self.node = CloudNode.objects.for_org(alice.organization).get(provider_id=self.provider_id)
        self.alice, self.client = alice, client

    def start(self) -> tuple[Operation, str, float]:
        """The operation, the page's text once it shows trouble, and the seconds that took."""
        services.request_start(actor=self.alice.actor, node_id=self.node.id)
        began = time.monotonic()
        while time.monotonic() - began < LIMIT:
            for operation_id in runner.due_ids():
                runner.run_operation(operation_id)
            operation = Operation.objects.for_org(self.alice.organization).get(resource_id=self.node.id)
            if operation.error:
                break
            time.sleep(0.05)
        seconds = time.monotonic() - began
        page = unescape(self.client.get(f"/cloud-nodes/{self.node.id}/").content.decode())
        return operation, page, seconds


def check(shown: Shown, *words: str) -> None:
    operation, page, seconds = shown.start()
    assert seconds < LIMIT
    assert operation.error, "nothing was said"
    assert operation.error in page
    grid = unescape(shown.client.get("/cloud-nodes/").content.decode())
    if operation.is_final:
        assert operation.next_step
        assert operation.next_step in page
        assert operation.error in grid
    else:
        assert "trying again" in grid
    for word in words:
        assert word.lower() in page.lower(), escape(word)


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("InsufficientInstanceCapacity", 500, ""),
        ("VcpuLimitExceeded", 400, "limit"),
        ("RequestLimitExceeded", 503, ""),
        ("ExpiredToken", 400, "credentials"),
        ("UnauthorizedOperation", 403, "StartInstances"),
        ("half", 200, ""),
        ("html", 200, ""),
    ],
)
def test_aws(
    aws: SandboxAws,
    alice: Persona,
    client_of: Callable[[Persona], Client],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    status: int,
    words: str,
) -> None:
    world = AwsWorld(aws)
    shown = Shown(world, "aws", alice, client_of(alice), monkeypatch)
    broken = {"body": code} if code in ("half", "html") else {"code": code, "message": f"{code} said AWS"}
    aws.fail("StartInstances", status=status, times=3, **broken)
    try:
        check(shown, words)
    finally:
        world.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (arm_error(409, "AllocationFailed"), ""),
        (arm_error(409, "OperationNotAllowed", "exceeding approved Total Regional Cores quota"), "quota"),
        (arm_error(429, "TooManyRequests", **{"Retry-After": "9"}), ""),
        (arm_error(403, "AuthorizationFailed"), ""),
        (arm_error(401, "ExpiredAuthenticationToken"), "credentials"),
        (Answer(502, HTML, kind="text/html"), ""),
    ],
    ids=["allocation", "quota", "throttle", "role", "expired", "proxy"],
)
def test_azure(
    arm: FakeArm,
    certificates: Certificates,
    alice: Persona,
    client_of: Callable[[Persona], Client],
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    words: str,
) -> None:
    shown = Shown(ArmWorld(arm, certificates), "azure", alice, client_of(alice), monkeypatch)
    arm.fail("/start", answer)
    check(shown, words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (google_error(503, "UNAVAILABLE", "ZONE_RESOURCE_POOL_EXHAUSTED"), ""),
        (google_error(403, "PERMISSION_DENIED", "Permission 'run.services.update' denied"), "run.services.update"),
        (google_error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Write requests'."), ""),
        (Answer(200, '{"name": "projects', kind="application/json"), ""),
    ],
    ids=["stockout", "role", "throttle", "half"],
)
def test_cloud_run(
    cloud_run: FakeCloudRun,
    alice: Persona,
    client_of: Callable[[Persona], Client],
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    words: str,
) -> None:
    shown = Shown(CloudRunWorld(cloud_run), "gcp", alice, client_of(alice), monkeypatch)
    cloud_run.fail("PATCH", answer)
    check(shown, words)
