"""AWS: list prices from the Pricing API, spot prices from EC2's own history, through a connected account."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from accounts.providers.aws import AwsConnection
from accounts.providers.aws_errors import aws_errors, need
from costs.prices import PriceRow

PRICING_REGION = "us-east-1"  # the Pricing API answers for every region there
LIST_SOURCE = "AWS Pricing API, Linux, on demand"
SPOT_SOURCE = "EC2 spot price history, mean of the zones' newest"
MICRO = Decimal("0.000001")
ONLY = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "capacitystatus": "Used",
    "preInstalledSw": "NA",
    "marketoption": "OnDemand",
}


def list_prices(connection: AwsConnection, region: str) -> list[PriceRow]:
    """On-demand prices of every type in a region. Raises ProviderError."""
    wanted = {**ONLY, "regionCode": region}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    with aws_errors("pricing:GetProducts", connection.secrets()):
        client = connection.client("pricing", region=PRICING_REGION)
        pages = client.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
        return [row for page in pages for text in need(page, "PriceList") if (row := _listed(json.loads(text), region))]


def _listed(offer: Mapping[str, Any], region: str) -> PriceRow | None:
    kind = str(offer.get("product", {}).get("attributes", {}).get("instanceType") or "")
    for term in offer.get("terms", {}).get("OnDemand", {}).values():
        for rate in term.get("priceDimensions", {}).values():
            hourly = _dollars(rate.get("pricePerUnit", {}).get("USD"))
            if kind and hourly is not None and rate.get("unit") == "Hrs":
                day = str(term.get("effectiveDate") or offer.get("publicationDate") or "")[:10]
                as_of = datetime.fromisoformat(day).date() if day else datetime.now(UTC).date()
                return PriceRow("aws", region, kind, "on_demand", hourly, LIST_SOURCE, as_of)
    return None


def spot_prices(connection: AwsConnection, region: str, *, types: Iterable[str] = ()) -> list[PriceRow]:
    """The present spot price of each type in a region: the mean of what its zones last told. Raises ProviderError."""
    newest: dict[str, dict[str, tuple[datetime, Decimal]]] = defaultdict(dict)
    asked: dict[str, Any] = {
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": datetime.now(UTC) - timedelta(hours=24),
        **({"InstanceTypes": sorted(types)} if types else {}),
    }
    with aws_errors("ec2:DescribeSpotPriceHistory", connection.secrets()):
        client = connection.client("ec2", region=region)
        for page in client.get_paginator("describe_spot_price_history").paginate(**asked):
            for point in need(page, "SpotPriceHistory"):
                kind, zone, at = str(point["InstanceType"]), str(point["AvailabilityZone"]), point["Timestamp"]
                price = _dollars(point["SpotPrice"])
                if price is not None and (zone not in newest[kind] or newest[kind][zone][0] < at):
                    newest[kind][zone] = (at, price)
    return [_spot(region, kind, list(zones.values())) for kind, zones in sorted(newest.items()) if zones]


def _spot(region: str, kind: str, points: list[tuple[datetime, Decimal]]) -> PriceRow:
    mean = (sum((price for _, price in points), Decimal(0)) / len(points)).quantize(MICRO)
    return PriceRow("aws", region, kind, "spot", mean, SPOT_SOURCE, max(at for at, _ in points).date())


def _dollars(text: Any) -> Decimal | None:
    """A price above zero; None for what is none (AWS lists free rows for reservations)."""
    try:
        amount = Decimal(str(text))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount > 0 else None
