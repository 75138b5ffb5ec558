"""Pages: what they say, what buttons do, and how many queries lists need."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.test import Client
from django.test.utils import CaptureQueriesContext

from core import clock
from costs.models import Interval
from gpu_fleet import services
from gpu_fleet.enums import RESOURCE
from gpu_fleet.models import Machine
from gpu_fleet.providers.base import Offer
from gpu_fleet.selectors import pages
from operations.models import Operation
from tests.gpu_fleet.conftest import Fleet
from tests.gpu_fleet.test_race import market
from tests.personas import Persona

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(client_of: Callable[[Persona], Client], alice: Persona) -> Client:
    return client_of(alice)


def queries(browser: Client, url: str) -> int:
    from django.db import connection

    browser.get(url)  # what is made at first use is made now
    with CaptureQueriesContext(
        connection,
    ) as seen:
        answer = browser.get(url)
    assert answer.status_code == 200
    return len(seen)


@pytest.mark.parametrize("url", ["/gpu-fleet/", "/gpu-fleet/?view=table", "/gpu-fleet/snapshots", "/api/instances"])
def test_lists_need_as_many_queries_for_three_as_for_one(
    fleet: Fleet, deploy: Callable[..., Machine], browser: Client, url: str
) -> None:
    market(fleet, 40)
    for name in ("ember", "fern", "gale"):
        deploy(name)
        fleet.until_done()
        if name == "ember":
            one = queries(browser, url)
    assert queries(browser, url) == one


def test_the_card_says_when_it_sleeps_and_a_button_keeps_it_awake(
    fleet: Fleet, deploy: Callable[..., Machine], browser: Client
) -> None:
    market(fleet)
    machine = deploy()
    fleet.until_done()
    for _ in range(4):
        fleet.agents()
        fleet.time.go(20)
    page = browser.get("/gpu-fleet/").content.decode()
    assert "Sleeps in" in page
    assert "$0.40" in page
    browser.post(f"/gpu-fleet/{machine.id}/keep", {"minutes": "60", "place": "fleet"})
    fleet.agents()
    assert "Kept awake for" in browser.get("/gpu-fleet/").content.decode()
    one = browser.get(f"/gpu-fleet/{machine.id}/").content.decode()
    assert "ssh -p" in one
    assert "ssh-ed25519 AAAA" in one


def test_a_pause_is_ordered_from_the_page(fleet: Fleet, deploy: Callable[..., Machine], browser: Client) -> None:
    market(fleet)
    machine = deploy()
    fleet.until_done()
    fleet.agents()
    path = f"/gpu-fleet/{machine.id}/pause"
    assert path in browser.get(f"/gpu-fleet/{machine.id}/").content.decode()
    assert browser.post(path).status_code == 302
    fleet.until_done()
    machine.refresh_from_db()
    assert machine.provider_state == "stopped"
    page = browser.get(f"/gpu-fleet/{machine.id}/").content.decode()
    assert path not in page
    assert f"/gpu-fleet/{machine.id}/wake" in page


def test_the_race_is_shown_while_it_runs(fleet: Fleet, deploy: Callable[..., Machine], browser: Client) -> None:
    market(fleet)
    deploy()
    for _ in range(5):
        fleet.agents()
        fleet.once()
        fleet.time.go(2)
    page = browser.get("/gpu-fleet/").content.decode()
    assert "Multi-start: ember" in page
    assert page.count("lane lane--run") == 5


def test_a_form_that_cannot_be_keeps_what_was_typed(browser: Client, fleet: Fleet, account: object) -> None:
    answer = browser.post(
        "/gpu-fleet/deploy",
        {
            "name": "Not A Name",
            "account_id": str(account.id),
            "gpu_name": "RTX 4090",
            "disk_gb": 20,
            "strategy": "race",
            "paths": "/workspace",
        },
    )  # type: ignore[attr-defined]
    page = answer.content.decode()
    assert (answer.status_code, "Small letters, digits" in page, "RTX 4090" in page) == (422, True, True)
    assert not Operation.objects.all_orgs().exists()


def test_the_market_page_shows_what_was_seen_and_nothing_else(browser: Client, account: object, fleet: Fleet) -> None:
    assert "No data yet" in browser.get("/gpu-fleet/market").content.decode()
    for hours in (3, 2, 1):
        offers = [
            Offer(str(n), str(n), "RTX 4090", 2, 24_000, Decimal("0.80") - Decimal(hours) / 10, reliability=0.9)
            for n in range(3)
        ]
        services.keep_samples(
            account=account, offers=offers, at=clock.now() - timedelta(hours=hours), interruptible=False
        )  # type: ignore[arg-type]
    page = browser.get("/gpu-fleet/market").content.decode()
    assert "$0.35" in page  # per GPU
    assert "up" in page


def test_a_move_is_estimated_before_it_is_asked_for(
    fleet: Fleet, deploy: Callable[..., Machine], browser: Client
) -> None:
    market(fleet, 30)
    machine = deploy(strategy="cheapest")
    fleet.until_done()
    page = f"/gpu-fleet/{machine.id}/move"
    assert page in browser.get(f"/gpu-fleet/{machine.id}/").content.decode()
    words = browser.get(page).content.decode()
    assert "there is no verified snapshot yet" in words
    assert "RTX 4090" in words
    assert "none now" in browser.get(f"{page}?gpu_name=H999").content.decode()
    assert browser.post(page, {"gpu_name": "RTX 4090"}).status_code in (200, 302)
    machine.refresh_from_db()
    assert Operation.objects.for_org(machine.organization_id).filter(kind="gpu.migrate").count() == 1
    assert machine.wanted["gpu_name"] == "RTX 4090"


def test_thirty_days_are_the_same_days_on_every_page(alice: Persona) -> None:
    """Local ones: at 20:00 UTC it is half past one in the morning of the next day in Kolkata."""
    organization, now = alice.organization, datetime(2026, 3, 18, 20, tzinfo=UTC)
    organization.timezone = "Asia/Kolkata"
    organization.save()
    names = {"resource_kind": RESOURCE, "resource_id": uuid4(), "resource_label": "ember", "price_source": "test"}
    began = now - timedelta(days=40)
    Interval.objects.create(
        organization=organization, **names, phase="asleep", started_at=began, price=Decimal(0), awake_price=Decimal(1)
    )
    with clock.at(now):
        found, fleet = pages.get_savings(actor=alice.actor), pages.get_fleet(actor=alice.actor)
    assert found.saved == fleet.saved == Decimal("697.5")  # 29 days and an hour and a half
    assert [found.days[0], found.days[-1]] == [
        (date(2026, 2, 18), Decimal(0), Decimal(24)),
        (date(2026, 3, 19), Decimal(0), Decimal("1.5")),
    ]
