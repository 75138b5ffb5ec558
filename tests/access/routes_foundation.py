"""Routes of people, cloud accounts, operations, cloud nodes, money, the log and the home page."""

from __future__ import annotations

from uuid import uuid4

from accounts import services as accounts
from accounts.models import Membership
from audit.models import AuditEntry
from cloudnodes import services as cloudnodes
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import Instance, InstanceState
from core.actor import Actor
from operations.enums import Status
from operations.services import finish, request_operation
from tests.access.matrix import Route, World, api, page
from tests.personas import make_account

MISSING = str(uuid4())


def build(world: World) -> None:
    """An account with one node asleep, a failed operation, an API key, a member."""
    organization = world.alice.organization
    account = make_account(organization)
    seen = Instance(
        "i-0123456789abcdef0",
        "flux-dev-a10g",
        "us-east-1",
        "us-east-1a",
        "g5.xlarge",
        InstanceState.STOPPED,
        node_type="FLUX Dev",
        gpu_tier="a10g",
        labels_source="tags",
    )
    cloudnodes.sync_discovered(account=account, instances=[seen])
    node = CloudNode.objects.for_org(organization).get()
    system = Actor.system("tests", organization.id)
    operation = request_operation(
        actor=system, kind="account.scan", resource_kind="cloud_account", resource_id=account.id, resource_label=account.name
    )
    finish(operation, Status.FAILED, error_code="tests", error="made to fail")
    key, _ = accounts.create_api_key(actor=world.alice.actor, name="ci", scopes=["nodes.view"])
    entry = AuditEntry.objects.for_org(organization).order_by("seq").first()
    assert entry is not None
    member = Membership.objects.for_org(organization).get(user=world.bob.user)
    world.ids.update(
        account=str(account.id),
        node=str(node.id),
        operation=str(operation.id),
        entry=str(entry.id),
        key=str(key.id),
        member=str(member.id),
    )


def _post(path: str, viewer: int, operator: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    """A form post of a page: nobody is sent to the log-in."""
    return Route("POST", path, 302, viewer, operator, owner, stranger, body or {})


ROUTES = [
    page("/"),
    page("/search?q=flux"),
    page("/operations/"),
    page("/operations/{operation}/", stranger=404),
    _post("/operations/{operation}/retry", 403, 403, 302, 404),
    _post("/operations/{operation}/cancel", 403, 403, 409, 404),
    page("/cloud-nodes/"),
    page("/cloud-nodes/dialog"),
    page("/cloud-nodes/{node}/", stranger=404),
    _post("/cloud-nodes/{node}/wake", 403, 302, 302, 404),
    _post("/cloud-nodes/{node}/sleep", 403, 302, 302, 404),
    _post("/sleepables/cloud_node/{node}/wake", 403, 302, 302, 404),
    page("/costs/"),
    page("/audit/", viewer=403, operator=403),
    page("/audit/{entry}/", viewer=403, operator=403, stranger=404),
    page("/settings/"),
    page("/settings/cloud-integrations"),
    page("/settings/cloud-integrations/{account}", stranger=404),
    page("/settings/members"),
    page("/settings/security"),
    api("GET", "/api/operations", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", "/api/operations/{operation}", viewer=200, operator=200, owner=200, stranger=404),
    api("POST", "/api/operations/{operation}/retry", viewer=403, operator=403, owner=202, stranger=404),
    api("POST", "/api/operations/{operation}/cancel", viewer=403, operator=403, owner=409, stranger=404),
    api("GET", "/budgetguard/api/cloud-nodes/status", viewer=200, operator=200, owner=200, stranger=200),
    api("POST", "/budgetguard/api/cloud-nodes/start", viewer=403, operator=202, owner=202, stranger=404, body={"provider": "aws", "instance_name": "flux-dev-a10g"}),
    api("GET", "/api/client/accounts", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", "/api/client/accounts/{account}", viewer=200, operator=200, owner=200, stranger=404),
    api("GET", "/api/audit", viewer=403, operator=403, owner=200, stranger=200),
    api("GET", "/api/audit/{entry}", viewer=403, operator=403, owner=200, stranger=404),
]
