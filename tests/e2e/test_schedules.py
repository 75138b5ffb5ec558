"""A schedule in a real browser: painted by keyboard and mouse, saved, its calendar changed, without a script error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import log_in, shoot, sign_up
from tests.e2e.test_placement import CALL, SAYS
from tests.frontend.test_browser import axe, until

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


def cell(page: Any, day: int, number: int) -> Any:
    return page.locator(f'.cell[data-d="{day}"][data-h="{number}"]')


def test_half_hours_are_painted_copied_undone_and_saved(open_browser: Callable[..., Any]) -> None:
    page = open_browser()
    sign_up(page, "Half Past", "half@past.test")
    page.goto("/hibernation/new")
    page.fill("[name=name]", "Half hours")
    hourly = week(page)
    page.click('.seg label:has-text("Half hours")')
    assert week(page)[0] == "".join(c * 2 for c in hourly[0])
    assert page.locator(".unsaved").is_hidden(), "the same paint is no change"
    cell(page, 0, 17).focus()  # 08:30
    assert "08:30, asleep, pre-warm" in cell(page, 0, 17).get_attribute("aria-label")
    page.keyboard.press("Space")
    assert "0.5 hours awake" in page.inner_text("[data-paint-say]")
    assert week(page)[0] == "0" * 17 + "1" * 19 + "0" * 12
    assert "9.5 h" in page.inner_text('[data-sum="0"]')
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")  # copies Monday
    assert week(page)[:5] == [week(page)[0]] * 5
    page.click('.seg label:has([name=cells][value="24"])')
    assert week(page)[4] == "0" * 8 + "1" * 10 + "0" * 6, "an hour is awake where a half is"
    page.keyboard.press("Control+z")
    assert week(page)[4] == "0" * 17 + "1" * 19 + "0" * 12
    assert page.locator("[name=cells][value='48']").is_checked()
    page.click('summary:has-text("Presets")')
    page.click("[data-preset=never]")
    assert set(week(page)) == {"0" * 48}
    page.click("[data-undo]")
    start, end = cell(page, 5, 21).bounding_box(), cell(page, 6, 22).bounding_box()
    page.mouse.move(start["x"] + 3, start["y"] + 4)
    page.mouse.down()
    page.mouse.move(end["x"] + 3, end["y"] + 4, steps=4)
    page.mouse.up()
    painted = week(page)
    assert painted[5:] == ["0" * 21 + "11" + "0" * 25] * 2
    page.click("main .panel-foot button[type=submit]")
    page.wait_for_url("**/hibernation/*-*/")
    assert week(page) == painted
    assert page.locator(".paint .cell").count() == 7 * 48
    assert page.locator(".unsaved").is_hidden()
    assert "10:30" in page.inner_text("#days14"), "the days ahead are in half hours"
    assert axe(page) == []
    cell(page, 6, 40).focus()
    page.keyboard.press("Space")
    until(page, SAYS, ["#days14", "as painted, not saved yet"])
    assert "20:00–20:30" in page.inner_text("#days14"), "before anything is saved"
    page.click("[data-undo]")
    until(page, "() => !document.querySelector('#days14').innerText.includes('20:00–20:30')")


def test_a_finger_paints_and_scrolls(chromium: Any, server: Any) -> None:
    """A phone: a tap paints one cell, a drag with a brush a rectangle, and a drag without one scrolls the week."""
    context = chromium.new_context(
        base_url=server.base_url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    try:
        page = context.new_page()
        sign_up(page, "Finger", "finger@touch.test")
        page.goto("/hibernation/new")
        touch = page.context.new_cdp_session(page)

        def drag(start: tuple[float, float], *points: tuple[float, float]) -> None:
            for kind, place in (("touchStart", start), *(("touchMove", p) for p in points), ("touchEnd", None)):
                where = [] if place is None else [{"x": place[0], "y": place[1]}]
                touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
                page.wait_for_timeout(20)

        def middle(day: int, number: int) -> tuple[float, float]:
            box = cell(page, day, number).bounding_box()
            return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def place(left: int) -> None:
            """The grid in the middle of the screen, scrolled so far."""
            page.evaluate("document.querySelector('.paintwrap').scrollIntoView({block: 'center', behavior: 'instant'})")
            page.evaluate("left => { document.querySelector('.paintwrap').scrollLeft = left; }", left)

        before = week(page)
        place(0)
        cell(page, 2, 4).tap()
        assert week(page)[2][4] == "1"
        assert [row for d, row in enumerate(week(page)) if d != 2] == [row for d, row in enumerate(before) if d != 2]

        x, y = middle(2, 6)
        drag((x, y), (x - 40, y), (x - 80, y), (x - 130, y))
        assert week(page)[2] == before[2][:4] + "1" + before[2][5:], "the Auto brush leaves dragging to the scroller"
        page.wait_for_timeout(200)
        assert page.evaluate("document.querySelector('.paintwrap').scrollLeft") > 40

        page.tap('.seg label:has-text("Awake")')
        place(60)
        left = page.evaluate("document.querySelector('.paintwrap').scrollLeft")
        drag(middle(5, 6), middle(5, 7), middle(6, 8))
        assert [row[5:10] for row in week(page)[5:]] == ["01110", "01110"]
        assert page.evaluate("document.querySelector('.paintwrap').scrollLeft") == left, "a brush does not scroll"
        page.tap("[data-undo]")
        assert week(page)[5:] == before[5:]

        page.tap('.seg label:has-text("Half hours")')
        place(60)
        drag(middle(5, 8), middle(6, 10))
        assert [row[7:12] for row in week(page)[5:]] == ["01110", "01110"]
        place(0)
        page.tap('[data-copy="0"]')
        assert week(page)[4] == week(page)[0]
        painted = week(page)
        page.fill("[name=name]", "By finger")
        page.tap("main .panel-foot button[type=submit]")
        page.wait_for_url("**/hibernation/*-*/")
        assert week(page) == painted
    finally:
        context.close()


@pytest.fixture(scope="module")
def hibernator(chromium: Any, server: Any) -> list[str]:
    """Somebody with two clusters on a schedule; the paths of all their pages about sleep."""
    context = chromium.new_context(base_url=server.base_url)
    page = context.new_page()
    sign_up(page, "Hibernator", "ada@hibernator.test")
    page.goto("/hibernation/new")
    for name in ("larkspur-dev", "larkspur-test"):
        status, cluster = page.evaluate(CALL, ["/api/clusters", {"name": name}])
        assert status == 201, cluster
    page.fill("[name=name]", "Office")
    page.click("main .panel-foot button[type=submit]")
    page.wait_for_url("**/hibernation/*-*/")
    schedule = page.url.removeprefix(server.base_url)
    for one in page.locator("[name=add]").all():
        one.check()
    page.get_by_role("button", name="Apply").click()
    until(page, "() => document.querySelectorAll('[name=remove]').length === 2")
    why = page.locator('a[href*="/hibernation/why/"]').first.get_attribute("href")
    context.close()
    own = [f"{schedule}?day=2031-06-14", why, f"/clusters/{cluster['id']}/sleep"]
    return ["/hibernation/", "/hibernation/new", "/hibernation/assign", "/hibernation/history", "/hibernation/savings",
            *own]  # fmt: skip


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_every_page_about_sleep_is_accessible_and_fits(
    open_browser: Callable[..., Any], hibernator: list[str], width: int, theme: str
) -> None:
    page = open_browser(width=width, theme=theme)
    log_in(page, "ada@hibernator.test")
    problems = {}
    for number, path in enumerate(hibernator):
        page.goto(path)
        page.wait_for_timeout(300)
        wrong = axe(page)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append("scrolls sideways")
        if wrong:
            problems[path] = wrong
        shoot(page, f"sleep-{number}-{width}-{theme}")
    assert problems == {}
