"""Careful hands for objects that somebody else wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from agent.wire.codec import LONGEST_TEXT, WireError, moment
from agent.wire.model import Amounts, Condition, Owner, Taint
from agent.wire.quantities import LARGEST, BadQuantity, amount

KEPT_ANNOTATIONS = (
    "curfew.dev/",
    "karpenter.sh/",
    "karpenter.k8s.aws/",
    "cluster-autoscaler.kubernetes.io/",
    "controller.kubernetes.io/pod-deletion-cost",
    "autoscaling.keda.sh/",
    "argocd.argoproj.io/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "meta.helm.sh/",
)
LONGEST_ANNOTATION = 1024


def at(source: Any, *path: str) -> Any:
    """Return what lies at the path, or None."""
    for step in path:
        if not isinstance(source, dict):
            return None
        source = source.get(step)
    return source


def items(source: Any, *path: str) -> list[dict[str, Any]]:
    """Return the objects of the list at the path; [] when there is none."""
    found = at(source, *path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def texts(source: Any, *path: str) -> list[str]:
    """Return the texts of the list at the path; [] when there is none."""
    found = at(source, *path)
    return [item[:LONGEST_TEXT] for item in found if isinstance(item, str)] if isinstance(found, list) else []


def mapping(source: Any, *path: str) -> dict[str, Any]:
    """Return the object at the path; {} when there is none."""
    found = at(source, *path)
    return found if isinstance(found, dict) else {}


def text(source: Any, *path: str) -> str:
    """Return the text at the path; "" when there is none."""
    found = at(source, *path)
    return found[:LONGEST_TEXT] if isinstance(found, str) else ""


def shared(source: Any, *path: str) -> str:
    """Return the text at the path, interned: for names that thousands of records repeat."""
    return sys.intern(text(source, *path))


def number(source: Any, *path: str, default: int = 0) -> int:
    """Return the whole number at the path, or the default."""
    found = maybe_number(source, *path)
    return default if found is None else found


def maybe_number(source: Any, *path: str) -> int | None:
    """Return the whole number at the path, or None; one of more than 64 bits counts as none."""
    found = at(source, *path)
    if not isinstance(found, int) or isinstance(found, bool) or abs(found) > LARGEST:
        return None
    return found


def flag(source: Any, *path: str) -> bool:
    """Return whether true stands at the path."""
    return at(source, *path) is True


def time(source: Any, *path: str) -> datetime | None:
    """Return the time at the path, or None."""
    found = at(source, *path)
    try:
        return moment(found) if isinstance(found, str) else None
    except WireError:
        return None


def number_or_percent(source: Any, *path: str) -> str:
    """Return an int-or-string field as text; "" when unset."""
    found = at(source, *path)
    return str(found)[:64] if isinstance(found, str | int) and not isinstance(found, bool) else ""


def strings(source: Any, *path: str) -> dict[str, str]:
    """Return the texts of the map at the path."""
    return {k: v[:LONGEST_TEXT] for k, v in mapping(source, *path).items() if isinstance(v, str)}


def quantities(source: Any, *path: str) -> dict[str, str]:
    """Return a map of quantities as written, numbers as text."""
    found = mapping(source, *path)
    return {k: str(v)[:64] for k, v in found.items() if isinstance(v, str | int | float) and not isinstance(v, bool)}


def amounts(source: Any, *path: str) -> Amounts:
    """Return the quantities of the map at the path; one that cannot be read is left out."""
    found: Amounts = {}
    for name, quantity in mapping(source, *path).items():
        try:
            found[sys.intern(name)] = amount(name, quantity)
        except BadQuantity:
            continue
    return found


def kept_annotations(obj: Any) -> dict[str, str]:
    """Return the annotations of tools that matter for sleeping, scaling and ownership."""
    kept = strings(obj, "metadata", "annotations").items()
    return {k: v[:LONGEST_ANNOTATION] for k, v in kept if k.startswith(KEPT_ANNOTATIONS)}


def owner(obj: Any) -> Owner | None:
    """Return the controlling owner, or None."""
    for ref in items(obj, "metadata", "ownerReferences"):
        if ref.get("controller") is True and text(ref, "name"):
            return Owner(shared(ref, "kind"), shared(ref, "name"), shared(ref, "uid"))
    return None


def conditions(obj: Any, kept: Iterable[str] | None = None) -> tuple[Condition, ...]:
    """Return the conditions of the named types (all when None), sorted by type."""
    wanted = None if kept is None else frozenset(kept)
    found = [
        Condition(shared(c, "type"), shared(c, "status"), shared(c, "reason"), time(c, "lastTransitionTime"))
        for c in items(obj, "status", "conditions")
        if wanted is None or text(c, "type") in wanted or c.get("status") == "True"
    ]
    return tuple(sorted(found, key=lambda c: c.type))


def is_true(found: Iterable[Condition], name: str) -> bool:
    """Return whether the condition is there and True."""
    return any(c.type == name and c.status == "True" for c in found)


def taints(source: Any, *path: str) -> tuple[Taint, ...]:
    """Return the taints of the list at the path, in their order."""
    return tuple(Taint(shared(t, "key"), text(t, "value"), shared(t, "effect")) for t in items(source, *path))
