"""A schedule in a real browser: painted by keyboard and mouse, saved, its calendar changed, without a script error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import sign_up
from tests.frontend.test_browser import axe

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def week(page: Any) -> list[str]:
    return page.input_value("[data-paint-field]").split(",")


def test_a_week_is_painted_saved_and_has_holidays(open_browser: Callable[..., Any]) -> None:
    page = open_browser()
    sign_up(page, "Dusk Works", "dusk@works.test")
    page.goto("/hibernation/new")
    page.fill("[name=name]", "Studio hours")
    page.select_option("[name=warn_minutes]", "60")
    page.locator('.cell[data-d="5"][data-h="10"]').focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(f"Shift+{key}")
    page.keyboard.press("Space")
    assert week(page)[5:] == ["0" * 10 + "1111" + "0" * 10, "0" * 11 + "111" + "0" * 10]
    start = page.locator('.cell[data-d="0"][data-h="20"]').bounding_box()
    end = page.locator('.cell[data-d="1"][data-h="21"]').bounding_box()
    page.mouse.move(start["x"] + 4, start["y"] + 4)
    page.mouse.down()
    page.mouse.move(end["x"] + 4, end["y"] + 4, steps=4)
    page.mouse.up()
    assert [row[20:22] for row in week(page)[:3]] == ["11", "11", "00"]
    page.keyboard.press("Control+z")
    assert week(page)[0][20:22] == "00"
    page.keyboard.press("Control+Shift+z")
    painted = week(page)
    page.click("main .panel-foot button[type=submit]")
    page.wait_for_url("**/hibernation/*-*/")
    assert week(page) == painted
    page.select_option("#country", "DE")
    page.click("#year form button[type=submit]")
    page.wait_for_selector(".mday.hol")
    page.click('.mday:not(.hol):has-text("17")')
    page.wait_for_url("**day=*")
    page.click('#day .seg label:has-text("Sprint day")')
    page.fill("#day-name", "Launch")
    page.click("#day button[type=submit]")
    page.wait_for_selector('.mday.up[title$="Launch, awake around the clock"]')
    assert axe(page) == []
