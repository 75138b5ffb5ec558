"""Sleep and Wake of any sleepable: asked with the blast radius, ordered by POST, refused to whoever may not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.test import Client

from tests.dashboard.conftest import Lamps
from tests.personas import Persona

pytestmark = pytest.mark.django_db
ClientOf = Callable[[Persona], Client]


def test_the_question_names_the_blast_radius(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    view = lamps.add(alice, "hall", cost="1.50")
    page = client_of(alice).get(f"/sleepables/lamp/{view.id}/sleep").content.decode()
    assert "Put hall to sleep?" in page
    assert "What stops" in page
    assert "$1.50" in page
    assert "Potential" in page
    assert lamps.asked == []


def test_what_is_protected_is_said_to_keep_running(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    view = lamps.add(alice, "hall", protections=("It lights the emergency exit.",))
    page = client_of(alice).get(f"/sleepables/lamp/{view.id}/sleep").content.decode()
    assert "It lights the emergency exit." in page
    assert "What stops" not in page


def test_no_saving_is_invented(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    view = lamps.add(alice, "hall", cost=None)
    page = client_of(alice).get(f"/sleepables/lamp/{view.id}/sleep").content.decode()
    assert "Saves" not in page


@pytest.mark.parametrize("verb", ["sleep", "wake"])
def test_a_post_orders_and_returns(olga: Persona, client_of: ClientOf, lamps: Lamps, verb: str) -> None:
    view = lamps.add(olga, "hall")
    response = client_of(olga).post(f"/sleepables/lamp/{view.id}/{verb}", {"next": "/operations/"})
    assert (response.status_code, response["Location"]) == (302, "/operations/")
    assert [(asked, one, options) for asked, one, _, options in lamps.asked] == [(verb, view.id, {"cause": "hand"})]


@pytest.mark.parametrize("elsewhere", ["https://evil.test/", "//evil.test", "javascript:alert(1)"])
def test_the_return_stays_here(alice: Persona, client_of: ClientOf, lamps: Lamps, elsewhere: str) -> None:
    view = lamps.add(alice, "hall")
    assert client_of(alice).post(f"/sleepables/lamp/{view.id}/sleep", {"next": elsewhere})["Location"] == "/"


def test_htmx_gets_a_notice_and_no_page(
    alice: Persona, client_of: ClientOf, lamps: Lamps, htmx: dict[str, str]
) -> None:
    view = lamps.add(alice, "hall")
    response = client_of(alice).post(f"/sleepables/lamp/{view.id}/sleep", headers=htmx)
    assert response.status_code == 204
    told = json.loads(response["HX-Trigger"])
    assert told["toast"]["text"] == "hall falls asleep"
    assert {"dialog:close", "live:home"} <= told.keys()


def test_what_sleeps_already_is_said(alice: Persona, client_of: ClientOf, lamps: Lamps, htmx: dict[str, str]) -> None:
    view = lamps.add(alice, "hall", "asleep")
    response = client_of(alice).post(f"/sleepables/lamp/{view.id}/sleep", headers=htmx)
    assert json.loads(response["HX-Trigger"])["toast"]["text"] == "hall is asleep already"


def test_a_viewer_is_refused(alice: Persona, bob: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    view = lamps.add(alice, "hall")
    assert client_of(bob).post(f"/sleepables/lamp/{view.id}/sleep").status_code == 403
    assert client_of(bob).get(f"/sleepables/lamp/{view.id}/sleep").status_code == 403
    offer = f"/sleepables/lamp/{view.id}/sleep"
    assert offer in client_of(alice).get("/").content.decode()
    assert offer not in client_of(bob).get("/").content.decode()
    assert lamps.asked == []


@pytest.mark.parametrize("method", ["get", "post"])
def test_another_organization_sees_nothing(
    alice: Persona, mallory: Persona, client_of: ClientOf, lamps: Lamps, method: str
) -> None:
    view = lamps.add(alice, "hall")
    assert getattr(client_of(mallory), method)(f"/sleepables/lamp/{view.id}/sleep").status_code == 404
    assert lamps.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/sleepables/lamp/{id}/explode",
        "/sleepables/torch/{id}/sleep",
        "/sleepables/lamp/0f8fad5b-d9cb-469f-a165-70867728950e/sleep",
    ],
)
def test_nonsense_is_not_found(alice: Persona, client_of: ClientOf, lamps: Lamps, path: str) -> None:
    view = lamps.add(alice, "hall")
    assert client_of(alice).post(path.format(id=view.id)).status_code == 404


def test_a_visitor_is_turned_away(alice: Persona, lamps: Lamps) -> None:
    view = lamps.add(alice, "hall")
    assert Client().post(f"/sleepables/lamp/{view.id}/sleep").status_code in (302, 401)
    assert lamps.asked == []
