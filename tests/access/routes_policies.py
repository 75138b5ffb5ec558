"""Routes of node templates and policies."""

from __future__ import annotations

from uuid import UUID

from policies import services
from tests.access.matrix import Route, World, api, page

TEMPLATE = {"name": "Another", "families": ["m5"], "disk_type": "gp3", "disk_gib": "50", "image": "al2023@latest"}
MANIFEST = """
apiVersion: karpenter.sh/v1
kind: NodePool
metadata:
  name: from-karpenter
spec:
  template:
    spec:
      nodeClassRef:
        group: karpenter.k8s.aws
        kind: EC2NodeClass
        name: absent
"""


def build(world: World) -> None:
    """A template that nothing uses, the default one, and a policy that is applied to the cluster of the other routes."""
    actor = world.alice.actor
    services.save_template(actor=actor, values={"name": "Default", "families": ["m5"]})
    spare = services.save_template(actor=actor, values={"name": "Spare", "families": ["c5"]})
    policy = services.create_policy(actor=actor, name="Careful")
    loose = services.create_policy(actor=actor, name="Unused")
    changed = policy.parsed().to_json()
    changed["consolidation"]["enabled"] = True
    services.save_policy(actor=actor, policy_id=policy.id, document=changed)
    services.apply_policy(actor=actor, policy_id=policy.id, cluster_ids=[UUID(world.ids["cluster"])])
    world.ids.update(node_template=str(spare.id), policy=str(policy.id), loose_policy=str(loose.id))


def _post(path: str, viewer: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, viewer, owner, stranger, body or {})


ONE = "/node-templates/{node_template}"
OTHER = "/policies/{policy}"
LOOSE = "/policies/{loose_policy}"
API_ONE = "/api/node-templates/{node_template}"
API_POLICY = "/api/policies/{policy}"
CLUSTER = "/api/clusters/{cluster}/policy"


def _write(method: str, path: str, *, owner: int, stranger: int = 404, body: dict | None = None) -> Route:
    return api(method, path, viewer=403, operator=403, owner=owner, stranger=stranger, body=body)


def _read(path: str, *, stranger: int = 404) -> Route:
    return api("GET", path, viewer=200, operator=200, owner=200, stranger=stranger)


ROUTES = [
    page("/node-templates/"),
    page("/node-templates/new", viewer=403),
    _post("/node-templates/new", 403, 302, 302, TEMPLATE),
    _post("/node-templates/check", 200, 200, 200, TEMPLATE),
    _post("/node-templates/check", 200, 200, 404, {**TEMPLATE, "template": "{node_template}"}),
    _post("/node-templates/network", 200, 200, 200, TEMPLATE),
    page("/node-templates/import", viewer=403),
    _post("/node-templates/import", 403, 302, 302, {"manifest": MANIFEST, "save": "1"}),
    page(f"{ONE}/", stranger=404),
    _post(f"{ONE}/", 403, 302, 404, TEMPLATE),
    _post(f"{ONE}/default", 403, 302, 404),
    _post(f"{ONE}/clone", 403, 302, 404),
    page(f"{ONE}/delete", viewer=403, stranger=404),
    _post(f"{ONE}/delete", 403, 302, 404),
    page(f"{ONE}/karpenter.yaml", stranger=404),
    page("/policies/"),
    page("/policies/new", viewer=403),
    _post("/policies/new", 403, 302, 302, {"name": "Eager"}),
    page("/policies/clusters/{cluster}/nodes/", stranger=404),
    page("/policies/clusters/{cluster}/rights", viewer=403, stranger=404),
    page(f"{OTHER}/", stranger=404),
    _post(f"{OTHER}/", 403, 302, 404, {"autoscaling.enabled": "on"}),
    _post(f"{OTHER}/impact", 200, 200, 404, {"consolidation.enabled": "on"}),
    _post(f"{OTHER}/clusters", 403, 302, 404, {"add": "{cluster}", "mode": "enforce"}),
    _post(f"{OTHER}/rename", 403, 302, 404, {"name": "Very careful"}),
    page(f"{OTHER}/versions/1/", stranger=404),
    _post(f"{OTHER}/versions/1/", 403, 302, 404),
    _post(f"{LOOSE}/delete", 403, 302, 404),
    _read("/api/node-templates", stranger=200),
    _write("POST", "/api/node-templates", owner=201, stranger=201, body={"name": "Api", "families": ["m5"]}),
    api("POST", "/api/node-templates/check", viewer=200, operator=200, owner=200, stranger=200, body={"families": []}),
    _write("POST", "/api/node-templates/import", owner=201, stranger=201, body={"manifest": MANIFEST}),
    _read(API_ONE),
    _write("PATCH", API_ONE, owner=200, body={"description": "For batch"}),
    _write("DELETE", API_ONE, owner=204),
    _write("POST", f"{API_ONE}/clone", owner=201),
    _write("POST", f"{API_ONE}/set-default", owner=200),
    _read(f"{API_ONE}/karpenter"),
    _read("/api/policies", stranger=200),
    _write("POST", "/api/policies", owner=201, stranger=201, body={"name": "By API"}),
    _read(API_POLICY),
    _write("PUT", API_POLICY, owner=200, body={"document": {}}),
    _write("PATCH", API_POLICY, owner=200, body={"name": "Renamed"}),
    _write("DELETE", "/api/policies/{loose_policy}", owner=204),
    api("POST", f"{API_POLICY}/apply", viewer=422, operator=422, owner=422, stranger=422, body={"clusters": []}),
    _read(f"{API_POLICY}/versions"),
    _write("POST", f"{API_POLICY}/versions/1/restore", owner=200),
    _read(CLUSTER),
    _read(f"{CLUSTER}/nodes"),
    _write("PUT", CLUSTER, owner=200, body={"mode": "enforce"}),
    _write("DELETE", CLUSTER, owner=204),
    api("POST", f"{CLUSTER}/impact", viewer=200, operator=200, owner=200, stranger=404, body={"document": {}}),
]
