"""Words and rows of the policy pages."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from clusters.models import Summary
from core.actor import Actor
from policies.document import ALWAYS_EXEMPT
from policies.selectors import changes_between

LEVELS = (
    ("conservative", "Conservative", "Nodes under 20 % used. Pods are rarely moved; moderate savings."),
    ("balanced", "Balanced", "Nodes under 50 % used, and only where moving the pods pays. The usual choice."),
    ("aggressive", "Aggressive", "Nodes under 80 % used, and dear nodes replaced by cheaper ones. Pods restart often."),
)
MODES = (
    ("off", "Off", "Nothing is worked out and nothing is done."),
    ("recommend", "Recommend", "Everything is worked out and shown; nothing is touched."),
    ("enforce", "Enforce", "What the cards say is done. Maintenance and sleep still go first."),
)
THRESHOLDS_MONTHLY = ("0", "1", "5", "10", "25", "50", "100")
MOST_NAMESPACES = 60


def namespaces(actor: Actor, cluster_ids: Collection[UUID], data: Any) -> list[dict[str, Any]]:
    """Namespaces of these clusters and those that are exempt already. One query."""
    chosen = list(((data or {}).get("exemptions") or {}).get("namespaces") or [])
    known: set[str] = set()
    rows = Summary.objects.visible_to(actor).filter(cluster_id__in=list(cluster_ids)[:20])
    for spaces in rows.values_list("namespaces", flat=True):
        known |= {str(one.get("name", "")) for one in spaces or ()}
    names = sorted({*chosen, *known} - ALWAYS_EXEMPT - {""})
    return [
        {"name": name, "ticked": name in chosen} for name in names if name in chosen or len(names) <= MOST_NAMESPACES
    ]


def diff(before: Any, after: Any) -> list[dict[str, Any]]:
    """What differs, as `components/diff.html` shows it."""
    return [
        {"field": path, "before": _words(old), "after": _words(new)}
        for path, (old, new) in changes_between(before, after).items()
    ]


def _words(value: Any) -> str | None:
    """A value as people read it; None where there is none."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_words(one) or "" for one in value) or "none"
    if isinstance(value, dict):
        return " ".join(f"{key} {_words(one)}" for key, one in value.items() if one not in ("", 0, [], None))
    return str(value) or "none"
