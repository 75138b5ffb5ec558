"""Routes of clusters and of their agents."""

from __future__ import annotations

from clusters import services
from clusters.inventory import install
from clusters.models import Cluster, FoundCluster
from core import clock
from tests.access.matrix import Route, World, api, page
from tests.personas import make_account

ID = "/api/clusters/{cluster}"


def build(world: World) -> None:
    """Two clusters, one of which was heard."""
    first = services.create_cluster(actor=world.alice.actor, name="lark-prod").cluster
    second = services.create_cluster(actor=world.alice.actor, name="lark-dev").cluster
    Cluster.objects.for_org(world.alice.organization).filter(id=first.id).update(state="live")
    account = make_account(world.alice.organization, number="444455556666")
    found = FoundCluster.objects.for_org(world.alice.organization).create(
        organization=world.alice.organization,
        account=account,
        external_id="arn:aws:eks:us-east-1:444455556666:cluster/found",
        name="found",
        region="us-east-1",
        seen_at=clock.now(),
    )
    world.ids.update(
        cluster=str(first.id), other_cluster=str(second.id), found=str(found.id), search_account=str(account.id)
    )


def _post(path: str, viewer: int, operator: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, operator, owner, stranger, body or {})


def _read(path: str) -> Route:
    return api("GET", path, viewer=200, operator=200, owner=200, stranger=404)


NO_ORDER = "6f1c1f0e-0000-4000-8000-000000000000"

ROUTES = [
    page("/clusters/"),
    page("/clusters/overview"),
    page("/clusters/{cluster}/", stranger=404),
    page("/clusters/{cluster}/waiting", stranger=404),
    page("/clusters/compare?id={cluster}&id={other_cluster}", stranger=404),
    page("/clusters/upgrade?id={cluster}", viewer=403, operator=403, stranger=404),
    page("/clusters/{cluster}/edit", viewer=403, operator=403, stranger=404),
    _post("/clusters/{cluster}/reinstall", 403, 403, 200, 404),
    _post("/clusters/{cluster}/groups", 403, 404, 404, 404, {"kind": "asg", "name": "x", "low": "0", "high": "1"}),
    _post("/clusters/{cluster}/edit", 403, 403, 302, 404, {"name": "lark-prod"}),
    page("/clusters/connect", viewer=403, operator=403),
    page("/clusters/connect/agent", viewer=403, operator=403),
    page("/clusters/connect/kubeconfig", viewer=403, operator=403),
    page("/clusters/connect/discover", viewer=403, operator=403),
    page("/clusters/connect/found/{found}", viewer=403, operator=403, stranger=404),
    _post("/clusters/connect/discover", 403, 403, 302, 404, {"account": "{search_account}", "regions": "us-east-1"}),
    _post("/clusters/connect/found/{found}", 403, 403, 200, 404, {"name": "found", "way": "agent"}),
    _post("/clusters/{cluster}/preflight", 403, 403, 400, 404),
    page("/clusters/{cluster}/disconnect", viewer=403, operator=403, stranger=404),
    _post("/clusters/{cluster}/disconnect", 403, 403, 302, 404, {"name": "lark-prod"}),
    _post("/clusters/{cluster}/sync", 403, 302, 302, 404),
    _post("/clusters/{cluster}/maintenance", 403, 302, 302, 404, {"on": "1"}),
    _post("/clusters/bulk", 403, 302, 302, 302, {"id": "{cluster}", "action": "sync"}),
    _post("/clusters/connect/agent", 403, 403, 200, 200, {"name": "fresh"}),
    Route("GET", "/install/cluster/cfe_nothing.yaml", 404, 404, 404, 404, 404),
    Route("GET", "/charts/", 200, 200, 200, 200, 200),
    Route("GET", "/charts/index.yaml", 200, 200, 200, 200, 200),
    Route("GET", f"/charts/{install.chart().file_name}", 200, 200, 200, 200, 200),
    api("POST", "/api/agent/cluster/heartbeat", viewer=403, operator=403, owner=403, stranger=403),
    api("POST", f"/api/agent/cluster/orders/{NO_ORDER}", viewer=403, operator=403, owner=403, stranger=403),
    api("POST", "/api/agent/cluster/snapshot", viewer=403, operator=403, owner=403, stranger=403),
    api("GET", "/api/clusters", viewer=200, operator=200, owner=200, stranger=200),
    api("POST", "/api/clusters", viewer=403, operator=403, owner=201, stranger=201, body={"name": "fresh"}),
    api("GET", "/api/clusters/overview", viewer=200, operator=200, owner=200, stranger=200),
    api(
        "POST",
        "/api/clusters/compare",
        viewer=422,
        operator=422,
        owner=422,
        stranger=422,
        body={"ids": "{cluster}"},
    ),
    api("POST", "/api/clusters/bulk", viewer=422, operator=422, owner=422, stranger=422, body={"ids": "{cluster}"}),
    _read(ID),
    *(
        _read(f"{ID}/{name}")
        for name in (
            "nodes",
            "node-groups",
            "namespaces",
            "workloads",
            "alerts",
            "history",
            "efficiency",
            "bin-packing",
            "fleet-composition",
            "spot-readiness",
            "stability",
            "compliance",
            "drift",
            "activity",
        )
    ),
    api("PATCH", ID, viewer=403, operator=403, owner=200, stranger=404, body={"team": "Lights"}),
    api("DELETE", ID, viewer=403, operator=403, owner=204, stranger=404),
    api(
        "POST",
        f"{ID}/node-groups",
        viewer=403,
        operator=404,
        owner=404,
        stranger=404,
        body={"kind": "asg", "name": "x", "low": 0, "high": 1},
    ),
    api("POST", f"{ID}/sync", viewer=403, operator=202, owner=202, stranger=404),
    api("POST", f"{ID}/maintenance", viewer=403, operator=200, owner=200, stranger=404, body={"on": True}),
]
