"""Azure and Google Cloud: their public price lists over HTTPS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx

from core.providers import BadAnswer, Unreachable
from costs.prices import PriceRow

AZURE = "https://prices.azure.com/api/retail/prices"
GCP = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"
AZURE_SOURCE = "Azure Retail Prices API, Linux, pay as you go"
GCP_SOURCE = "Google Cloud Billing Catalog, cores and memory added up"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
MOST_PAGES = 400
NANO = Decimal(1_000_000_000)
# family -> GiB of memory for each core, and its standard sizes
FAMILIES = {
    "N1": (Decimal("3.75"), (1, 2, 4, 8, 16, 32, 64)),
    "N2": (Decimal(4), (2, 4, 8, 16, 32, 48, 64)),
    "E2": (Decimal(4), (2, 4, 8, 16, 32)),
    "N2D": (Decimal(4), (2, 4, 8, 16, 32, 48, 64)),
}
_PART = re.compile(r"(?:Spot Preemptible )?(N1 Predefined|N2D AMD|N2|E2) Instance (Core|Ram) running in .+")


def _get(client: httpx.Client, url: str, params: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        answer = client.get(url, params=params)
        answer.raise_for_status()
        found = answer.json()
    except httpx.HTTPStatusError as refused:
        raise BadAnswer(f"The price list answered {refused.response.status_code}.") from None
    except httpx.HTTPError as lost:
        raise Unreachable("The price list cannot be reached.", detail=type(lost).__name__) from None
    except ValueError:
        raise BadAnswer("The price list did not answer with JSON.") from None
    if not isinstance(found, dict):
        raise BadAnswer("The price list did not answer with an object.")
    return found


def azure_prices(region: str, *, url: str = AZURE) -> list[PriceRow]:
    """Linux machines of an Azure region, pay as you go and spot. Raises ProviderError."""
    wanted = (
        f"serviceName eq 'Virtual Machines' and armRegionName eq '{region.replace(chr(39), '')}' "
        "and priceType eq 'Consumption'"
    )
    found: dict[tuple[str, str], PriceRow] = {}
    with httpx.Client(timeout=TIMEOUT) as client:
        for item in _pages(client, url, {"$filter": wanted}, "Items", "NextPageLink"):
            row = _azure(item, region)
            if row and (row.instance_type, row.lifecycle) not in found:
                found[row.instance_type, row.lifecycle] = row
    return list(found.values())


def _azure(item: Mapping[str, Any], region: str) -> PriceRow | None:
    names = f"{item.get('productName')} {item.get('skuName')} {item.get('meterName')}"
    if item.get("unitOfMeasure") != "1 Hour" or item.get("currencyCode") != "USD":
        return None
    if any(word in names for word in ("Windows", "Low Priority", "Cloud Services", "Dedicated")):
        return None
    hourly, kind = _amount(item.get("retailPrice")), str(item.get("armSkuName") or "")
    if hourly is None or not kind:
        return None
    lifecycle = "spot" if "Spot" in names else "on_demand"
    as_of = date.fromisoformat(str(item.get("effectiveStartDate") or "")[:10])
    return PriceRow("azure", region, kind, lifecycle, hourly, AZURE_SOURCE, as_of)


def gcp_prices(region: str, *, key: str, url: str = GCP) -> list[PriceRow]:
    """Standard machines of a Google region, on demand and spot: the catalog prices cores and memory apart, so both are
    added up. Raises ProviderError."""
    parts: dict[tuple[str, str, str], tuple[Decimal, date]] = {}
    with httpx.Client(timeout=TIMEOUT) as client:
        for sku in _pages(client, url, {"key": key, "pageSize": "5000"}, "skus", "nextPageToken"):
            _gcp_part(sku, region, parts)
    rows = []
    for family, (memory, sizes) in FAMILIES.items():
        for lifecycle in ("on_demand", "spot"):
            core, ram = parts.get((family, "Core", lifecycle)), parts.get((family, "Ram", lifecycle))
            if core is None or ram is None:
                continue
            for cores in sizes:
                hourly = cores * core[0] + cores * memory * ram[0]
                name = f"{family.lower()}-standard-{cores}"
                rows.append(PriceRow("gcp", region, name, lifecycle, hourly, GCP_SOURCE, max(core[1], ram[1])))
    return rows


def _gcp_part(sku: Mapping[str, Any], region: str, parts: dict[tuple[str, str, str], tuple[Decimal, date]]) -> None:
    match = _PART.fullmatch(str(sku.get("description") or ""))
    usage = (sku.get("category") or {}).get("usageType")
    lifecycle = {"OnDemand": "on_demand", "Preemptible": "spot"}.get(str(usage))
    if match is None or lifecycle is None or region not in (sku.get("serviceRegions") or ()):
        return
    for info in (sku.get("pricingInfo") or ())[-1:]:
        rates = (info.get("pricingExpression") or {}).get("tieredRates") or ()
        for rate in rates[-1:]:
            price = rate.get("unitPrice") or {}
            if price.get("currencyCode") == "USD":
                hourly = Decimal(str(price.get("units") or 0)) + Decimal(str(price.get("nanos") or 0)) / NANO
                day = date.fromisoformat(str(info.get("effectiveTime") or "")[:10])
                parts[match[1].split()[0], match[2], lifecycle] = (hourly, day)


def _pages(
    client: httpx.Client, url: str, params: dict[str, str], items: str, following: str
) -> Iterator[Mapping[str, Any]]:
    """Every item; `following` names either the next address or the token of the next page."""
    where, query = url, params
    for _ in range(MOST_PAGES):
        answer = _get(client, where, query or None)
        if not isinstance(answer.get(items), list):
            raise BadAnswer(f"The price list's answer has no {items}.")
        yield from answer[items]
        more = str(answer.get(following) or "")
        if not more:
            return
        where, query = (more, {}) if more.startswith("http") else (url, {**params, "pageToken": more})
    raise BadAnswer("The price list never ends.")


def _amount(value: Any) -> Decimal | None:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount > 0 else None
