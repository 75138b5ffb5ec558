"""The verb `calls`: a batch of reads and writes of the API server that putting a cluster to sleep takes.

A signed order is trusted no further than this table. Objects may be listed, read and patched in the named fields; nothing
else of a template can be changed, no object made, and only NodeClaims deleted. The agent's own namespace is never
written, kube-system only where a node scaler is scaled. What RBAC does not allow, Kubernetes refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.cluster.kube import Gone, Kube, KubeError, object_path
from agent.transport import Unreachable
from agent.wire.listing import BadListing
from agent.wire.placement import MARK

MOST_CALLS = 200
MOST_OBJECTS = 50_000
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
MANAGERS = frozenset({"curfew", "curfew-placement"})
_WORD = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_VERSION = re.compile(r"v\d+((alpha|beta)\d+)?")
_SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease"})
READABLE: dict[tuple[str, str], bool] = {  # (group, plural): namespaced
    ("", "nodes"): False,
    ("", "namespaces"): False,
    ("", "pods"): True,
    ("", "services"): True,
    ("", "persistentvolumes"): False,
    ("", "persistentvolumeclaims"): True,
    ("apps", "replicasets"): True,
    ("apps", "deployments"): True,
    ("apps", "statefulsets"): True,
    ("batch", "jobs"): True,
    ("batch", "cronjobs"): True,
    ("policy", "poddisruptionbudgets"): True,
    ("autoscaling", "horizontalpodautoscalers"): True,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): False,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): False,
    ("karpenter.sh", "nodeclaims"): False,
    ("karpenter.sh", "nodepools"): False,
    ("keda.sh", "scaledobjects"): True,
    ("keda.sh", "scaledjobs"): True,
    ("argoproj.io", "applications"): True,
    ("argoproj.io", "rollouts"): True,
    ("kustomize.toolkit.fluxcd.io", "kustomizations"): True,
    ("helm.toolkit.fluxcd.io", "helmreleases"): True,
}
_NOTES = ("curfew.dev/",)
_PLACE = tuple(
    f"/spec/template/spec/{n}" for n in ("nodeSelector", "affinity", "tolerations", "topologySpreadConstraints")
)
# What may be changed, by resource; a path allows what lies below it. Annotations under curfew.dev/ are allowed everywhere.
WRITABLE: dict[tuple[str, str], tuple[str, ...]] = {
    ("apps", "deployments"): ("/spec/replicas", *_PLACE),
    ("apps", "statefulsets"): ("/spec/replicas", *_PLACE),
    ("argoproj.io", "rollouts"): ("/spec/replicas",),
    ("argoproj.io", "applications"): ("/spec/syncPolicy",),
    ("batch", "cronjobs"): ("/spec/suspend",),
    ("autoscaling", "horizontalpodautoscalers"): ("/spec/minReplicas",),
    ("kustomize.toolkit.fluxcd.io", "kustomizations"): ("/spec/suspend",),
    ("helm.toolkit.fluxcd.io", "helmreleases"): ("/spec/suspend",),
    ("karpenter.sh", "nodepools"): ("/spec/replicas", "/spec/limits"),
    ("keda.sh", "scaledobjects"): (
        "/metadata/annotations/autoscaling.keda.sh~1paused",
        "/metadata/annotations/autoscaling.keda.sh~1paused-replicas",
    ),
    ("keda.sh", "scaledjobs"): ("/metadata/annotations/autoscaling.keda.sh~1paused",),
}
# Of what a pool buys, only spot and on-demand may be turned: everything else must stay as the API server has it.
_BOUGHT = "/spec/template/spec/requirements"
_CAPACITY = "karpenter.sh/capacity-type"
_CAPACITIES = frozenset({"spot", "on-demand", "reserved"})
_NAMED = frozenset({"/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/metadata/resourceVersion"})
# Managed fields and the like of kinds that come by the thousand; who changed a workload is wanted, who a pod is not.
_SLIM = frozenset({"pods", "nodes", "replicasets", "jobs", "services", "persistentvolumes", "persistentvolumeclaims"})


class NotAllowed(Exception):
    """The call is outside the table; the text says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `method` is GROUPS, LIST, GET, PATCH, APPLY or DELETE."""

    method: str
    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    body: dict[str, Any] | None = None
    uid: str = ""
    manager: str = "curfew"

    @property
    def path(self) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/{self.plural}"


def read_calls(raw: object) -> list[Call]:
    """Raises NotAllowed for the whole batch when one of it is malformed."""
    if not isinstance(raw, list) or not 0 < len(raw) <= MOST_CALLS:
        raise NotAllowed(f"a batch holds 1 to {MOST_CALLS} calls")
    found = []
    for one in raw:
        if not isinstance(one, dict) or set(one) - set(Call.__slots__):
            raise NotAllowed("a call is malformed")
        body = one.get("body")
        texts = {k: v for k, v in one.items() if k != "body"}
        if not all(isinstance(v, str) for v in texts.values()) or not (body is None or isinstance(body, dict)):
            raise NotAllowed("a call is malformed")
        found.append(Call(body=body, **texts))
    return found


def check(call: Call, own_namespace: str) -> None:
    """Raises NotAllowed."""
    if call.method == "GROUPS":
        return
    key = (call.group, call.plural)
    namespaced = READABLE.get(key)
    if namespaced is None:
        raise NotAllowed(f"{call.plural[:60]}.{call.group[:60]} is none of its business")
    if not _VERSION.fullmatch(call.version):
        raise NotAllowed("the version is no version")
    if call.method == "LIST":
        return
    if not _WORD.fullmatch(call.name) or (bool(call.namespace) is not namespaced):
        raise NotAllowed("the name or the namespace is missing or odd")
    if namespaced and not _WORD.fullmatch(call.namespace):
        raise NotAllowed("the namespace is odd")
    if call.method == "DELETE":
        if key != ("karpenter.sh", "nodeclaims") or not call.uid:
            raise NotAllowed("only a NodeClaim can be deleted, by its uid")
    elif call.method != "GET":
        _check_change(call, own_namespace)


def _check_change(call: Call, own_namespace: str) -> None:
    if call.method not in {"PATCH", "APPLY"} or call.body is None or call.manager not in MANAGERS:
        raise NotAllowed(f"unknown call {call.method[:20]!r}")
    scaler = (call.group, call.plural) == ("apps", "deployments") and "cluster-autoscaler" in call.name
    if call.namespace and (call.namespace == own_namespace or (call.namespace in _SYSTEM and not scaler)):
        raise NotAllowed(f"the namespace {call.namespace} is protected")
    if not (call.body.get("metadata") or {}).get("resourceVersion"):
        raise NotAllowed("a change must name the version that was read")
    allowed = WRITABLE.get((call.group, call.plural), ())
    for path, value in leaves(call.body):
        bought = path == _BOUGHT and (call.group, call.plural) == ("karpenter.sh", "nodepools")
        if not bought and not _may(path, value, allowed):
            raise NotAllowed(f"{path[:120]} of {call.plural} may not be changed")


def check_bought(call: Call, held: dict[str, Any]) -> None:
    """Raises NotAllowed when a NodePool's requirements would differ in more than plain capacity types."""
    wanted, present = _requirements(call.body), _requirements(held)
    rest = [[one for one in found if one.get("key") != _CAPACITY] for found in (wanted, present)]
    turned = [one for one in wanted if one.get("key") == _CAPACITY]
    if rest[0] != rest[1] or len(turned) != 1 or set(turned[0]) != {"key", "operator", "values"}:
        raise NotAllowed("of what a pool buys, only the capacity type may be changed")
    values = turned[0]["values"]
    plain = isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)
    if turned[0]["operator"] != "In" or not plain or not _CAPACITIES.issuperset(values):
        raise NotAllowed("the capacity type is none of spot, on-demand and reserved")


def _requirements(obj: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Raises NotAllowed for what is no list of objects."""
    found: Any = obj
    for key in ("spec", "template", "spec", "requirements"):
        found = found.get(key) if isinstance(found, dict) else None
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise NotAllowed("the requirements are no list")
    return found


def _may(path: str, value: Any, allowed: tuple[str, ...]) -> bool:
    if path in _NAMED or any(path == one or path.startswith(f"{one}/") for one in allowed):
        return True
    for root in ("/metadata/annotations", "/spec/template/metadata/annotations"):
        ours = (MARK,) if root.startswith("/spec") else _NOTES
        if path == root:
            return value is None or value == {}  # the last one was ours: no empty shell stays behind
        if path.startswith(f"{root}/"):
            return path[len(root) + 1 :].replace("~1", "/").replace("~0", "~").startswith(ours)
    return False


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Pointers to everything in a body that is no object, and to empty objects."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}")
    else:
        yield path, value


def perform(kube: Kube, call: Call, own_namespace: str) -> dict[str, Any]:
    """Carry out one call: {status, body}, {status, error} as the API server said it, or {error, lost} when no answer
    came. Never raises."""
    try:
        check(call, own_namespace)
        return {"status": 200, "body": _do(kube, call)}
    except NotAllowed as refused:
        return {"status": 403, "error": {"message": f"The agent refuses: {refused}", "reason": "Forbidden"}}
    except KubeError as problem:
        error = {"message": problem.message, "reason": problem.reason}
        return {"status": problem.status, "error": error, "retry_after": problem.retry_after}
    except Gone as gone:
        return {"status": 410, "error": {"message": str(gone), "reason": "Gone"}}
    except (Unreachable, BadListing) as lost:
        return {"lost": str(lost)[:300]}


def _do(kube: Kube, call: Call) -> dict[str, Any]:
    if call.method == "GROUPS":
        return kube.get("/apis")
    if call.method == "LIST":
        items: list[dict[str, Any]] = []

        def keep(obj: dict[str, Any]) -> None:
            if len(items) >= MOST_OBJECTS:
                raise BadListing(f"more than {MOST_OBJECTS} {call.plural}")
            items.append(_slim(obj) if call.plural in _SLIM else obj)

        kube.list(call.path, keep)
        return {"items": items}
    path = object_path(call.path, call.namespace, call.name)
    if call.method == "GET":
        return kube.get(path)
    if call.method == "DELETE":
        return kube.delete(path, {"preconditions": {"uid": call.uid}, "propagationPolicy": "Background"})
    if any(pointer == _BOUGHT for pointer, _ in leaves(call.body or {})):
        check_bought(call, kube.get(path))
    query = f"?fieldManager={call.manager}" + ("&force=true" if call.method == "APPLY" else "")
    return kube.patch(path + query, call.body or {}, kind=APPLY if call.method == "APPLY" else MERGE)


def _slim(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in (obj.get("metadata") or {}).items() if k != "managedFields"}
    made = {**obj, "metadata": metadata}
    spec = obj.get("spec")
    if isinstance(spec, dict) and isinstance(spec.get("containers"), list):
        boxes = [{k: v for k, v in box.items() if k in {"name", "ports"}} for box in spec["containers"]]
        made["spec"] = {**spec, "containers": boxes}  # environment and arguments never leave the cluster
        made["spec"].pop("initContainers", None)
    return made
