"""People in a real browser: passkeys with a virtual authenticator, push, an invitation without scripts, every page of
Settings in both sizes and colours."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import PASSWORD, log_in, sign_up
from tests.fakes.push import FakePushService
from tests.frontend.test_browser import axe, until
from tests.live.server import Embedded

pytestmark = pytest.mark.e2e
Open = Callable[..., Any]
SAYS = "([place, words]) => document.querySelector(place)?.innerText.includes(words)"
SHOWN = """async () => { const r = await navigator.serviceWorker.getRegistration('/static/js/');
    return (await r.getNotifications()).map(n => n.title + '|' + n.tag).join() === 'Start failed|x1'; }"""
SETTINGS = [
    "/settings/",
    "/settings/security",
    "/settings/notifications/mine",
    "/settings/my-data",
    "/settings/organization",
    "/settings/cloud-integrations",
    "/settings/members",
    "/settings/api-keys",
    "/settings/agents",
    "/settings/notifications",
    "/settings/notifications/messages",
    "/settings/budgets",
]


@pytest.fixture
def at_home(server: Embedded) -> str:
    """The same server by a name: an address cannot be the party of a passkey."""
    return f"http://localhost:{server.port}"


def _is_it_still_you(page: Any) -> None:
    if "/account/reauthenticate" in page.url:
        page.fill("[name=password]", PASSWORD)
        page.click("main button[type=submit]")


@pytest.fixture(scope="module")
def settled(chromium: Any, server: Embedded) -> str:
    """Somebody whose wizard is closed; their address."""
    context = chromium.new_context(base_url=server.base_url)
    page = context.new_page()
    sign_up(page, "Meadow", "mara@meadow.test")
    page.get_by_text("Skip for now").click()
    page.wait_for_url(lambda url: "/welcome" not in url)
    context.close()
    return "mara@meadow.test"


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_every_page_of_settings_is_accessible_and_fits(
    open_browser: Open, settled: str, width: int, theme: str
) -> None:
    page = open_browser(width=width, theme=theme)
    log_in(page, settled)
    for path in SETTINGS:
        page.goto(path)
        page.wait_for_timeout(150)
        assert page.locator("nav[aria-label=Settings] [aria-current=page]").count() == 1, path
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert axe(page) == [], path


def test_a_passkey_is_added_and_logs_in_without_a_password(open_browser: Open, settled: str, at_home: str) -> None:
    page = open_browser()
    keys = page.context.new_cdp_session(page)
    keys.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    keys.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.goto(f"{at_home}/login")
    page.fill("[name=login]", settled)
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)
    page.goto(f"{at_home}/account/2fa/webauthn/add/")
    _is_it_still_you(page)
    page.wait_for_selector("#mfa_webauthn_add")
    assert axe(page) == []
    page.check("[name=passwordless]")
    page.fill("[name=name]", "Laptop")
    page.click("#mfa_webauthn_add")
    page.wait_for_url(lambda url: "/webauthn/add" not in url)
    page.goto(f"{at_home}/settings/security")
    security = page.inner_text("main")
    assert "Laptop" in security
    assert "logs in without a password" in security
    assert "10 codes left" in security
    page.context.clear_cookies()
    page.goto(f"{at_home}/login")
    page.click("#passkey_login")
    page.wait_for_url(lambda url: "/login" not in url)
    page.goto(f"{at_home}/settings/security")
    assert "Laptop" in page.inner_text("main")
    page.context.clear_cookies()  # and as a second factor
    page.goto(f"{at_home}/login")
    page.fill("[name=login]", settled)
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_selector("#mfa_webauthn_authenticate")
    assert axe(page) == []
    page.click("#mfa_webauthn_authenticate")
    page.wait_for_url(lambda url: "/login" not in url and "/2fa/" not in url)
    page.goto(f"{at_home}/settings/security")  # take it away again: the other tests log in by password alone
    page.get_by_role("link", name="Remove Laptop").click()
    _is_it_still_you(page)
    page.get_by_role("button", name="Remove").click()
    page.wait_for_url(lambda url: "/remove" not in url)


def test_a_browser_is_turned_on_and_the_worker_shows_what_comes(open_browser: Open, settled: str, at_home: str) -> None:
    with FakePushService() as push:
        page = open_browser()
        page.context.grant_permissions(["notifications"], origin=at_home)
        # no push service of the browser's maker can be reached from here, so the subscription is the fake's
        told = {"endpoint": push.url, "keys": push.browser.keys}
        page.add_init_script(
            f"""PushManager.prototype.getSubscription = async () => null;
            PushManager.prototype.subscribe = async (options) => {{
              if (!options.userVisibleOnly || options.applicationServerKey.length !== 65) {{ throw new Error("options"); }}
              return {{ toJSON: () => ({told!r}), unsubscribe: async () => true }};
            }};"""
        )
        page.goto(f"{at_home}/login")
        page.fill("[name=login]", settled)
        page.fill("[name=password]", PASSWORD)
        page.click("main button[type=submit]")
        page.wait_for_url(lambda url: "/login" not in url)
        page.goto(f"{at_home}/settings/notifications/mine")
        page.click("[data-push-on]")
        until(page, SAYS, ["#browsers", "Chrome on Linux"], timeout=15_000)
        page.get_by_role("button", name=re.compile("Send a test message")).click()
        until(page, SAYS, ["body", "on its way to the browser"])
        assert [m["title"] for m in push.got] == ["Test message from Curfew"]
        payload = {"id": "x1", "title": "Start failed", "body": "The zone is full.", "url": "/operations/"}
        for attempt in range(5):  # a message that comes while the worker is being started is lost, as in a real browser
            _deliver(page, at_home, payload)
            try:
                until(page, SHOWN, timeout=3000)
                break
            except AssertionError:
                assert attempt < 4, "no notification after five messages"
        page.get_by_role("button", name=re.compile("Remove Chrome")).click()
        until(page, SAYS, ["body", "The browser is removed."])


def _deliver(page: Any, origin: str, payload: dict[str, str]) -> None:
    """Hand a push message to the worker, as the browser does when its push service speaks."""
    import json

    cdp = page.context.new_cdp_session(page)
    found: list[str] = []
    cdp.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda e: found.extend(r["registrationId"] for r in e["registrations"]),
    )
    cdp.send("ServiceWorker.enable")
    for _ in range(100):
        if found:
            break
        page.wait_for_timeout(50)
    message = {"origin": origin, "registrationId": found[-1], "data": json.dumps(payload)}
    cdp.send("ServiceWorker.deliverPushMessage", message)


def test_an_invitation_is_sent_and_taken_without_scripts(open_browser: Open, settled: str, server: Embedded) -> None:
    page = open_browser(scripts=False)
    log_in(page, settled)
    page.goto("/settings/members")
    page.fill("[name=email]", "nina@meadow.test")
    page.select_option("[name=role]", "operator")
    page.get_by_role("button", name="Invite").click()
    link = page.input_value("#invited-link")
    guest = open_browser(width=390, scripts=False)
    guest.goto(urllib.parse.urlsplit(link).path)
    assert "Mara" in guest.inner_text("main") or "mara" in guest.inner_text("main")
    guest.fill("[name=password]", PASSWORD)
    guest.click("main button[type=submit]")
    guest.goto("/settings/")
    assert "You are operator of Meadow." in guest.inner_text("main")
    page.goto("/settings/members")
    assert "nina@meadow.test" in page.inner_text("#members")
    assert "open invitation" not in page.inner_text("#members")
