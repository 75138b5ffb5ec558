"""Routes of schedules."""

from __future__ import annotations

from cloudnodes import services as cloudnodes
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import Instance, InstanceState
from hibernation import services
from hibernation.schedule import PRESETS
from tests.access.matrix import Route, World, api, page
from tests.personas import make_account

GRID = PRESETS["office_hours"].grid.to_json()
NEW = {"name": "Nights", "zone": "Europe/Berlin", "grid": GRID}
PAINTED = {"name": "Weekdays", "zone": "UTC", "week": ",".join(GRID), "enabled": "on"}


def build(world: World) -> None:
    """A schedule that one sleeping node follows."""
    account = make_account(world.alice.organization, number="222233334444")
    seen = Instance(
        "i-0fedcba9876543210",
        "scheduled-node",
        "us-east-1",
        "us-east-1a",
        "g5.xlarge",
        InstanceState.STOPPED,
        node_type="SDXL",
        gpu_tier="a10g",
        labels_source="tags",
    )
    cloudnodes.sync_discovered(account=account, instances=[seen])
    node = CloudNode.objects.for_org(world.alice.organization).get(account=account)
    schedule = services.save_schedule(actor=world.alice.actor, **{**NEW, "name": "Office hours"})
    services.assign(actor=world.alice.actor, schedule_id=schedule.id, resources=[("cloud_node", node.id)])
    world.ids.update(schedule=str(schedule.id), scheduled=str(node.id))


def _post(path: str, viewer: int, operator: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, operator, owner, stranger, body or {})


ONE = "/api/hibernation/schedules/{schedule}"
NODE = "/api/hibernation/cloud_node/{scheduled}"
ROUTES = [
    Route("GET", "/hibernation/snooze/forged", 404, 404, 404, 404, 404),
    Route("POST", "/hibernation/snooze/forged", 404, 404, 404, 404, 404),
    page("/hibernation/"),
    page("/hibernation/assign"),
    _post("/hibernation/assign", 403, 403, 302, 404, {"schedule": "{schedule}", "resources": "cloud_node:{scheduled}"}),
    page("/hibernation/history"),
    page("/hibernation/savings"),
    page("/hibernation/why/cloud_node/{scheduled}/", stranger=404),
    _post("/hibernation/resource/cloud_node/{scheduled}/switch", 403, 302, 302, 404, {"order": "wake", "for": "1h"}),
    page("/hibernation/{schedule}/restore.json", stranger=404),
    _post("/hibernation/{schedule}/days", 403, 403, 302, 404, {"first": "2031-06-09", "kind": "holiday"}),
    page("/hibernation/new", viewer=403, stranger=200),
    _post("/hibernation/new", 403, 403, 302, 302, PAINTED),
    page("/hibernation/{schedule}/", stranger=404),
    _post("/hibernation/{schedule}/", 403, 403, 302, 404, PAINTED),
    _post("/hibernation/{schedule}/preview", 200, 200, 200, 404, PAINTED),
    _post("/hibernation/{schedule}/switch", 403, 302, 302, 404, {"order": "wake", "for": "1h"}),
    _post("/hibernation/{schedule}/resources", 403, 403, 302, 404, {"remove": "cloud_node:{scheduled}"}),
    _post("/hibernation/{schedule}/holidays", 403, 403, 302, 404, {"country": "DE"}),
    _post("/hibernation/{schedule}/delete", 403, 403, 302, 404),
    api("GET", "/api/hibernation/schedules", viewer=200, operator=200, owner=200, stranger=200),
    api("POST", "/api/hibernation/schedules", viewer=403, operator=403, owner=201, stranger=201, body=NEW),
    api("GET", ONE, viewer=200, operator=200, owner=200, stranger=404),
    api("PUT", ONE, viewer=403, operator=403, owner=200, stranger=404, body=NEW),
    api("DELETE", ONE, viewer=403, operator=403, owner=204, stranger=404),
    api("GET", f"{ONE}/preview", viewer=200, operator=200, owner=200, stranger=404),
    api("GET", f"{ONE}/calendar", viewer=200, operator=200, owner=200, stranger=404),
    api("PUT", f"{ONE}/calendar", viewer=403, operator=403, owner=200, stranger=404, body={"calendar": {}}),
    api("POST", f"{ONE}/holidays/import", viewer=403, operator=403, owner=200, stranger=404, body={"country": "DE"}),
    api("POST", f"{ONE}/resources", viewer=403, operator=403, owner=200, stranger=404, body={"add": []}),
    api("POST", f"{NODE}/sleep", viewer=403, operator=202, owner=202, stranger=404, body={"for": "1h"}),
    api("POST", f"{NODE}/wake", viewer=403, operator=202, owner=202, stranger=404, body={"for": "1h"}),
    api(
        "POST",
        f"/api/hibernation/cloud_node/{'0f8fad5b-d9cb-469f-a165-70867728950e'}/wake",
        viewer=403,
        operator=404,
        owner=404,
        stranger=404,
    ),
]
