"""What the pages of node templates show, as plain rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.http import QueryDict

from policies import selectors, services
from policies.blueprint import Blueprint
from policies.catalogue import Category, catalogue
from policies.enums import Architecture, Purchasing
from policies.models import NodeTemplate
from policies.selectors.templates import Uses

ARCH_LABELS = {Architecture.AMD64: "x86_64", Architecture.ARM64: "ARM64"}
BADGES = {
    Purchasing.SPOT: ("Spot", "spot"),
    Purchasing.ON_DEMAND: ("On-Demand", "ondemand"),
    Purchasing.HYBRID: ("Hybrid", "hybrid"),
}
CATEGORIES = (
    (Category.GENERAL, "General purpose", "server-2", ("m5", "m6i", "m7i"), ("m6g", "m7g", "m8g")),
    (Category.COMPUTE, "Compute optimized", "cpu", ("c5", "c6i", "c7i"), ("c6g", "c7g", "c8g")),
    (Category.MEMORY, "Memory optimized", "database", ("r5", "r6i", "r7i"), ("r6g", "r7g", "r8g")),
    (Category.GPU, "GPU", "bolt", ("g4dn", "g5", "g6"), ("g5g",)),
    (Category.STORAGE, "Storage optimized", "box", ("i3", "i4i", "i7i"), ("i4g", "im4gn", "i8g")),
    (Category.OTHER, "Accelerators and HPC", "flask", (), ()),
)
SIZES = (
    "nano", "micro", "small", "medium", "large", "xlarge", "2xlarge", "3xlarge", "4xlarge", "6xlarge", "8xlarge",
    "9xlarge", "10xlarge", "12xlarge", "16xlarge", "18xlarge", "24xlarge", "32xlarge", "48xlarge", "metal",
)  # fmt: skip
FEW = 4
PILLS = (("", "All"), *((str(word), label) for word, (label, _) in BADGES.items()))


@dataclass(frozen=True, slots=True)
class Row:
    """One template of the list."""

    template: NodeTemplate
    pills: tuple[str, ...]
    more: int
    architectures: str
    badge: str
    badge_css: str
    detail: str
    storage: str
    uses: Uses


@dataclass(frozen=True, slots=True)
class Family:
    """One family of the grid."""

    name: str
    ticked: bool
    arm: bool
    spot: bool
    current: bool
    low: Decimal | None
    sizes: str
    gpu: str


@dataclass(frozen=True, slots=True)
class Group:
    """The families of one category; `pick` are ticked by its own box, for x86 and for ARM64."""

    key: str
    label: str
    icon: str
    pick_x86: str
    pick_arm: str
    families: tuple[Family, ...]
    older: tuple[Family, ...]
    ticked: int


def row_of(template: NodeTemplate, uses: Uses) -> Row:
    families = list(template.families)
    label, css = BADGES[Purchasing(template.purchasing)]
    strategy = "lowest price" if template.strategy == "lowest_price" else "capacity optimized"
    detail = strategy if template.purchasing != "on_demand" else ""
    if template.purchasing == "hybrid":
        detail = f"{template.on_demand_base} on demand, then {template.on_demand_percent} %"
    return Row(
        template=template,
        pills=tuple(families[:FEW]) or ("any family",),
        more=max(0, len(families) - FEW),
        architectures=", ".join(ARCH_LABELS[Architecture(a)] for a in template.architectures) or "x86_64, ARM64",
        badge=label,
        badge_css=css,
        detail=detail,
        storage="instance store"
        if template.disk_type == "ephemeral"
        else f"{template.disk_type} ({template.disk_gib} GB)",
        uses=uses,
    )


def groups(ticked: Iterable[str], region: str = "") -> list[Group]:
    """Every family by category, newer ones first; what is ticked stays in sight."""
    chosen = set(ticked)
    prices = selectors.family_prices(region)
    found: dict[Category, list[Family]] = {key: [] for key, *_ in CATEGORIES}
    for name, types in catalogue().families().items():
        found[types[0].category].append(
            Family(
                name=name,
                ticked=name in chosen,
                arm=types[0].architecture is Architecture.ARM64,
                spot=any(t.spot for t in types),
                current=any(t.current for t in types),
                low=prices.get(name),
                sizes=f"{types[0].size} to {types[-1].size}" if len(types) > 1 else types[0].size,
                gpu=next((t.gpu for t in types if t.gpu), ""),
            )
        )
    rows = []
    for key, label, icon, x86, arm in CATEGORIES:
        picks = {*x86, *arm}
        shown = [f for f in found[key] if f.current or f.ticked or f.name in picks]
        older = [f for f in found[key] if f not in shown]
        rows.append(
            Group(
                key, label, icon, " ".join(x86), " ".join(arm), tuple(shown), tuple(older),
                sum(f.ticked for f in found[key]),
            )
        )  # fmt: skip
    return rows


def summary(blueprint: Blueprint) -> str:
    """The template as JSON, as the last step shows it."""
    return json.dumps(services.values_of(blueprint), indent=2)


def toolbar(query: QueryDict, counts: Mapping[str, int], url: str) -> dict[str, Any]:
    """Search and pills of the list."""

    def link(value: str) -> str:
        kept = query.copy()
        kept.pop("buying", None)
        if value:
            kept["buying"] = value
        return f"?{kept.urlencode()}"

    chosen = query.get("buying", "")
    options = [
        {
            "label": label,
            "count": counts.get(key, 0) if key else sum(counts.values()),
            "current": chosen == key,
            "url": link(key),
        }
        for key, label in PILLS
    ]
    return {
        "url": url,
        "target": "#templates-grid",
        "search": query.get("search", ""),
        "search_label": "Search templates",
        "filters": [{"label": "Purchasing", "options": options}],
    }
