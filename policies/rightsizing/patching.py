"""The change itself: from a live Deployment or StatefulSet to what is applied, and back. Pure.

Only requests and limits of CPU and memory are ever written. A limit that equals its request follows it; a memory limit
above it becomes the recommended figure as well; a CPU limit is only ever raised, to its request; what has no limit gets
none.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from clusters.inventory.quantities import BadQuantity, milli, units
from clusters.sleeping.kinds import Object, spec_of
from policies.rightsizing.enums import MANAGER

Values = dict[str, dict[str, str]]  # {"requests": {"cpu": "100m"}, "limits": {}}
Snapshot = dict[str, Values]  # by container
NAMES = ("cpu", "memory")
PARTS = ("requests", "limits")
ANNOTATION = "curfew.dev/size-before"
GITOPS = ("argocd", "argo-cd", "flux", "kustomize-controller", "helm-controller", "fleet")


def boxes_of(obj: Object) -> list[Object]:
    """The containers of a workload's template."""
    found = spec_of(spec_of(obj).get("template") or {}).get("containers")
    return found if isinstance(found, list) else []


def values_of(box: Object) -> Values:
    """CPU and memory of a container as they are; unset ones are left out."""
    resources = box.get("resources") or {}
    return {
        part: {name: str((resources.get(part) or {})[name]) for name in NAMES if name in (resources.get(part) or {})}
        for part in PARTS
    }


def snapshot(obj: Object) -> Snapshot:
    """CPU and memory of every container."""
    return {str(box.get("name")): values_of(box) for box in boxes_of(obj)}


def amount(values: Mapping[str, str], name: str) -> int | None:
    """Thousandths of a core or bytes; None when unset or not readable."""
    if name not in values:
        return None
    try:
        return milli(values[name]) if name == "cpu" else units(values[name])
    except BadQuantity:
        return None


def written(name: str, size: int) -> str:
    """As Kubernetes writes it."""
    if name == "cpu":
        return f"{size}m" if size % 1000 else str(size // 1000)
    mebibyte = 1024**2
    return f"{size // mebibyte}Mi" if size % mebibyte == 0 else str(size)


def resized(before: Values, wanted: Mapping[str, int]) -> Values:
    """A container's values with these requests, its limits following as the module says."""
    after = copy.deepcopy(before)
    for name, size in wanted.items():
        old, limit = amount(before["requests"], name), amount(before["limits"], name)
        after["requests"][name] = written(name, size)
        if limit is None:
            continue
        effective = limit if old is None else old  # Kubernetes takes the limit for a request that is not set
        if limit == effective or name == "memory" or limit < size:
            after["limits"][name] = written(name, size)
    return after


def differs(obj: Object, expected: Mapping[str, Mapping[str, int | None]]) -> str:
    """The first container whose requests are not what was expected when the change was ordered; "" when none."""
    now = snapshot(obj)
    for name, wanted in expected.items():
        if name not in now:
            return name
        for resource, size in wanted.items():
            known = amount(now[name]["requests"], resource)
            if known is None:
                known = amount(now[name]["limits"], resource)
            if known != size:
                return name
    return ""


def ours(obj: Object) -> set[str]:
    """Containers of which our field manager owns something: they must be in every apply, or they would lose it."""
    found = set()
    for entry in (obj.get("metadata") or {}).get("managedFields") or ():
        if entry.get("manager") != MANAGER:
            continue
        spot: Any = entry.get("fieldsV1") or {}
        for step in ("f:spec", "f:template", "f:spec", "f:containers"):
            spot = spot.get(step) or {} if isinstance(spot, dict) else {}
        names = {str(box.get("name")) for box in boxes_of(obj)}
        found |= {name for name in names if any(f'"name":"{name}"' in key for key in spot)}
    return found


def gitops(obj: Object) -> str:
    """The GitOps tool that owns the workload's containers; "" when none does."""
    for entry in (obj.get("metadata") or {}).get("managedFields") or ():
        manager = str(entry.get("manager") or "")
        fields = str((((entry.get("fieldsV1") or {}).get("f:spec") or {}).get("f:template")) or "")
        if any(word in manager.lower() for word in GITOPS) and "f:containers" in fields:
            return manager
    return ""


def manifest(obj: Object, values: Mapping[str, Values], memory: str = "") -> Object:
    """What is applied: these containers' values, beside those that we own already, and in the same request what they
    were before (`memory`; none takes it off). The uid keeps it from ever making a workload that was deleted."""
    now = snapshot(obj)
    names = [name for name in now if name in values or name in ours(obj)]
    metadata = obj.get("metadata") or {}
    containers = []
    for name in names:
        chosen = values.get(name, now[name])
        resources = {part: dict(chosen[part]) for part in PARTS if chosen.get(part)}
        containers.append({"name": name, "resources": resources})
    named = {key: metadata.get(key) for key in ("name", "namespace", "uid")}
    return {
        "apiVersion": "apps/v1",
        "kind": str(obj.get("kind")),
        "metadata": {**named, **({"annotations": {ANNOTATION: memory}} if memory else {})},
        "spec": {"template": {"spec": {"containers": containers}}},
    }


def pod_boxes(pod: Object, values: Mapping[str, Values]) -> list[Object]:
    """The containers part of a resize of one pod; what is unset is asked to be removed."""
    known = {str(box.get("name")) for box in spec_of(pod).get("containers") or ()}
    return [
        {"name": name, "resources": {part: {n: chosen[part].get(n) for n in NAMES} for part in PARTS}}
        for name, chosen in values.items()
        if name in known
    ]


def quality(values: Sequence[Values]) -> str:
    """The quality-of-service class that these containers give a pod."""
    if not any(one[part] for one in values for part in PARTS):
        return "BestEffort"
    for one in values:
        for name in NAMES:
            limit = amount(one["limits"], name)
            if limit is None or amount(one["requests"], name) not in (None, limit):
                return "Burstable"
    return "Guaranteed"
