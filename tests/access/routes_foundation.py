"""Routes of people, cloud accounts, operations, cloud nodes, money, the log and the home page."""

from __future__ import annotations

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
from tests.personas import make_account, make_person


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
    node = CloudNode.objects.for_org(organization).exclude(provider_id="i-auto").get()
    system = Actor.system("tests", organization.id)
    operation = request_operation(
        actor=system,
        kind="account.scan",
        resource_kind="cloud_account",
        resource_id=account.id,
        resource_label=account.name,
    )
    finish(operation, Status.FAILED, error_code="tests", error="made to fail")
    key, _ = accounts.create_api_key(actor=world.alice.actor, name="ci", scopes=["nodes.view"])
    entry = AuditEntry.objects.for_org(organization).order_by("seq").first()
    assert entry is not None
    member = Membership.objects.for_org(organization).get(user=make_person("dora", organization, "viewer").user)
    world.ids.update(
        theirs=str(world.mallory.organization.id),
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
    Route("GET", "/login", 200, 302, 302, 302, 302),
    Route("GET", "/signup", 200, 302, 302, 302, 302),
    _post("/logout", 302, 302, 302, 302),
    _post("/switch-organization", 404, 404, 404, 302, {"organization": "{theirs}"}),
    page("/welcome"),
    page("/welcome/method", viewer=403, operator=403),
    page("/welcome/connect/aws/keys", viewer=403, operator=403),
    _post("/welcome/sandbox", 403, 403, 404, 404),
    page("/welcome/done/{account}", stranger=404),
    _post("/welcome/skip", 302, 302, 302, 302),
    _post("/settings/profile", 302, 302, 302, 302, {"profile-name": "Somebody"}),
    _post(
        "/settings/organization", 403, 403, 302, 302, {"organization-name": "Renamed", "organization-timezone": "UTC"}
    ),
    _post("/settings/appearance", 302, 302, 302, 302, {"appearance-theme": "dark"}),
    page("/settings/cloud-integrations/connect", viewer=403, operator=403),
    _post("/settings/cloud-integrations/connect/sandbox", 403, 403, 404, 404),
    page("/settings/cloud-integrations/connect/aws/keys", viewer=403, operator=403),
    _post("/settings/cloud-integrations/{account}/credentials", 403, 403, 422, 404),
    _post("/settings/cloud-integrations/{account}/rename", 403, 403, 302, 404, {"name": "New name"}),
    _post("/settings/cloud-integrations/{account}/resync", 403, 403, 409, 404),
    _post("/settings/cloud-integrations/{account}/verify", 403, 403, 409, 404),
    page("/settings/cloud-integrations/{account}/disconnect", viewer=403, operator=403, stranger=404),
    _post("/settings/cloud-integrations/{account}/disconnect", 403, 403, 302, 404),
    _post("/settings/members/{member}/role", 403, 403, 302, 404, {"role": "operator"}),
    _post("/settings/members/{member}/remove", 403, 403, 302, 404),
    page("/settings/api-keys", viewer=403, operator=403),
    _post("/settings/api-keys/{key}/revoke", 403, 403, 302, 404),
    Route("GET", "/install/aws-role/not-a-token.yaml", 404, 404, 404, 404, 404),
    _post("/cloud-nodes/apply", 403, 302, 302, 404, {"wake": "{node}"}),
    page("/cloud-nodes/all?do=start"),
    _post("/cloud-nodes/refresh", 302, 302, 302, 302),
    _post("/cloud-nodes/{node}/cancel", 302, 302, 302, 404),
    _post("/cloud-nodes/{node}/look", 302, 302, 302, 404),
    _post("/cloud-nodes/{node}/dismiss", 403, 302, 302, 404),
    page("/audit/check", viewer=403, operator=403),
    page("/costs/meter"),
    page("/settings/budgets"),
    _post("/settings/budgets", 403, 403, 302, 302, {"amount": "25"}),
    *(
        Route("POST", f"/api/auth/{name}", 422, 422, 422, 422, 422, api=True)
        for name in ("signup", "register", "token", "login", "token/refresh")
    ),
    api("POST", "/api/auth/logout", viewer=204, operator=204, owner=204, stranger=204),
    api("GET", "/api/auth/profile", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", "/api/auth/me", viewer=200, operator=200, owner=200, stranger=200),
    api(
        "POST",
        "/api/client/accounts/role-setup",
        viewer=403,
        operator=403,
        owner=201,
        stranger=201,
        body={"provider": "aws", "aws_account_id": "123456789012", "region": "us-east-1"},
    ),
    api(
        "POST",
        "/api/client/accounts/connect",
        viewer=403,
        operator=403,
        owner=422,
        stranger=422,
        body={
            "provider": "aws",
            "method": "keys",
            "name": "Lab",
            "region": "atlantis-1",
            "access_key_id": "AKIAEXAMPLE",
            "secret_access_key": "x" * 40,
        },
    ),
    api("GET", "/api/client/accounts/{account}/status", viewer=200, operator=200, owner=200, stranger=404),
    api("POST", "/api/client/accounts/{account}/verify", viewer=403, operator=403, owner=409, stranger=404),
    api("POST", "/api/client/accounts/{account}/resync", viewer=403, operator=403, owner=409, stranger=404),
    api(
        "PATCH",
        "/api/client/accounts/{account}",
        viewer=403,
        operator=403,
        owner=200,
        stranger=404,
        body={"name": "New name"},
    ),
    api("DELETE", "/api/client/accounts/{account}", viewer=403, operator=403, owner=204, stranger=404),
    api(
        "POST",
        "/budgetguard/api/cloud-nodes/stop",
        viewer=403,
        operator=202,
        owner=202,
        stranger=404,
        body={"provider": "aws", "instance_name": "flux-dev-a10g"},
    ),
    api(
        "POST",
        "/budgetguard/api/cloud-nodes/apply",
        viewer=403,
        operator=202,
        owner=202,
        stranger=404,
        body={"on": ["flux-dev-a10g"], "off": []},
    ),
    api(
        "POST",
        "/budgetguard/api/cost-estimate",
        viewer=200,
        operator=200,
        owner=200,
        stranger=404,
        body={"node_type": "FLUX Dev", "provider": "aws", "params": {}},
    ),
    api(
        "POST",
        "/budgetguard/api/cost-actual",
        viewer=200,
        operator=200,
        owner=200,
        stranger=404,
        body={"workflow_id": "w1", "node_type": "FLUX Dev", "provider": "aws"},
    ),
    api("GET", "/budgetguard/api/spend/today", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", "/api/costs/summary", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", "/api/costs/intervals", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", "/api/costs/budget", viewer=200, operator=200, owner=200, stranger=200),
    api("PUT", "/api/costs/budget", viewer=403, operator=403, owner=200, stranger=200, body={"daily": "25.00"}),
    api("GET", "/api/audit/verify", viewer=403, operator=403, owner=200, stranger=200),
    api("GET", "/api/operations", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", "/api/operations/{operation}", viewer=200, operator=200, owner=200, stranger=404),
    api("POST", "/api/operations/{operation}/retry", viewer=403, operator=403, owner=202, stranger=404),
    api("POST", "/api/operations/{operation}/cancel", viewer=403, operator=403, owner=409, stranger=404),
    api("GET", "/budgetguard/api/cloud-nodes/status", viewer=200, operator=200, owner=200, stranger=200),
    api(
        "POST",
        "/budgetguard/api/cloud-nodes/start",
        viewer=403,
        operator=202,
        owner=202,
        stranger=404,
        body={"provider": "aws", "instance_name": "flux-dev-a10g"},
    ),
    api("GET", "/api/client/accounts", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", "/api/client/accounts/{account}", viewer=200, operator=200, owner=200, stranger=404),
    api("GET", "/api/audit", viewer=403, operator=403, owner=200, stranger=200),
    api("GET", "/api/audit/{entry}", viewer=403, operator=403, owner=200, stranger=404),
]

EXEMPT = {
    "account/": "django-allauth's own pages about the signed-in person alone (password, second factor, sessions); "
    "tests/accounts covers our overrides",
}
