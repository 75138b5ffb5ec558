"""Prices from the clouds' own lists, over HTTP: AWS through the sandbox, Azure and Google from a server of the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.management import CommandError, call_command

from core import encryption
from costs.models import CatalogPrice
from tests.fakes.aws import SandboxAws
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.django_db, pytest.mark.integration]


def _azure(**more: Any) -> dict[str, Any]:
    return {
        "armSkuName": "Standard_D4s_v5",
        "skuName": "D4s v5",
        "meterName": "D4s v5",
        "productName": "Virtual Machines Dsv5 Series",
        "unitOfMeasure": "1 Hour",
        "currencyCode": "USD",
        "retailPrice": 0.192,
        "effectiveStartDate": "2026-03-01T00:00:00Z",
        **more,
    }


def _gcp(part: str, nanos: int, usage: str = "OnDemand") -> dict[str, Any]:
    rate = {"unitPrice": {"currencyCode": "USD", "units": "0", "nanos": nanos}}
    return {
        "description": f"{'Spot Preemptible ' if usage == 'Preemptible' else ''}N2 Instance {part} running in Iowa",
        "category": {"usageType": usage},
        "serviceRegions": ["us-central1"],
        "pricingInfo": [{"effectiveTime": "2026-05-04T00:00:00Z", "pricingExpression": {"tieredRates": [rate]}}],
    }


@pytest.fixture
def lists() -> Iterator[str]:
    """Two pages each; Windows, other regions and free rows among them."""
    pages = {
        "/azure": {"Items": [_azure(), _azure(productName="Virtual Machines Dsv5 Series Windows", retailPrice=0.3)]},
        "/azure2": {"Items": [_azure(skuName="D4s v5 Spot", retailPrice=0.04), _azure(retailPrice=0)]},
        "/gcp": {"skus": [_gcp("Core", 31_611_000), _gcp("Ram", 4_237_000)], "nextPageToken": "two"},
        "/gcp?two": {"skus": [_gcp("Core", 7_000_000, "Preemptible"), _gcp("Ram", 900_000, "Preemptible")]},
        "/broken": {"Items": "none"},
    }

    class Lists(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            token = parse_qs(parts.query).get("pageToken", [""])[0]
            body = dict(pages[parts.path + (f"?{token}" if token else "")])
            if parts.path == "/azure":
                body["NextPageLink"] = f"http://127.0.0.1:{self.server.server_port}/azure2"
            text = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Lists)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _price(provider: str, kind: str, lifecycle: str = "on_demand") -> CatalogPrice:
    return CatalogPrice.objects.filter(provider=provider, instance_type=kind, lifecycle=lifecycle).latest("as_of")


def test_azure_and_google_from_their_lists(lists: str, alice: Persona) -> None:
    call_command("refresh_prices", azure=["eastus"], url=f"{lists}/azure")
    assert _price("azure", "Standard_D4s_v5", "spot").hourly == Decimal("0.04")
    row = CatalogPrice.objects.get(
        provider="azure", instance_type="Standard_D4s_v5", as_of="2026-03-01", lifecycle="on_demand"
    )
    assert row.hourly == Decimal("0.192")
    assert "Azure Retail" in row.source
    call_command("refresh_prices", gcp=["us-central1"], url=f"{lists}/gcp")
    assert _price("gcp", "n2-standard-4").hourly == 4 * Decimal("0.031611") + 16 * Decimal("0.004237")
    assert _price("gcp", "n2-standard-4", "spot").hourly == 4 * Decimal("0.007") + 16 * Decimal("0.0009")
    with pytest.raises(CommandError):
        call_command("refresh_prices", azure=["eastus"], url=f"{lists}/broken")
    with pytest.raises(CommandError):
        call_command("refresh_prices", azure=["eastus"], url="http://127.0.0.1:9/nothing")


def test_aws_through_a_connected_account(alice: Persona, settings: Any) -> None:
    with SandboxAws() as aws:
        settings.CURFEW_SANDBOX_AWS_ENDPOINT = aws.url
        account = make_account(alice.organization, number="111111111111", is_sandbox=True)
        account.credentials = encryption.seal({"aws_account_id": "111111111111"}, bound_to=account.seal_name)
        account.save()
        call_command("refresh_prices", aws=["us-west-2"])
        call_command("refresh_prices", aws=["us-west-2"])
    listed = CatalogPrice.objects.get(
        provider="aws", region="us-west-2", instance_type="m5.xlarge", lifecycle="on_demand"
    )
    assert (listed.hourly, listed.as_of.isoformat()) == (Decimal("0.192"), "2025-11-01")
    spot = CatalogPrice.objects.get(provider="aws", region="us-west-2", instance_type="m5.xlarge", lifecycle="spot")
    assert Decimal("0.0576") <= spot.hourly <= Decimal("0.0864")
    assert "spot price history" in spot.source
