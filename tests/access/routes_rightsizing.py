"""Routes of rightsizing: a report with one recommendation, and one change that was kept."""

from __future__ import annotations

from uuid import UUID, uuid4

from clusters.models import Cluster
from core import clock
from policies.rightsizing.models import SizeChange, SizedWorkload, SizeReport
from tests.access.matrix import Route, World, api, page
from tests.policies.rightsizing.conftest import row, size


def build(world: World) -> None:
    org, now = world.alice.organization, clock.now()
    cluster = Cluster.objects.for_org(org).get(id=UUID(world.ids["cluster"]))
    found = row(cluster, "shop/Deployment/web", app=(size(2000, 250), size(None)))
    SizeReport.objects.for_org(org).update_or_create(
        cluster=cluster,
        defaults={"organization": org, "at": now, "profile": "p95", "rows": [found], "workloads": 1, "changes": 1},
    )
    workload = SizedWorkload.objects.for_org(org).create(
        id=found["id"], organization=org, cluster=cluster, key=found["key"]
    )
    empty: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    change = SizeChange.objects.for_org(org).create(
        organization=org,
        workload=workload,
        operation_id=uuid4(),
        method="rollout",
        before={"app": empty},
        after={"app": empty},
        outcome="kept",
        at=now,
    )
    world.ids.update(recommendation=found["id"], size_change=str(change.id))


PAGE = "/policies/rightsizing/{cluster}/"
API = "/api/clusters/{cluster}"
# Nothing may be changed on that cluster: it follows a policy that recommends, and Curfew has no way to it.


def _post(path: str, **body: str) -> Route:
    return Route("POST", path, 302, 403, 302, 302, 404, body)


def _order(path: str) -> Route:
    return api("POST", path, viewer=403, operator=409, owner=409, stranger=404)


ROUTES = [
    page("/policies/rightsizing/"),
    page(PAGE, stranger=404),
    page(f"{PAGE}requests.yaml", stranger=404),
    _post(f"{PAGE}apply", recommendation="{recommendation}"),
    _post(f"{PAGE}changes/{{size_change}}/take-back"),
    api("GET", f"{API}/recommendations", viewer=200, operator=200, owner=200, stranger=404),
    _order(f"{API}/recommendations/{{recommendation}}/apply"),
    api("GET", f"{API}/size-changes", viewer=200, operator=200, owner=200, stranger=404),
    _order(f"{API}/size-changes/{{size_change}}/rollback"),
]
