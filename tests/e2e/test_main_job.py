"""The main job as a newcomer does it: sign up, connect the sandbox, wake a node, see the money, put it to sleep."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import log_in, shoot, sign_up
from tests.frontend.test_browser import axe, until

pytestmark = pytest.mark.e2e
Open = Callable[..., Any]
SAYS = "([place, words]) => document.querySelector(place)?.innerText.includes(words)"


def _connect_sandbox(page: Any, method: str) -> None:
    page.goto("/welcome/method")
    page.get_by_role("button", name=f"Sandbox by {method}").click()
    page.wait_for_url("**/welcome/done/**")
    until(page, SAYS, ["main", "Found: 12 cloud nodes"], timeout=30_000)


@pytest.mark.parametrize("method", ["keys", "role"])
def test_from_sign_up_to_the_first_dollar_kept(open_browser: Open, method: str) -> None:
    page = open_browser()
    email = f"alice-{method}@larkspur.test"
    sign_up(page, f"Larkspur {method}", email)
    _connect_sandbox(page, method)

    page.goto("/cloud-nodes/")
    assert page.locator("main input[type=checkbox][name=on]").count() == 4
    first = page.locator("main input[type=checkbox][name=on]").first
    first.check(force=True)
    until(page, SAYS, ["main", "1 to wake"])
    page.get_by_role("button", name="Apply Changes").click()
    until(page, SAYS, ["main table", "Waking"])
    until(page, SAYS, ["main table", "Awake"], timeout=30_000)
    until(page, "() => !document.querySelector('header').innerText.includes('$0.00\\n/h')", timeout=10_000)
    shoot(page, f"awake-{method}")

    page.locator("main input[type=checkbox][name=on]").first.uncheck(force=True)
    page.get_by_role("button", name="Apply Changes").click()
    until(page, "() => !/Awake|Waking|Falling/.test(document.querySelector('main table').innerText)", timeout=30_000)

    page.goto("/costs/")
    assert re.search(r"Spent\s+Spent\s+\$0\.0\d+", page.inner_text("main")), page.inner_text("main")[:400]
    page.goto("/audit/")
    log = page.inner_text("main table")
    for words in ("Asked to wake", "Woke", "Asked to put", "Fell asleep", "Scanned"):
        assert words in log, f"{words!r} is not in the log"
    page.goto("/audit/check")
    assert (
        "unbroken" in page.inner_text("main").lower()
        or "intact" in page.inner_text("main").lower()
        or "whole" in page.inner_text("main").lower()
    )


def test_the_wizard_can_be_skipped_and_does_not_come_back(open_browser: Open) -> None:
    page = open_browser()
    sign_up(page, "Skipper", "skip@skipper.test")
    page.get_by_text("Skip for now").click()
    page.wait_for_url(lambda url: "/welcome" not in url)
    assert "Connect" in page.inner_text("main")
    page.context.clear_cookies()
    log_in(page, "skip@skipper.test")
    assert "/welcome" not in page.url


PAGES = {
    "home": "/",
    "nodes": "/cloud-nodes/",
    "ledger": "/costs/",
    "operations": "/operations/",
    "audit": "/audit/",
    "accounts": "/settings/cloud-integrations",
    "settings": "/settings/",
    "members": "/settings/members",
    "security": "/settings/security",
    "keys": "/settings/api-keys",
    "budgets": "/settings/budgets",
}


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_every_page_is_accessible_and_fits(open_browser: Open, width: int, theme: str) -> None:
    """After the main job, as the person who did it."""
    page = open_browser(width=width, theme=theme)
    log_in(page, "alice-keys@larkspur.test")
    problems = {}
    for name, path in PAGES.items():
        page.goto(path)
        page.wait_for_timeout(300)
        found = axe(page)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append("scrolls sideways")
        if found:
            problems[name] = found
        shoot(page, f"{name}-{width}-{theme}")
    assert problems == {}


def test_security_groups_are_picked_from_the_account(open_browser: Open) -> None:
    """After the main job, as the person who did it: the sandbox has no third account."""
    page = open_browser()
    log_in(page, "alice-keys@larkspur.test")
    page.goto("/node-templates/")
    page.get_by_text("Create New Template").click()
    page.wait_for_selector("#template-form")
    page.fill("[name=name]", "Fenced")
    for _ in range(3):
        page.locator("[data-wizard-next]").click()
    page.select_option("[name=account_id]", index=1)
    page.wait_for_selector("#sg-list input", timeout=20_000)
    boxes = page.locator("#sg-list input")
    chosen = boxes.first.get_attribute("value")
    page.fill("[data-filter='#sg-list']", str(chosen))
    until(page, "() => [...document.querySelectorAll('#sg-list li')].filter((one) => !one.hidden).length === 1")
    boxes.first.check()
    page.locator("[data-wizard-next]").click()
    until(page, SAYS, ["#template-json", str(chosen)], timeout=20_000)
    page.evaluate("window.still = true")
    page.get_by_role("button", name="Create", exact=True).click()
    until(page, SAYS, ["main table", "Fenced"], timeout=20_000)
    assert page.evaluate("window.still"), "the list changed without a reload"
    page.get_by_role("link", name="Fenced").click()
    page.wait_for_selector(f"#sg-list input[value='{chosen}']:checked", state="attached", timeout=20_000)


def test_the_grid_works_without_scripts(open_browser: Open) -> None:
    page = open_browser(scripts=False)
    log_in(page, "alice-keys@larkspur.test")
    page.goto("/cloud-nodes/")
    page.locator("main input[type=checkbox][name=on]").nth(1).check(force=True)
    page.get_by_role("button", name=re.compile("Apply|Review")).first.click()
    assert "Apply these changes?" in page.inner_text("main")
    page.get_by_role("button", name="Apply Changes").click()
    page.goto("/operations/")
    assert "Wake cloud node" in page.inner_text("main")
