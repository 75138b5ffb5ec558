"""Search finds everything that the person may see, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from dashboard import search
from tests.dashboard.conftest import Lamps
from tests.dashboard.test_home import make_operation
from tests.personas import Persona, make_account

pytestmark = pytest.mark.django_db
ClientOf = Callable[[Persona], Client]


def titles(persona: Persona, words: str) -> dict[str, list[str]]:
    return {group.label: [hit.title for hit in group.hits] for group in search.find(actor=persona.actor, words=words)}


def test_it_finds_by_source(alice: Persona, lamps: Lamps) -> None:
    lamps.add(alice, "Wintergarden", tags={"team": "botany"})
    make_account(alice.organization, name="Winter account")
    make_operation(alice, resource_label="Wintergarden", error="Frost")
    assert titles(alice, "winter") == {
        "Compute": ["Wintergarden"],
        "Cloud accounts": ["Winter account"],
        "Operations": ["Scan cloud account: Wintergarden"],
    }
    assert titles(alice, "team=botany") == {"Compute": ["Wintergarden"]}
    assert titles(alice, "frost") == {"Operations": ["Scan cloud account: Wintergarden"]}
    assert titles(alice, "budg") == {"Pages": ["Budgets"]}


@pytest.mark.parametrize("words", ["", " ", "w", "zebra", "%", "__", "'; DROP TABLE"])
def test_nothing_for_nothing(alice: Persona, lamps: Lamps, words: str) -> None:
    lamps.add(alice, "Wintergarden")
    assert titles(alice, words) == {}


def test_only_one_s_own(alice: Persona, mallory: Persona, lamps: Lamps) -> None:
    lamps.add(alice, "Wintergarden")
    make_account(alice.organization, name="Winter account")
    make_operation(alice, resource_label="Wintergarden")
    assert titles(mallory, "winter") == {}


def test_a_viewer_is_not_offered_the_audit_log(alice: Persona, bob: Persona) -> None:
    assert "Audit Logs" in titles(alice, "audit")["Pages"]
    assert titles(bob, "audit") == {}


def test_page_and_drop_down(alice: Persona, client_of: ClientOf, lamps: Lamps, htmx: dict[str, str]) -> None:
    lamps.add(alice, "Wintergarden <b>")
    client = client_of(alice)
    page = client.get("/search?q=winter").content.decode()
    assert "<html" in page
    assert "Wintergarden &lt;b&gt;" in page
    part = client.get("/search?q=winter", headers=htmx).content.decode()
    assert 'id="search-results"' in part
    assert "<html" not in part
    assert "Nothing has these words" in client.get("/search?q=zebra").content.decode()


def test_queries_do_not_grow(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    client = client_of(alice)

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get("/search?q=winter")
        return len(captured)

    lamps.add(alice, "winter 1")
    make_operation(alice, resource_label="winter 1")
    client.get("/search?q=winter")
    with_one = count()
    for n in (2, 3):
        lamps.add(alice, f"winter {n}")
        make_operation(alice, resource_label=f"winter {n}")
        make_account(alice.organization, number=f"{n:012}", name=f"winter {n}")
    assert count() == with_one
