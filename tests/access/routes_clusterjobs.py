"""Routes of clusters that run tasks."""

from __future__ import annotations

from clusterjobs import services
from clusters.enums import Method
from clusters.models import Cluster
from core import clock
from tests.access.matrix import Route, World, api, page

OFFER = {"cores": "2", "memory": "4", "namespace": "curfew-tasks", "open": "on"}


def build(world: World) -> None:
    """A cluster that runs tasks."""
    row = Cluster.objects.create(
        organization_id=world.alice.organization.id, name="batch", method=Method.KUBECONFIG, credentials="sealed",
        created_at=clock.now(),
    )  # fmt: skip
    services.offer(actor=world.alice.actor, cluster_id=row.id, fields={"cpu": 1000, "memory": 1024})
    world.ids["batch"] = str(row.id)


PAGE, POOL = "/workers/clusters/{batch}", "/api/clusters/{batch}/worker-pool"
ROUTES = [
    page("/workers/clusters"),
    page(PAGE, viewer=403, operator=403, owner=200, stranger=404),
    Route("POST", PAGE, 302, 403, 403, 302, 404, OFFER),
    Route("POST", f"{PAGE}/withdraw", 302, 403, 403, 302, 404),
    api("GET", POOL, viewer=200, operator=200, owner=200, stranger=404),
    api("PUT", POOL, viewer=403, operator=403, owner=200, stranger=404, body={"cpu": 2000, "memory": 2048}),
    api("DELETE", POOL, viewer=403, operator=403, owner=204, stranger=404),
]
