"""Routes of automatic on and off, and of workflow runs."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from cloudnodes import runs, services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import Instance, InstanceState
from core import clock
from tests.access.matrix import Route, World, api, page
from tests.personas import make_account


def build(world: World) -> None:
    """A node that is awake, with one workflow run on it."""
    account = make_account(world.alice.organization, number="AUTO", name="Lab")
    instance = Instance(
        provider_id="i-auto",
        name="auto",
        region="us-east-1",
        zone="us-east-1a",
        instance_type="g5.xlarge",
        state=InstanceState.RUNNING,
        node_type="Auto",
        gpu_tier="a10g",
        hourly_cost=Decimal(1),
        labels_source="tags",
    )
    services.sync_discovered(account=account, instances=[instance], at=clock.now() - timedelta(minutes=5))
    node = CloudNode.objects.for_org(account.organization_id).get(provider_id="i-auto")
    runs.begin(actor=world.alice.actor, node=node, workflow_id="w-access", ready=True)
    world.ids.update(auto=str(node.id), auto_account=str(account.id))


def _post(path: str, viewer: int, operator: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, operator, owner, stranger, body or {})


DECLARE = {"account": "{auto_account}", "provider_id": "i-declared", "node_type": "Declared"}
ENSURE = {"id": "{auto}"}
ROUTES = [
    page("/cloud-nodes/automatic"),
    _post("/cloud-nodes/automatic", 403, 403, 302, 302, {"idle_minutes": "30", "auto_start": "on"}),
    page("/cloud-nodes/runs"),
    page("/cloud-nodes/declare"),
    _post("/cloud-nodes/declare", 403, 403, 302, 422, DECLARE),
    page("/cloud-nodes/declare/example.csv"),
    page("/cloud-nodes/drift"),
    page("/cloud-nodes/drift/untold", viewer=403),
    _post("/cloud-nodes/{auto}/withdraw", 403, 403, 302, 404),
    _post("/cloud-nodes/favourites/start", 403, 302, 302, 302),
    _post("/cloud-nodes/{auto}/keep", 403, 302, 302, 404, {"minutes": "30"}),
    _post("/cloud-nodes/{auto}/favourite", 302, 302, 302, 404, {"on": "1"}),
    api("POST", "/api/nodes/ensure", viewer=403, operator=200, owner=200, stranger=404, body=ENSURE),
    api("POST", "/api/nodes/{auto}/keep-alive", viewer=403, operator=200, owner=200, stranger=404),
    api("GET", "/api/nodes/{auto}/rule", viewer=200, operator=200, owner=200, stranger=404),
    api("PUT", "/api/nodes/{auto}/rule", viewer=403, operator=403, owner=200, stranger=404, body={"idle_minutes": 30}),
    api("DELETE", "/api/nodes/{auto}/rule", viewer=403, operator=403, owner=200, stranger=404),
    api("PUT", "/api/nodes/{auto}/favourite", viewer=204, operator=204, owner=204, stranger=404),
    api("DELETE", "/api/nodes/{auto}/favourite", viewer=204, operator=204, owner=204, stranger=404),
    api("GET", "/api/workflow-runs", viewer=200, operator=200, owner=200, stranger=200),
    api("POST", "/api/workflow-runs/w-access/finish", viewer=403, operator=200, owner=200, stranger=404),
]
