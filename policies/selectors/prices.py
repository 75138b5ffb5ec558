"""Prices of instance types: the price book where it has them, else the catalogue that comes with the program."""

from __future__ import annotations

from collections.abc import Collection

from costs.models import CatalogPrice
from policies.catalogue import ADVISOR, LIST, REGION, catalogue
from policies.conflicts import Quote


def quotes(types: Collection[str], region: str = "") -> dict[str, Quote]:
    """What is known of each type in a region (us-east-1 when none is named). One query; public facts: no actor."""
    region = region or REGION
    names = set(types)
    rows = CatalogPrice.objects.filter(
        provider="aws", region=region, currency="USD", lifecycle__in=("on_demand", "spot")
    ).order_by("as_of")
    booked: dict[tuple[str, str], CatalogPrice] = {
        (row.instance_type, row.lifecycle): row for row in rows if row.instance_type in names
    }
    found = {}
    for name in names:
        listed, spot = booked.get((name, "on_demand")), booked.get((name, "spot"))
        known = catalogue().price(name, region)
        on_demand = listed.hourly if listed else known.on_demand if known else None
        guessed = known.spot if known and spot is None else None
        if on_demand is None and spot is None:
            continue
        source = listed.source if listed else LIST
        if spot is not None:
            source += f"; {spot.source}"
        elif guessed is not None:
            source += f"; spot: {ADVISOR}"
        as_of = listed.as_of if listed else known.as_of if known else None
        found[name] = Quote(on_demand, spot.hourly if spot else guessed, source, as_of)
    return found
