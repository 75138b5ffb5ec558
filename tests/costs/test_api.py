"""The ledger over HTTP: decimal strings, the same sums."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest
from rest_framework.test import APIClient

from tests.personas import Persona

pytestmark = pytest.mark.django_db
ApiOf = Callable[[Persona], APIClient]


@pytest.fixture
def api_of() -> ApiOf:
    """Callers with a session: a token issued under a moved clock has run out in the real one."""

    def make(persona: Persona) -> APIClient:
        client = APIClient()
        client.force_login(persona.user)
        return client

    return make


def test_summary_and_intervals_agree(alice: Persona, api_of: ApiOf, hall: UUID) -> None:
    api = api_of(alice)
    summary = api.get("/api/costs/summary?period=today").json()
    assert (summary["spent"], summary["saved_real"], summary["potential_still_to_come"]) == (
        "12.20000000",
        "3.80000000",
        "12.00000000",
    )
    assert summary["saved_by_cause"] == {"schedule": "3.80000000"}
    assert summary["currency"] == "USD"
    rows = api.get("/api/costs/intervals?period=today").json()
    assert rows["count"] == 3
    assert sum(Decimal(r["spent"]) for r in rows["results"]) == Decimal(summary["spent"])
    assert rows["results"][0]["ended_at"] is None
    assert rows["results"][0]["counted_to"] == "2026-03-18T18:00:00Z"


def test_pages_and_filters(alice: Persona, api_of: ApiOf, hall: UUID) -> None:
    api = api_of(alice)
    page = api.get("/api/costs/intervals?period=today&page_size=2&page=2").json()
    assert (len(page["results"]), page["next"]) == (1, None)
    assert api.get("/api/costs/intervals?phase=asleep").json()["count"] == 1
    assert api.get("/api/costs/intervals?search=zebra").json()["count"] == 0


@pytest.mark.parametrize("query", ["?period=never", "?phase=dancing", "?start=yesterday", "?cause=magic"])
def test_bad_input_is_a_problem(alice: Persona, api_of: ApiOf, at_six: datetime, query: str) -> None:
    response = api_of(alice).get(f"/api/costs/summary{query}")
    assert response.status_code == 422
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["errors"]


def test_budget(alice: Persona, bob: Persona, api_of: ApiOf) -> None:
    api = api_of(alice)
    assert api.get("/api/costs/budget").json() == {"daily": None, "currency": "USD"}
    assert api.put("/api/costs/budget", {"daily": "180"}, format="json").json()["daily"] == "180.00"
    assert api_of(bob).put("/api/costs/budget", {"daily": "1"}, format="json").status_code == 403
    assert api_of(bob).get("/api/costs/budget").json()["daily"] == "180.00"
    assert api.put("/api/costs/budget", {"daily": "-3"}, format="json").status_code == 422
    assert api.put("/api/costs/budget", {"daily": None}, format="json").json()["daily"] is None


def test_nothing_of_another_organization(alice: Persona, mallory: Persona, api_of: ApiOf, hall: UUID) -> None:
    summary = api_of(mallory).get(f"/api/costs/summary?resource=lamp:{hall}").json()
    assert (summary["spent"], summary["intervals"], summary["resources"]) == ("0.00000000", 0, [])


def test_an_anonymous_caller_is_refused(db: None) -> None:
    for path in ("summary", "intervals", "budget"):
        assert APIClient().get(f"/api/costs/{path}").status_code == 401
