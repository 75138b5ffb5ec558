"""The ledger shows the intervals behind each figure; budgets are set by whoever may."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEntry
from core import clock
from costs import reporting, selectors
from costs.models import Budget
from tests.costs.conftest import observe, price
from tests.personas import Persona

pytestmark = pytest.mark.django_db
ClientOf = Callable[[Persona], Client]


def read(client: Client, query: str = "") -> str:
    response = client.get(f"/costs/{query}")
    assert response.status_code == 200
    return response.content.decode()


def test_spent_saved_and_still_to_come_are_three_figures(alice: Persona, client_of: ClientOf, hall: UUID) -> None:
    page = read(client_of(alice))
    flat = re.sub(r"<[^>]+>|\s+", " ", page)
    assert re.search(r"Spent\s+Spent\s+\$12\.20", re.sub(r"\s+", " ", flat))
    assert re.search(r"Saved\s+Real\s+\$3\.80", re.sub(r"\s+", " ", flat))
    assert re.search(r"Still to come\s+Potential\s+\$12\.00", re.sub(r"\s+", " ", flat))  # six hours at two dollars


def test_the_rows_add_up_to_the_totals(alice: Persona, hall: UUID) -> None:
    report = reporting.report(actor=alice.actor, filters=reporting.Filters(reporting.period_named("today", "UTC")))
    assert [(r.interval.phase, r.spent, r.saved) for r in report.rows] == [
        ("awake", Decimal(4), Decimal(0)),
        ("asleep", Decimal("0.2"), Decimal("3.8")),
        ("awake", Decimal(8), Decimal(0)),
    ]
    assert sum(r.spent for r in report.rows) == report.sums.spent == Decimal("12.2")
    assert sum(r.saved for r in report.rows) == report.sums.saved == Decimal("3.8")
    assert report.sums.awake_hours == 6
    assert [(c.key, c.saved) for c in report.causes] == [("schedule", Decimal("3.8"))]


def test_each_figure_links_to_the_intervals_that_it_is_the_sum_of(
    alice: Persona, client_of: ClientOf, hall: UUID
) -> None:
    client = client_of(alice)
    other = uuid4()
    price(alice, other, "5")
    observe(alice, other, "attic", 9, "awake")
    page = read(client, "?period=today")
    assert f"resource=lamp%3A{hall}" in page
    one = read(client, f"?period=today&resource=lamp:{hall}")
    assert "attic" not in one
    assert "$12.20" in one
    asleep = read(client, "?period=today&phase=asleep&cause=schedule")
    assert "1 interval," in asleep
    assert "$3.80" in asleep


def test_an_unknown_price_is_no_data_and_in_no_sum(alice: Persona, client_of: ClientOf, at_six: datetime) -> None:
    observe(alice, uuid4(), "mystery", 10, "awake")
    page = read(client_of(alice))
    assert "no data" in page
    assert "1 interval has no known price and adds nothing" in page


def test_a_past_period_has_no_forecast(alice: Persona, client_of: ClientOf, hall: UUID) -> None:
    assert "Still to come" not in read(client_of(alice), "?period=yesterday")


def test_an_interval_is_clipped_to_the_period(alice: Persona, client_of: ClientOf, at_six: datetime) -> None:
    resource = uuid4()
    price(alice, resource, "1")
    observe(alice, resource, "hall", -30, "awake")
    client = client_of(alice)
    assert "$18.00" in read(client, "?period=today")
    assert "$24.00" in read(client, "?period=yesterday")
    assert "$48.00" in read(client, "?period=month")
    assert "$6.00" in read(client, "?start=2026-03-16&end=2026-03-16")


@pytest.mark.parametrize(
    "query",
    [
        "?period=never",
        "?resource=x",
        "?resource=lamp:zzz",
        "?phase=dancing",
        "?page=99999",
        "?page=x",
        "?start=2026-99-99&end=1",
        "?start=2026-03-19&end=2026-03-01",
        "?page_size=7",
    ],
)
def test_nonsense_in_the_address_still_shows_a_ledger(
    alice: Persona, client_of: ClientOf, hall: UUID, query: str
) -> None:
    assert "Ledger" in read(client_of(alice), query)


def test_search_pages_and_fragment(alice: Persona, client_of: ClientOf, hall: UUID, htmx: dict[str, str]) -> None:
    client = client_of(alice)
    assert "No interval in this period" in read(client, "?q=zebra")
    part = client.get("/costs/?q=hal", headers=htmx).content.decode()
    assert part.lstrip().startswith('<div id="ledger-grid"')
    assert "<html" not in part


def test_nothing_of_another_organization(alice: Persona, mallory: Persona, client_of: ClientOf, hall: UUID) -> None:
    page = read(client_of(mallory), f"?resource=lamp:{hall}")
    assert "hall" not in page
    assert "12.20" not in page


def test_queries_do_not_grow(alice: Persona, client_of: ClientOf, hall: UUID) -> None:
    client = client_of(alice)

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            read(client)
        return len(captured)

    read(client)
    before = count()
    for n in range(3):
        other = uuid4()
        price(alice, other, "5")
        observe(alice, other, f"attic {n}", 9, "awake")
    assert count() == before


@pytest.mark.parametrize(
    ("zone", "moment", "key", "start", "end"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, 12, tzinfo=UTC), "today", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("Europe/Berlin", datetime(2026, 10, 25, 12, tzinfo=UTC), "today", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("America/Los_Angeles", datetime(2026, 3, 1, 3, tzinfo=UTC), "month", "2026-02-01T08:00", "2026-03-01T08:00"),
        ("UTC", datetime(2026, 1, 31, 3, tzinfo=UTC), "last-month", "2025-12-01T00:00", "2026-01-01T00:00"),
        ("Asia/Kolkata", datetime(2026, 1, 10, 20, tzinfo=UTC), "7d", "2026-01-04T18:30", "2026-01-11T18:30"),
    ],
)
def test_periods_are_local_days(zone: str, moment: datetime, key: str, start: str, end: str) -> None:
    with clock.at(moment):
        period = reporting.period_named(key, zone)
    assert (period.start.isoformat()[:16], period.end.isoformat()[:16]) == (start, end)


def test_custom_days_include_the_last() -> None:
    period = reporting.period_named("custom", "UTC", date(2026, 3, 1), date(2026, 3, 2))
    assert (period.end - period.start).days == 2


class TestMeter:
    def test_it_is_a_fragment_and_a_page(
        self, alice: Persona, client_of: ClientOf, hall: UUID, htmx: dict[str, str]
    ) -> None:
        client = client_of(alice)
        part = client.get("/costs/meter", headers=htmx).content.decode()
        assert part.lstrip().startswith('<div class="meter-pair" id="money-meter"')
        assert "$2.00" in part
        assert "$12.20" in part
        assert "no limit" in part
        assert "<html" in client.get("/costs/meter").content.decode()

    def test_three_queries(self, alice: Persona, hall: UUID) -> None:
        with CaptureQueriesContext(connection) as captured:
            facts = reporting.meter_facts(actor=alice.actor, organization=alice.organization)
        assert len(captured) == 3
        assert facts["burn_rate"] == Decimal(2)


class TestBudgets:
    def test_set_change_and_remove(self, alice: Persona, client_of: ClientOf) -> None:
        client = client_of(alice)
        assert client.post("/settings/budgets", {"amount": "180"})["Location"] == "/settings/budgets"
        assert selectors.daily_budget(alice.actor) == Decimal(180)
        client.post("/settings/budgets", {"amount": "20.50"})
        assert "20.50" in client.get("/settings/budgets").content.decode()
        client.post("/settings/budgets", {"amount": ""})
        assert selectors.daily_budget(alice.actor) is None
        lines = AuditEntry.objects.for_org(alice.organization).filter(verb="budget.changed").order_by("seq")
        assert [[None if v is None else Decimal(v) for v in e.changes["amount"]] for e in lines] == [
            [None, 180],
            [180, Decimal("20.5")],
            [Decimal("20.5"), None],
        ]

    @pytest.mark.parametrize("amount", ["-1", "0", "0.001", "1e9", "abc", "NaN", "99999999"])
    def test_bad_amounts_are_told_beside_the_field(self, alice: Persona, client_of: ClientOf, amount: str) -> None:
        response = client_of(alice).post("/settings/budgets", {"amount": amount})
        assert response.status_code == 422
        assert "is-invalid" in response.content.decode()
        assert not Budget.objects.for_org(alice.organization).exists()

    def test_a_viewer_sees_and_may_not_change(self, alice: Persona, bob: Persona, client_of: ClientOf) -> None:
        client_of(alice).post("/settings/budgets", {"amount": "180"})
        client = client_of(bob)
        page = client.get("/settings/budgets").content.decode()
        assert "$180.00" in page
        assert '<button class="btn btn-primary" type="submit">Save' not in page
        assert client.post("/settings/budgets", {"amount": "1"}).status_code == 403
        assert selectors.daily_budget(alice.actor) == Decimal(180)

    def test_the_bar_fills_up(self, alice: Persona, client_of: ClientOf, hall: UUID, htmx: dict[str, str]) -> None:
        client_of(alice).post("/settings/budgets", {"amount": "12.20"})
        assert 'bar--bad" value="100"' in client_of(alice).get("/costs/meter", headers=htmx).content.decode()
