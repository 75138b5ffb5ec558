"""Trouble at the provider, seen in a real browser: its cause and the next step come to the open page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import shoot, sign_up
from tests.frontend.test_browser import axe, until
from tests.live.server import Embedded

pytestmark = pytest.mark.e2e
Open = Callable[..., Any]
SAYS = "([place, words]) => document.querySelector(place)?.innerText.includes(words)"
PATIENCE = 20_000  # the machine may be busy with other tests


@pytest.fixture
def fault(server: Embedded) -> Iterator[Callable[..., None]]:
    """`fault(action=..., code=...)`: how the sandbox answers from now on."""
    with httpx.Client(base_url=server.environment()["CURFEW_SANDBOX_AWS_ENDPOINT"]) as sandbox:

        def set_to(**facts: Any) -> None:
            sandbox.delete("/_faults")
            if facts:
                sandbox.post("/_faults", json=[facts]).raise_for_status()

        yield set_to
        sandbox.delete("/_faults")


def test_trouble_is_told_with_its_cause_and_the_next_step(open_browser: Open, fault: Callable[..., None]) -> None:
    page = open_browser()
    sign_up(page, "Larkspur trouble", "tess@larkspur.test")
    page.goto("/welcome/method")
    page.get_by_role("button", name="Sandbox by keys").click()
    page.wait_for_url("**/welcome/done/**")
    until(page, SAYS, ["main", "Found: 12 cloud nodes"], timeout=60_000)
    page.goto("/cloud-nodes/")

    fault(action="StartInstances", code="InsufficientInstanceCapacity", status=500, times=9)
    page.locator("main input[type=checkbox][name=on]").first.check(force=True)
    until(page, SAYS, ["main", "1 to wake"])
    page.get_by_role("button", name="Apply Changes").click()
    until(page, SAYS, ["#page-summary", "has no free capacity"], timeout=PATIENCE)
    until(page, SAYS, ["#page-summary", "Try again in a few minutes, or wake"], timeout=PATIENCE)
    assert axe(page) == []
    shoot(page, "no-capacity")

    fault(action="StartInstances", delay=9, times=1)
    page.get_by_role("button", name="Retry waking").first.click()
    until(page, SAYS, ["main table", "AWS is slow: nothing to do, Curfew waits"], timeout=PATIENCE)
    fault()
    until(page, SAYS, ["main table", "Awake"], timeout=60_000)
    assert "has no free capacity" not in page.inner_text("#page-summary")
