"""Price answers of the sandbox.

The figures are AWS's published on-demand list prices (Linux, us-east-1, US dollars an hour, late
2025). Other regions and types answer with an empty list, as the real API does for what it does
not sell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape

PRICED_REGIONS = {"us-east-1": "US East (N. Virginia)", "us-west-2": "US West (Oregon)"}
ON_DEMAND: dict[str, Decimal] = {
    name: Decimal(price)
    for name, price in {
        "t3.micro": "0.0104",
        "t3.small": "0.0208",
        "t3.medium": "0.0416",
        "t3.large": "0.0832",
        "t3.xlarge": "0.1664",
        "m5.large": "0.096",
        "m5.xlarge": "0.192",
        "m5.2xlarge": "0.384",
        "m5.4xlarge": "0.768",
        "m6i.large": "0.096",
        "m6i.xlarge": "0.192",
        "m6i.2xlarge": "0.384",
        "m6i.4xlarge": "0.768",
        "c5.large": "0.085",
        "c5.xlarge": "0.17",
        "c5.2xlarge": "0.34",
        "c6i.large": "0.085",
        "c6i.xlarge": "0.17",
        "c6i.2xlarge": "0.34",
        "r5.large": "0.126",
        "r5.xlarge": "0.252",
        "r5.2xlarge": "0.504",
        "r6i.large": "0.126",
        "r6i.xlarge": "0.252",
        "g4dn.xlarge": "0.526",
        "g4dn.2xlarge": "0.752",
        "g4dn.12xlarge": "3.912",
        "g5.xlarge": "1.006",
        "g5.2xlarge": "1.212",
        "g5.12xlarge": "5.672",
        "p4d.24xlarge": "21.957642",
    }.items()
}


def products(filters: Sequence[Mapping[str, str]]) -> str:
    """Return a GetProducts answer for EC2 compute; the filters work as exact matches, as at AWS."""
    wanted = {f.get("Field", ""): f.get("Value", "") for f in filters}
    found = []
    for region, location in PRICED_REGIONS.items():
        for instance_type, price in ON_DEMAND.items():
            attributes = {
                "instanceType": instance_type,
                "regionCode": region,
                "location": location,
                "operatingSystem": "Linux",
                "tenancy": "Shared",
                "capacitystatus": "Used",
                "preInstalledSw": "NA",
                "licenseModel": "No License required",
                "marketoption": "OnDemand",
                "servicecode": "AmazonEC2",
                "locationType": "AWS Region",
            }
            if all(
                attributes.get(field, value if field in {"ServiceCode", "productFamily"} else None) == value
                for field, value in wanted.items()
            ):
                found.append(json.dumps(_product(attributes, price)))
    return json.dumps({"FormatVersion": "aws_v1", "PriceList": found})


def _product(attributes: Mapping[str, str], price: Decimal) -> dict[str, Any]:
    sku = hashlib.sha256(f"{attributes['instanceType']}/{attributes['regionCode']}".encode()).hexdigest()[:16].upper()
    term = f"{sku}.JRTCKXETXF"
    rate = {
        "unit": "Hrs",
        "beginRange": "0",
        "endRange": "Inf",
        "rateCode": f"{term}.6YS6EN2CT7",
        "appliesTo": [],
        "description": f"${price} per On Demand Linux {attributes['instanceType']} Instance Hour",
        "pricePerUnit": {"USD": str(price)},
    }
    offer = {
        "sku": sku,
        "offerTermCode": "JRTCKXETXF",
        "effectiveDate": "2025-11-01T00:00:00Z",
        "termAttributes": {},
        "priceDimensions": {rate["rateCode"]: rate},
    }
    return {
        "product": {"productFamily": "Compute Instance", "sku": sku, "attributes": dict(attributes)},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {term: offer}},
        "version": "20251101000000",
        "publicationDate": "2025-11-01T00:00:00Z",
    }


def spot_history(region: str, types: Sequence[str], *, now: datetime | None = None) -> str:
    """Return a DescribeSpotPriceHistory answer: three zones, eight points over a day, 30 to 45 % of the list price.

    The sandbox's spot market is simulated: a fixed function of type, zone and hour, so two calls agree.
    """
    hour = (now or datetime.now(UTC)).replace(minute=0, second=0, microsecond=0)
    items = []
    for instance_type in types or sorted(ON_DEMAND):
        price = ON_DEMAND.get(instance_type)
        if price is None or region not in PRICED_REGIONS:
            continue
        for zone in "abc":
            for step in range(8):
                at = hour - timedelta(hours=3 * step)
                seed = hashlib.sha256(f"{instance_type}{zone}{at.isoformat()}".encode()).digest()[0]
                spot = (price * (Decimal(30) + Decimal(seed) * 15 / 255) / 100).quantize(Decimal("0.000001"))
                items.append(
                    f"<item><instanceType>{escape(instance_type)}</instanceType><productDescription>Linux/UNIX</productDescription>"
                    f"<spotPrice>{spot}</spotPrice><timestamp>{at.strftime('%Y-%m-%dT%H:%M:%S.000Z')}</timestamp>"
                    f"<availabilityZone>{escape(region)}{zone}</availabilityZone></item>"
                )
    return _ec2(
        "DescribeSpotPriceHistoryResponse", f"<spotPriceHistorySet>{''.join(items)}</spotPriceHistorySet><nextToken/>"
    )


def placement_scores(regions: Sequence[str]) -> str:
    """Return a GetSpotPlacementScores answer, one score from 1 to 10 for each region asked for."""
    items = "".join(
        f"<item><region>{escape(region)}</region><score>{hashlib.sha256(region.encode()).digest()[0] % 10 + 1}</score></item>"
        for region in regions or ["us-east-1"]
    )
    return _ec2("GetSpotPlacementScoresResponse", f"<spotPlacementScoreSet>{items}</spotPlacementScoreSet>")


def _ec2(name: str, body: str) -> str:
    return (
        f'<{name} xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>curfew-sandbox</requestId>{body}</{name}>'
    )
