"""Reads of the price book for pages: newest list price of each type, and the range of each GPU tier at each provider."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.http import QueryDict

from costs.models import CatalogPrice

# GPU inside a machine by the beginning of its type's name, and how many of them, as the clouds' catalogues say.
_GPUS: tuple[tuple[str, str], ...] = (
    ("g4dn.", "T4"),
    ("g5.", "A10G"),
    ("g6.", "L4"),
    ("g6e.", "L40S"),
    ("p3.", "V100"),
    ("p4d", "A100"),
    ("p5.", "H100"),
    ("g2-", "L4"),
    ("a2-", "A100"),
    ("a3-", "H100"),
)
_AZURE: tuple[tuple[str, str], ...] = (
    ("_T4_", "T4"),
    ("_A100_", "A100"),
    ("_A10_", "A10"),
    ("_H100_", "H100"),
    ("_MI300", "MI300X"),
)
PROVIDERS = {"aws": "AWS", "azure": "Azure", "gcp": "GCP"}


@dataclass(frozen=True, slots=True)
class TierPrice:
    """What machines with one kind of GPU cost at one provider: from the cheapest to the dearest type, USD an hour."""

    gpu: str
    provider: str
    low: Decimal
    high: Decimal
    cheapest: str
    types: int
    source: str
    as_of: date


def gpu_of(instance_type: str) -> str:
    """The GPU that a type has inside, "" when its name does not say."""
    for start, gpu in _GPUS:
        if instance_type.startswith(start):
            return gpu
    return next((gpu for part, gpu in _AZURE if part in f"{instance_type}_"), "")


def listed(*, search: str = "", provider: str = "") -> list[CatalogPrice]:
    """The newest price of every type and region, by provider and name. Public facts: no actor."""
    rows = CatalogPrice.objects.all()
    if provider:
        rows = rows.filter(provider=provider)
    if search:
        rows = rows.filter(instance_type__icontains=search)
    newest: dict[tuple[str, str, str, str], CatalogPrice] = {}
    for row in rows.order_by("provider", "instance_type", "region", "lifecycle", "as_of")[:20_000]:
        newest[row.provider, row.instance_type, row.region, row.lifecycle] = row
    return list(newest.values())


def by_tier() -> list[TierPrice]:
    """On-demand prices of GPU machines, by GPU and provider, the cheapest first."""
    groups: dict[tuple[str, str], list[CatalogPrice]] = defaultdict(list)
    for row in listed():
        gpu = gpu_of(row.instance_type)
        if gpu and row.lifecycle == "on_demand":
            groups[gpu, row.provider].append(row)
    found = []
    for (gpu, provider), rows in groups.items():
        least = min(rows, key=lambda r: r.hourly)
        found.append(
            TierPrice(
                gpu,
                PROVIDERS.get(provider, provider),
                least.hourly,
                max(r.hourly for r in rows),
                least.instance_type,
                len({r.instance_type for r in rows}),
                least.source,
                least.as_of,
            )
        )
    return sorted(found, key=lambda t: (t.low, t.gpu))


def toolbar(query: QueryDict, url: str) -> dict[str, Any]:
    """Search and provider filter, in the form of the grid toolbar."""

    def link(provider: str) -> str:
        kept = query.copy()
        kept.pop("page", None)
        kept.pop("provider", None)
        if provider:
            kept["provider"] = provider
        return f"?{kept.urlencode()}"

    chosen = query.get("provider", "")
    options = [{"label": "All", "current": not chosen, "url": link("")}]
    options += [{"label": label, "current": key == chosen, "url": link(key)} for key, label in PROVIDERS.items()]
    return {
        "url": url,
        "target": "#prices-grid",
        "search": query.get("q", ""),
        "param": "q",
        "search_label": "Search machine types",
        "filters": [{"label": "Provider", "options": options}],
    }
