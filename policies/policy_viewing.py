"""Words and rows of the policy pages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
MOST_CHANGES = 3
LABELS = {
    "autoscaling.enabled": "Launch nodes for pending pods",
    "autoscaling.strategy": "Provisioning strategy",
    "autoscaling.template": "Constraint boundary",
    "autoscaling.on_demand_fallback": "Fall back to on-demand",
    "consolidation.enabled": "Consolidate nodes",
    "consolidation.level": "Aggressiveness",
    "consolidation.method": "Method",
    "consolidation.stabilization_minutes": "Stabilization window, minutes",
    "consolidation.zone": "Time zone of the budgets",
    "consolidation.budgets": "Disruption budgets",
    "consolidation.max_new_nodes": "New nodes in an action, at most",
    "hibernation.schedule": "Schedule",
    "rightsizing.mode": "Rightsizing",
    "rightsizing.profile": "Profile",
    "rightsizing.headroom_percent": "Safety buffer, percent",
    "rightsizing.minimum_monthly": "Only where it saves more than, dollars a month",
    "rightsizing.in_place": "Resize in place",
    "rightsizing.down_from": "Make smaller from, hour",
    "rightsizing.down_until": "Make smaller until, hour",
    "placement.spot": "Spot preference",
    "placement.block_burstable": "Block burstable instances",
    "placement.spread_zones": "Multi-AZ spread",
    "exemptions.namespaces": "Exempt namespaces",
    "exemptions.labels": "Exempt labels",
}
"""What the page calls a field of the document."""
_CHOICES = {
    "autoscaling.strategy": {},
    "consolidation.level": {},
    "consolidation.method": {},
    "rightsizing.mode": {"recommend": "Recommendations only", "apply": "Automatic apply"},
    "rightsizing.profile": {"p95": "p95 and headroom", "vpa": "As VPA"},
    "placement.spot": {"force": "Force spot", "prefer": "Prefer spot"},
}
"""Fields that are one of a few words, and the words that the page has for them where it has others."""


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


def diff(before: Any, after: Any, names: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """What differs, as `components/diff.html` shows it. `names` says what an id stands for."""
    return [
        {"field": LABELS.get(path, path), "before": _value(path, old, names), "after": _value(path, new, names)}
        for path, (old, new) in changes_between(before, after).items()
    ]


def changed(before: Any, after: Any, names: Mapping[str, str] | None = None) -> str:
    """What a person has changed and not saved, in one line; "" when nothing is different."""
    found = [
        f"{one['field']}: {one['before'] or 'none'} → {one['after'] or 'none'}" for one in diff(before, after, names)
    ]
    more = f" · {len(found) - MOST_CHANGES} more" if len(found) > MOST_CHANGES else ""
    return " · ".join(found[:MOST_CHANGES]) + more


def _value(path: str, value: Any, names: Mapping[str, str] | None) -> str | None:
    if path in _CHOICES and isinstance(value, str):
        return _CHOICES[path].get(value) or value.replace("_", " ").capitalize()
    if isinstance(value, str) and value in (names or {}):
        return (names or {})[value]
    return _words(value)


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
