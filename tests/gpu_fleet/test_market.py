"""The market: only what was seen is told, and the wizard shows its arithmetic."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from rest_framework.test import APIClient

from accounts.models import CloudAccount
from core import clock
from gpu_fleet import services, wizard
from gpu_fleet.providers.base import Offer
from tests.gpu_fleet.conftest import Fleet
from tests.gpu_fleet.test_race import market
from tests.personas import Persona

REPORTS = (
    "spot/monitor",
    "spot/savings",
    "spot/interruption-rates",
    "spot/safe-windows/RTX 4090",
    "spot/llm-gpus",
    "spot/prediction/RTX 4090",
    "spot/availability",
    "spot/reliability",
    "spot/training-cost",
    "spot/fleet-strategy",
)


@pytest.fixture
def api(alice: Persona) -> APIClient:
    client = APIClient()
    client.force_login(alice.user)
    return client


@pytest.mark.django_db
def test_nothing_seen_is_no_data_and_no_number(api: APIClient, account: CloudAccount) -> None:
    for report in REPORTS:
        body = api.get(f"/api/v1/{report}").json()
        assert (body["data"], body["items"]) == ("no_data", []), report


@pytest.mark.django_db
def test_reports_are_made_of_what_was_seen(api: APIClient, account: CloudAccount, fleet: Fleet) -> None:
    def look(hours: int, price: str, *, spot: bool) -> None:
        offers = [Offer(str(n), str(n), "RTX 4090", 1, 24_000, Decimal(price), reliability=0.9) for n in range(4)]
        at = clock.now() - timedelta(hours=hours)
        services.keep_samples(account=account, offers=offers, at=at, interruptible=spot)

    look(20, "0.50", spot=False)
    look(1, "0.40", spot=False)
    look(1, "0.10", spot=True)
    (row,) = api.get("/api/v1/spot/monitor").json()["items"]
    assert (row["ondemand_price"], row["spot_price"], row["savings_percent"]) == ("0.4", "0.1", 75.0)
    assert (row["price_trend"], row["available_gpus"]) == ("down", 4)
    (saved,) = api.get("/api/v1/spot/savings?hours_per_day=10").json()["items"]
    assert (saved["monthly_savings"], saved["kind"]) == ("90", "potential")
    (plan,) = [
        i
        for i in api.get("/api/v1/spot/fleet-strategy?budget_monthly=600").json()["items"]
        if "demand" in i["strategy_name"]
    ]
    assert (plan["total_gpus"], plan["estimated_monthly_cost"]) == (2, "584")
    assert api.get("/api/v1/spot/prediction/RTX 4090").json()["same_hour_before"] is None
    assert api.get("/api/v1/spot/llm-gpus?model_size=70b").json()["data"] == "no_data"


@pytest.mark.django_db
def test_the_wizard_shows_its_arithmetic_against_live_offers(
    api: APIClient, account: CloudAccount, fleet: Fleet
) -> None:
    market(fleet, 3)
    fleet.world.add(500, gpu_name="H100", gpu_ram=80_000, dph_total=2.4)
    body = api.post("/api/v1/ai-wizard/analyze", {"model": "llama-3-8b", "context": 8192}, format="json").json()
    assert body["vram_gb"] == pytest.approx(sum(step["gb"] for step in body["arithmetic"]), abs=0.01)
    assert body["arithmetic"][0]["gb"] == 16.0
    assert body["tiers"]["minimum"]["offer"]["gpu_name"] == "RTX 4090"
    assert body["tiers"]["maximum"]["offer"]["gpu_name"] == "H100"
    dear = api.post("/api/v1/ai-wizard/analyze", {"vram_gb": 70, "budget_hour": "1"}, format="json").json()
    assert dear["tiers"]["minimum"]["offer"] is None
    assert "costs more" in dear["tiers"]["minimum"]["why"]
    assert api.post("/api/v1/ai-wizard/analyze", {"goal": "inference"}, format="json").status_code == 422


def test_more_of_anything_never_needs_less() -> None:
    def need(**facts: object) -> float:
        return sum(step.gb for step in wizard.steps(wizard.Ask(**{"billions": 7.0, **facts})))  # type: ignore[arg-type]

    assert need(billions=13.0) > need() < need(context=32_000) < need(context=32_000, batch=4)
    assert need(goal=wizard.Goal.TRAINING) > need(goal=wizard.Goal.LORA) > need(precision="int4")
    assert [wizard.size_of(n) for n in ("llama-3-70b", "Qwen2.5 7B instruct", "flux")] == [70.0, 7.0, None]
