"""Charts of the fleet's pages, from rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from gpu_fleet.advice import Advice
from gpu_fleet.models import Beat, OfferSample
from gpu_fleet.selectors.pages import Savings
from gpu_fleet.wizard import Tier

MOST_TABLE = 40


def load_chart(beats: Sequence[Beat]) -> dict[str, Any] | None:
    """GPU, CPU and memory in percent over two hours; None without two beats. A gap is unknown, not zero."""
    if len(beats) < 2:
        return None
    columns = {
        "GPU": [beat.gpu for beat in beats],
        "CPU of a core": [beat.cpu for beat in beats],
        "Memory": [beat.memory for beat in beats],
    }
    series = [{"name": name, "data": values} for name, values in columns.items() if any(v is not None for v in values)]
    every = max(1, len(beats) // MOST_TABLE)
    table = [[f"{b.at:%H:%M:%S}", b.gpu, b.cpu, b.memory] for b in beats][::every]
    return {
        "id": "machine-load",
        "kind": "lines",
        "size": "m",
        "label": "Load of the machine over two hours, in percent",
        "data": {"unit": "%", "x": [beat.at.isoformat() for beat in beats], "series": series},
        "table": {"head": ["Time (UTC)", "GPU, %", "CPU of a core, %", "Memory, %"], "rows": table},
    }


def savings_chart(found: Savings) -> dict[str, Any] | None:
    """Spent and saved by day; None without an interval."""
    if not found.sleeps and not found.spent:
        return None
    days = [f"{day:%d %b}" for day, _, _ in found.days]
    spent = [round(float(amount), 2) for _, amount, _ in found.days]
    saved = [round(float(amount), 2) for _, _, amount in found.days]
    return {
        "id": "gpu-savings",
        "kind": "bars",
        "size": "l",
        "label": "Spent and saved by sleeping on each of the last thirty days",
        "data": {
            "unit": "$",
            "x": days,
            "stack": True,
            "series": [
                {"name": "Spent", "data": spent, "role": "spent"},
                {"name": "Saved", "data": saved, "role": "kept"},
            ],
        },
        "table": {
            "head": ["Day", "Spent, $", "Saved, $"],
            "rows": [list(r) for r in zip(days, spent, saved, strict=True)],
        },
    }


def price_chart(samples: Sequence[OfferSample], gpu: str) -> dict[str, Any] | None:
    """Lowest and median price of a GPU type as it was seen; None without two looks."""
    if len(samples) < 2:
        return None
    low = [round(float(s.low), 4) for s in samples]
    median = [round(float(s.median), 4) for s in samples]
    every = max(1, len(samples) // MOST_TABLE)
    rows = [[f"{s.at:%d %b %H:%M}", a, b, s.gpus] for s, a, b in zip(samples, low, median, strict=True)]
    return {
        "id": "market-price",
        "kind": "lines",
        "size": "l",
        "label": f"Price of {gpu} per GPU and hour, as offered",
        "data": {
            "unit": "$",
            "x": [s.at.isoformat() for s in samples],
            "series": [{"name": "Lowest", "data": low}, {"name": "Median", "data": median}],
        },
        "table": {"head": ["Time (UTC)", "Lowest, $", "Median, $", "GPUs on offer"], "rows": rows[::every]},
    }


def tier_links(found: Advice) -> list[tuple[Tier, str]]:
    """Each tier with the address of a deploy form that asks for it; "" when no offer fits."""
    links = []
    for tier in found.tiers:
        offer = tier.offer
        if offer is None:
            links.append((tier, ""))
            continue
        each = tier.vram_gb / max(1, offer.gpu_count)
        told = {
            "account_id": found.accounts.get(offer.offer_id, ""),
            "gpu_name": offer.gpu_name,
            "min_gpus": offer.gpu_count,
            "min_vram_gb": int(each) + (each > int(each)),
        }
        links.append((tier, f"{reverse('gpu_fleet:deploy')}?{urlencode(told)}"))
    return links
