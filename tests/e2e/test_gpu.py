"""A GPU machine in a real browser and on a real Docker engine: rented by a race, put to sleep, woken, given a standby,
failed over; each step seen on the open page without reloading it, and everything accessible."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import NotFound

from tests.e2e.conftest import shoot
from tests.fakes.dockerd import DockerEngine
from tests.frontend.test_browser import axe, until
from tests.gpu_fleet.test_docker_life import STAFF, engine, names  # noqa: F401  a fixture
from tests.live.client import PASSWORD
from tests.live.server import Embedded

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE = 240_000
EMAIL = "gwen@fleet.test"


@pytest.fixture
def fleet(engine: DockerEngine, tmp_path: Path) -> Iterator[Embedded]:  # noqa: F811
    """A Curfew whose owner has connected the Docker engine of this machine."""
    with Embedded(folder=tmp_path / "data", CURFEW_DOCKER_HOST=f"unix://{engine.socket}") as curfew:
        api = curfew.member("Fleet", EMAIL)
        curfew.manage("shell", "-c", STAFF)
        api.request("PUT", "/api/settings", {"local_hourly": "0.40", "auto_sleep": False})
        connected = api.post("/api/client/accounts/connect", {"provider": "docker", "method": "local", "name": "Here"})
        assert connected.status_code in (200, 201, 202), connected.text
        yield curfew
        client = engine.client()
        for name in names(engine):
            with contextlib.suppress(NotFound):
                client.api.remove_container(name, force=True)
        client.close()


def says(page: Any, place: str, words: str) -> None:
    """Wait until a part of the open page says so."""
    look = "([place, words]) => document.querySelector(place)?.innerText.includes(words)"
    until(page, look, arg=[place, words], timeout=PATIENCE)


def test_a_machine_from_the_race_to_its_second_wake(chromium: Any, fleet: Embedded) -> None:
    context = chromium.new_context(base_url=fleet.base_url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto("/login")
    page.fill("[name=login]", EMAIL)
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)
    page.goto("/gpu-fleet/deploy")
    page.fill("[name=name]", "ember")
    page.get_by_role("button", name="Look at offers").click()
    says(page, "#offers", "fit")
    assert axe(page) == []
    page.get_by_role("button", name="Start the race").click()
    says(page, "h1", "ember")
    says(page, "main", "Won in")
    says(page, "h1", "Awake")
    assert axe(page) == []
    shoot(page, "gpu-awake")

    page.get_by_role("button", name="Put to sleep").click(timeout=PATIENCE)
    says(page, "h1", "Asleep")
    says(page, "main", "Verified")
    page.get_by_role("button", name="Wake").click(timeout=PATIENCE)
    says(page, "h1", "Awake")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert axe(page) == []
    shoot(page, "gpu-again-390")
    page.set_viewport_size({"width": 1440, "height": 900})

    page.get_by_role("button", name="Give it a standby").click()
    page.get_by_role("button", name="Fail over").wait_for(timeout=PATIENCE)
    says(page, "#standby", "the last")
    page.get_by_text("Rules").click()
    page.get_by_label("Rent a GPU again and fail back by itself").uncheck()
    page.locator("#standby").get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Fail over").click()
    page.get_by_role("dialog").get_by_role("button").last.click()
    says(page, "#standby dd", "the standby")
    assert axe(page) == []
    shoot(page, "gpu-failed-over")
    page.get_by_role("button", name="Fail back").wait_for(timeout=PATIENCE)
    assert broken == []
    context.close()
