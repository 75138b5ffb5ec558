"""Karpenter's NodePools, version 1: what limits and purchase one has, and the patch that changes them. Pure.

Karpenter keeps no least number of nodes. A dynamic pool has limits of CPU, memory and (from 1.11 on for certain) nodes;
a static one keeps `replicas` nodes, and only a limit of nodes applies to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusters.inventory.quantities import BadQuantity, nano
from clusters.providers.kube import Object, Resource

POOLS = Resource("karpenter.sh", "v1", "nodepools", namespaced=False)
CAPACITY = "karpenter.sh/capacity-type"
SPOT, ON_DEMAND = "spot", "on-demand"
LIMITED = ("cpu", "memory", "nodes")
GIB = 1024**3
NANO = 10**9


class NotChangeable(ValueError):
    """The pool's purchase is written in a way that cannot be turned by a switch."""


def capacity_of(requirements: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The capacity types that a pool may buy; on-demand without a word about them. None when they are written otherwise
    than as one list of values."""
    found = [one for one in requirements if one.get("key") == CAPACITY]
    if not found:
        return [ON_DEMAND]
    if len(found) > 1 or found[0].get("operator") != "In" or found[0].get("minValues") is not None:
        return None
    return [str(value) for value in found[0].get("values") or ()]


def facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a page needs of a pool's record or of its `spec` flattened: `limits`, `replicas`, `capacity`."""
    return {
        "limits": {str(key): str(value) for key, value in (record.get("limits") or {}).items()},
        "replicas": record.get("replicas"),
        "capacity": capacity_of(record.get("requirements") or ()),
    }


def facts_of(obj: Object) -> dict[str, Any]:
    """The same of a NodePool as the API has it."""
    spec = obj.get("spec") or {}
    return facts({**spec, "requirements": _requirements(obj)})


def _requirements(obj: Object) -> list[dict[str, Any]]:
    inner = ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}
    return list(inner.get("requirements") or ())


def check_limit(resource: str, text: str) -> str:
    """Why a limit cannot be that quantity, "" when it can; an empty text means no limit."""
    if not text:
        return ""
    try:
        value = nano(text)
    except BadQuantity:
        return "Write a Kubernetes quantity: 100, 400Gi."
    if value < 0:
        return "A limit cannot be less than 0."
    if resource == "memory" and 0 < value < GIB * NANO:
        return "That is less than 1 GiB. Write the unit: 400Gi."
    if resource == "nodes" and value % NANO:
        return "Nodes are whole."
    return ""


def same(held: Any, wanted: str) -> bool:
    """Whether two quantities are the same amount; None and "" are no limit."""
    if held in (None, "") or not wanted:
        return held in (None, "") and not wanted
    try:
        return nano(str(held)) == nano(wanted)
    except BadQuantity:
        return False


def whole(text: str) -> int:
    """A quantity in whole pieces, rounded down. Raises BadQuantity."""
    return nano(text) // NANO


def turned(requirements: Sequence[Mapping[str, Any]], spot: bool) -> list[dict[str, Any]]:
    """The requirements with spot allowed beside what is allowed (on-demand stays as the fallback), or without spot.
    Raises NotChangeable."""
    held = capacity_of(requirements)
    if held is None:
        raise NotChangeable("Its capacity types are not one plain list: change the NodePool itself.")
    wanted = [*([SPOT] if spot else []), *(value for value in held if value != SPOT)]
    if wanted in ([], [SPOT]):
        wanted.append(ON_DEMAND)
    made = {"key": CAPACITY, "operator": "In", "values": wanted}
    others = [dict(one) for one in requirements]
    place = next((index for index, one in enumerate(others) if one.get("key") == CAPACITY), len(others))
    return [*others[:place], made, *others[place + 1 :]]


def change(
    obj: Object, *, limits: Mapping[str, str] | None, replicas: int | None, spot: bool | None
) -> dict[str, Any] | None:
    """The merge patch that makes a NodePool be so, naming the version that was read; None when it is so already.
    Raises NotChangeable."""
    held = facts_of(obj)
    spec: dict[str, Any] = {}
    changed = {name: text or None for name, text in (limits or {}).items() if not same(held["limits"].get(name), text)}
    if changed:
        spec["limits"] = changed
    if replicas is not None and held["replicas"] != replicas:
        spec["replicas"] = replicas
    if spot is not None and (held["capacity"] is None or (SPOT in held["capacity"]) != spot):
        spec["template"] = {"spec": {"requirements": turned(_requirements(obj), spot)}}
    if not spec:
        return None
    return {
        "metadata": {"resourceVersion": str((obj.get("metadata") or {}).get("resourceVersion") or "")},
        "spec": spec,
    }


def words(held: Mapping[str, Any]) -> str:
    """A pool's facts in a line, as an operation's result and the audit log name them."""
    parts = [f"{held['replicas']} nodes"] if held.get("replicas") is not None else []
    parts += [f"{name} {held['limits'][name]}" for name in LIMITED if name in held["limits"]]
    parts.append("/".join(held["capacity"]) if held.get("capacity") else "other purchase")
    return ", ".join(parts)
