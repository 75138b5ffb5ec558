"""What the pages of rightsizing show, as plain rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from django.http import QueryDict

from policies.rightsizing.models import SizeChange, SizeReport
from policies.rightsizing.patching import written
from policies.rightsizing.selectors import SHOWN, Overview, fits

GIB, MIB = 1024**3, 1024**2
PROFILES = {
    "p95": "p95 of fourteen days and {0} % headroom",
    "vpa": "as the Vertical Pod Autoscaler: p90 and 15 %",
    "measured": "the rule that did best for each container on days it did not know, memory with {0} % headroom",
}
OUTCOMES = {
    "under_way": ("Being watched", ""),
    "kept": ("Kept", "chip--good"),
    "rolled_back": ("Taken back", "chip--warn"),
    "not_made": ("Not made", "chip--line"),
    "unproven": ("Not watched to the end", "chip--line"),
}


@dataclass(frozen=True, slots=True)
class SizeLine:
    """One resource of one container: from, to, and why it stays."""

    label: str
    old: str
    to: str
    way: str  # up, down, ""
    basis: str
    hold: str


@dataclass(frozen=True, slots=True)
class BoxLines:
    name: str
    lines: tuple[SizeLine, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One workload of the report. `status` says what becomes of it in words."""

    id: str
    name: str
    detail: str
    boxes: tuple[BoxLines, ...]
    saves: float | None
    status: str
    css: str
    appliable: bool


@dataclass(frozen=True, slots=True)
class ChangeRow:
    change: SizeChange
    name: str
    words: tuple[str, ...]
    outcome: str
    css: str
    reversible: bool


def size_words(name: str, amount: int | None) -> str:
    """An amount for people."""
    if amount is None:
        return "unset"
    if name == "cpu":
        return f"{amount:,}m"
    return f"{amount / GIB:,.2f} GiB" if amount >= GIB else f"{amount / MIB:,.0f} MiB"


def report_rows(rows: list[dict[str, Any]], overview: Overview) -> list[ReportRow]:
    """Rows of the report for the page."""
    return [_row(row, overview) for row in rows]


def _row(row: Mapping[str, Any], overview: Overview) -> ReportRow:
    status, css = _status(row, overview)
    return ReportRow(
        id=row["id"],
        name=row["name"],
        detail=f"{row['kind']} in {row['namespace']}, {row['replicas']} replica{'s' if row['replicas'] != 1 else ''}",
        boxes=tuple(
            BoxLines(
                box["name"],
                tuple(_line(label, name, box[name]) for label, name in (("CPU", "cpu"), ("Memory", "memory"))),
                tuple(box["notes"]),
            )
            for box in row["boxes"]
        ),
        saves=row["saves"] if row["changes"] else None,
        status=status,
        css=css,
        appliable=bool(row["changes"]) and row["key"] not in overview.active,
    )


def _line(label: str, name: str, size: Mapping[str, Any]) -> SizeLine:
    old, to = size["old"], size["to"]
    way = "" if to is None or to == old else "up" if to > (old or 0) else "down"
    hold = size["hold"]["words"] if size["hold"] else ""
    if hold and size["wanted"] is not None and size["wanted"] != old and size["hold"]["why"] != "close":
        hold = f"{hold}; it would be {size_words(name, size['wanted'])}"
    return SizeLine(label, size_words(name, old), size_words(name, to), way, size["basis"], hold)


def _status(row: Mapping[str, Any], overview: Overview) -> tuple[str, str]:
    if row["hold"]:
        exempt = row["hold"]["why"] == "exempt"
        return (f"Unmanaged: {row['hold']['words']}" if exempt else f"Held: {row['hold']['words']}"), "chip--line"
    if not row["changes"]:
        return "Fits, or held for the reasons beside it", ""
    if row["key"] in overview.active:
        return "Being changed and watched", "chip--warn"
    if not overview.applies:
        return "Would be changed", "chip--good"
    if overview.refused:
        return f"Waits: {overview.refused}", "chip--line"
    waits = overview.waiting.get(row["key"])
    return (f"Waits: {waits}", "chip--line") if waits else ("Is changed within a minute", "chip--good")


def change_rows(changes: list[SizeChange], may_operate: bool) -> list[ChangeRow]:
    """Changes for the page; only the newest of a workload may be taken back."""
    seen: set[Any] = set()
    found = []
    for change in changes:
        newest = change.workload_id not in seen
        if change.outcome != "not_made":
            seen.add(change.workload_id)
        label, css = OUTCOMES[change.outcome]
        found.append(
            ChangeRow(
                change,
                change.workload.key,
                tuple(_difference(name, change.before[name], after) for name, after in sorted(change.after.items())),
                label,
                css,
                may_operate and newest and change.outcome in ("kept", "unproven"),
            )
        )
    return found


def _difference(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    parts = []
    for resource in ("cpu", "memory"):
        old, new = before["requests"].get(resource, "unset"), after["requests"].get(resource, "unset")
        if old != new:
            parts.append(f"{resource} {old} to {new}")
    return f"{name}: {', '.join(parts)}"


def pills(query: QueryDict, report: SizeReport | None, url: str, show: str, search: str) -> dict[str, Any]:
    """Search and pills of the report."""
    rows = report.rows if report else []
    options = []
    for key, label in SHOWN.items():
        kept = query.copy()
        kept.pop("page", None)
        kept["show"] = key
        count = sum(fits(row, key) for row in rows)
        options.append({"label": label, "count": count, "current": key == show, "url": f"{url}?{kept.urlencode()}"})
    return {
        "url": url,
        "target": "#sizes-grid",
        "search": search,
        "search_label": "Search workloads",
        "filters": [{"label": "Which", "options": options}],
    }


def basis_words(report: SizeReport) -> str:
    """By which rule, in a sentence."""
    return PROFILES.get(report.profile, report.profile).format(report.headroom)


def patches(rows: list[dict[str, Any]]) -> str:
    """The changes as manifests for Git or `kubectl apply --server-side`: only what would change."""
    found = []
    for row in rows:
        containers = []
        for box in row["boxes"]:
            requests = {
                name: written(name, box[name]["to"])
                for name in ("cpu", "memory")
                if box[name]["to"] is not None and box[name]["to"] != box[name]["old"]
            }
            if requests:
                containers.append({"name": box["name"], "resources": {"requests": requests}})
        if row["changes"] and containers:
            found.append(
                {
                    "apiVersion": "apps/v1",
                    "kind": row["kind"],
                    "metadata": {"name": row["name"], "namespace": row["namespace"]},
                    "spec": {"template": {"spec": {"containers": containers}}},
                }
            )
    head = "# Requests as recommended; limits are yours to set. kubectl apply --server-side -f this.yaml\n"
    return head + "".join(f"---\n{yaml.safe_dump(one, sort_keys=False)}" for one in found)
