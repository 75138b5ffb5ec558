"""The log over HTTP: what is served is what is hashed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rest_framework.test import APIClient

from audit import chain
from audit.services import record_alone, seal_organization
from tests.personas import Persona

pytestmark = pytest.mark.django_db
ApiOf = Callable[[Persona], APIClient]


def write(persona: Persona, count: int = 3) -> None:
    for n in range(count):
        record_alone(
            actor=persona.actor,
            verb="access.denied",
            target_kind="page",
            target_id=str(n),
            target_label=f"page {n}",
            changes={"n": [n, 1.5, "ü", 1e20, 1e-7, float("nan"), "\0\ud800"]},
        )
    seal_organization(organization_id=persona.organization.id)


def test_the_chain_can_be_recomputed_from_the_answers(alice: Persona, api_of: ApiOf) -> None:
    write(alice)
    rows = api_of(alice).get("/api/audit").json()["results"]
    assert [r["line"] for r in rows] == [3, 2, 1]
    for row in rows:
        assert chain.digest(row) == row["digest"]
        assert chain.link(row["organization"], row["line"], row["prev_hash"], row["digest"]) == row["hash"]
    assert [r["prev_hash"] for r in rows] == [rows[1]["hash"], rows[2]["hash"], chain.GENESIS]
    one = api_of(alice).get(f"/api/audit/{rows[0]['id']}").json()
    assert one == rows[0]
    assert one["sentence"] == "Was refused: page 2"


def test_pages_and_filters(alice: Persona, api_of: ApiOf) -> None:
    write(alice, 5)
    api = api_of(alice)
    page = api.get("/api/audit?page_size=2&page=3").json()
    assert (page["count"], len(page["results"]), page["next"]) == (5, 1, None)
    assert api.get("/api/audit?target_kind=page&target_id=4").json()["count"] == 1
    assert api.get("/api/audit?outcome=denied").json()["count"] == 0
    assert api.get("/api/audit?search=page+3").json()["count"] == 1
    assert api.get("/api/audit?end=2020-01-01T00:00:00Z").json()["count"] == 0


@pytest.mark.parametrize(
    "query", ["?outcome=lucky", "?start=yesterday", "?operation=7", "?who=nobody", "?page_size=9999"]
)
def test_bad_input_is_a_problem(alice: Persona, api_of: ApiOf, query: str) -> None:
    response = api_of(alice).get(f"/api/audit{query}")
    assert (response.status_code, response["Content-Type"]) == (422, "application/problem+json")


def test_who_may(alice: Persona, bob: Persona, mallory: Persona, api_of: ApiOf) -> None:
    write(alice)
    entry = api_of(alice).get("/api/audit").json()["results"][0]["id"]
    assert api_of(bob).get("/api/audit").status_code == 403
    assert api_of(bob).get("/api/audit/verify").status_code == 403
    assert api_of(mallory).get(f"/api/audit/{entry}").status_code == 404
    assert api_of(mallory).get("/api/audit").json()["count"] == 0
    assert APIClient().get("/api/audit").status_code == 401


def test_nobody_writes(alice: Persona, api_of: ApiOf) -> None:
    write(alice)
    api = api_of(alice)
    entry = api.get("/api/audit").json()["results"][0]["id"]
    for method in ("post", "put", "patch", "delete"):
        assert getattr(api, method)(f"/api/audit/{entry}").status_code == 405
        assert getattr(api, method)("/api/audit").status_code == 405


def test_verify(alice: Persona, api_of: ApiOf) -> None:
    write(alice)
    assert api_of(alice).get("/api/audit/verify").json() == {
        "ok": True,
        "checked": 3,
        "broken_seq": None,
        "broken_id": None,
        "reason": "",
    }
