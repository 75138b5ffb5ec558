"""The frame in a real browser: policy, accessibility, morphing, errors, the live socket, keyboard."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Error as PlaywrightError

from tests.frontend.conftest import ROOT, Site

pytestmark = pytest.mark.e2e

PATHS = ["/", "/pictures", "/login", "/problem/403", "/problem/404", "/problem/500"]
Open = Callable[..., Any]


def axe(page: Any) -> list[str]:
    """What axe-core objects to; evaluated through the debugger, so the policy of the page stays as it is."""
    source = (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text()
    page.context.new_cdp_session(page).send("Runtime.evaluate", {"expression": f"{source};0"})
    found = page.evaluate(
        "axe.run({resultTypes: ['violations']}).then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.target.join(' ')).slice(0, 4)]))"
    )
    return [f"{name}: {', '.join(where)}" for name, where in found]


def until(page: Any, expression: str, arg: Any = None, timeout: float = 8000) -> None:
    """Wait until it is true. Playwright's own wait evaluates strings inside the page, which the policy forbids."""
    end = time.monotonic() + timeout / 1000
    while True:
        try:
            if page.evaluate(expression, arg):
                return
        except PlaywrightError as error:
            if "context was destroyed" not in str(error):
                raise
        if time.monotonic() > end:
            raise AssertionError(f"never true: {expression}")
        page.wait_for_timeout(50)


def wait_live(page: Any, state: str) -> None:
    until(page, "state => document.documentElement.dataset.live === state", arg=state)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_pages_are_accessible_and_fit(open_page: Open, path: str, width: int, theme: str) -> None:
    page = open_page(path, width=width, theme=theme)
    page.wait_for_timeout(350)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate("document.documentElement.dataset.bsTheme") == theme
    assert axe(page) == []


def test_open_dialog_menu_drawer_and_alert_are_accessible(open_page: Open) -> None:
    page = open_page("/")
    page.click("#p403")
    page.wait_for_selector("#alerts .banner")
    page.click("summary.org")
    assert axe(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Confirm").click()
    page.wait_for_selector("#dialog-host[open]")
    assert axe(page) == []
    phone = open_page("/", width=390)
    phone.click(".bottombar [data-rail-toggle]")
    phone.wait_for_selector(".rail.is-open")
    assert axe(phone) == []


def test_rail_drawer_keeps_the_focus_and_gives_it_back(open_page: Open) -> None:
    page = open_page("/", width=390)
    page.click(".bottombar [data-rail-toggle]")
    for _ in range(30):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#rail') !== null")
    page.keyboard.press("Escape")
    assert not page.is_visible("#rail")
    assert page.evaluate("document.activeElement.matches('.bottombar [data-rail-toggle]')")


def test_live_update_morphs_and_keeps_typed_text_focus_and_selection(open_page: Open, site: Site) -> None:
    page = open_page("/")
    wait_live(page, "on")
    page.fill("#note", "half a sentence")
    page.click("#row-n3 [data-pick]")
    page.click("summary:has-text('Columns')")
    page.focus("#note")
    page.evaluate("document.querySelector('#note').setSelectionRange(4, 4)")
    version = site.order(bump=1, send="nodes")["version"]
    page.wait_for_selector(f"[data-version]:has-text('version {version}')")
    assert page.input_value("#note") == "half a sentence"
    assert page.evaluate("document.activeElement.id + document.activeElement.selectionStart") == "note4"
    assert page.is_checked("#row-n3 [data-pick]")
    assert page.get_attribute("#row-n3", "aria-selected") == "true"
    assert page.is_visible("#bulk")
    assert page.inner_text("#bulk [data-count]") == "1"
    page.keyboard.press("x")
    assert page.input_value("#note") == "halfx a sentence"
    site.order(bump=1, send="nodes")
    page.wait_for_selector(f"[data-version]:has-text('version {version + 1}')")
    assert page.input_value("#note") == "halfx a sentence"


def test_open_menu_survives_a_live_update(open_page: Open, site: Site) -> None:
    page = open_page("/")
    wait_live(page, "on")
    page.click("summary:has-text('Columns')")
    version = site.order(bump=1, send="nodes")["version"]
    page.wait_for_selector(f"[data-version]:has-text('version {version}')")
    assert page.get_attribute("details.columnbox", "open") is not None


def test_events_name_the_ids_and_a_burst_is_one_event(open_page: Open, site: Site) -> None:
    page = open_page("/")
    wait_live(page, "on")
    page.evaluate("window.got = []; document.body.addEventListener('live:things', e => got.push(e.detail.ids))")
    for _ in range(5):
        site.order(send="things")
    until(page, "got.length > 0")
    page.wait_for_timeout(300)
    assert page.evaluate("got.flat().every(id => id === 'n1') && got.length < 5")


@pytest.mark.alone
def test_without_the_socket_it_polls_and_recovers(open_page: Open, site: Site) -> None:
    page = open_page("/")
    wait_live(page, "on")
    site.order(socket="closed")
    site.order(close=1012)
    wait_live(page, "polling")
    assert page.get_attribute(".live", "data-live") == "polling"
    version = site.order(bump=1)["version"]
    began = time.monotonic()
    page.wait_for_selector(f"[data-version]:has-text('version {version}')")
    assert time.monotonic() - began < 6.5
    version = site.order(bump=1, socket="open")["version"]  # missed while away
    page.wait_for_selector(".live[data-live=on]", timeout=15000)
    page.wait_for_selector(f"[data-version]:has-text('version {version}')", timeout=2500)


@pytest.mark.alone
def test_polling_is_quicker_while_something_wakes_and_rests_in_a_hidden_tab(open_page: Open, site: Site) -> None:
    site.order(waking=1, socket="closed")
    page = open_page("/")
    wait_live(page, "polling")
    page.evaluate("window.times = []; document.body.addEventListener('live:poll', () => times.push(performance.now()))")
    until(page, "times.length >= 3", timeout=9000)
    gaps = page.evaluate("times.slice(1).map((t, i) => t - times[i])")
    assert all(1400 < gap < 2800 for gap in gaps), gaps
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true, configurable: true}); times.length = 0")
    page.wait_for_timeout(3200)
    assert page.evaluate("times.length") == 0


def test_refused_socket_stops_and_says_so(open_page: Open, site: Site) -> None:
    page = open_page("/")
    wait_live(page, "on")
    site.order(close=4401)
    page.wait_for_selector(".live[data-live=off]")
    assert "You are logged out" in page.inner_text("#alerts")
    assert page.get_attribute("#alerts a", "href").startswith("/login?next=")
    page.evaluate("window.polls = 0; document.body.addEventListener('live:poll', () => { polls += 1; })")
    page.wait_for_timeout(6000)
    assert page.evaluate("polls") == 0


@pytest.mark.parametrize(
    ("button", "said"),
    [("#p403", "You may not do this here"), ("#p409", "Already under way"), ("#p500", "Something broke on our side")],
)
def test_errors_are_said_and_never_swapped_into_a_cell(open_page: Open, button: str, said: str) -> None:
    page = open_page("/")
    title = page.title()
    page.click(button)
    page.wait_for_selector("#alerts .banner")
    assert said in page.inner_text("#alerts")
    assert page.inner_text("#cell") == "cell"
    assert page.title() == title
    assert page.locator("[aria-busy]").count() == 0
    page.click("#alerts [data-alert-close]")
    assert page.locator("#alerts .banner").count() == 0


def test_retry_sends_it_again(open_page: Open) -> None:
    page = open_page("/")
    page.click("#p409")
    page.wait_for_selector("#alerts [data-alert-retry]")
    assert "r-17" in page.inner_text("#alerts")
    with page.expect_request(re.compile(r"/problem/409")) as again:
        page.click("#alerts [data-alert-retry]")
    assert again.value.method == "POST"
    assert again.value.headers["x-csrftoken"]
    page.wait_for_selector("#alerts .banner")
    assert page.locator("#alerts .banner").count() == 1


def test_401_leads_to_the_log_in_and_back(open_page: Open) -> None:
    page = open_page("/")
    page.click("#p401")
    page.wait_for_url(re.compile(r"/login\?next=%2F"))


def test_failed_refresh_leaves_the_rows_alone(open_page: Open, site: Site) -> None:
    page = open_page("/")
    wait_live(page, "on")
    rows = page.locator("#things tbody tr").count()
    site.order(fail=500)
    with page.expect_response(lambda answer: answer.status == 500):
        site.order(send="nodes")
    page.wait_for_timeout(200)
    assert page.locator("#things tbody tr").count() == rows
    assert page.locator("#alerts .banner").count() == 0


def test_lost_network_is_said_for_what_a_person_did(open_page: Open) -> None:
    page = open_page("/")
    page.route("**/problem/409", lambda route: route.abort())
    page.click("#p409")
    page.wait_for_selector("#alerts .banner")
    assert "cannot be reached" in page.inner_text("#alerts")


def test_form_with_errors_comes_back_beside_its_fields(open_page: Open, site: Site) -> None:
    page = open_page("/")
    page.fill("#thing-form [name=name]", "a name")
    page.click("#thing-form button[type=submit]")
    page.wait_for_selector("#thing-form .form-error")
    assert page.input_value("#thing-form [name=name]") == "a name"
    assert page.get_attribute("#thing-form [name=budget]", "aria-invalid") == "true"
    described = page.get_attribute("#thing-form [name=budget]", "aria-describedby")
    assert page.inner_text(f"#{described}").strip() == "This field is required."
    page.fill("#thing-form [name=budget]", "3")
    page.check("#thing-form [name=mode][value=x]")
    page.click("#thing-form button[type=submit]")
    page.wait_for_selector(".toasty")
    assert "Saved" in page.inner_text("#toasts")
    assert page.get_attribute(".toasty", "data-kind") == "good"
    assert site.order()["posted"][-1]["budget"] == ["3"]


def test_dialog_opens_posts_closes_and_gives_the_focus_back(open_page: Open, site: Site) -> None:
    page = open_page("/")
    link = page.get_by_role("link", name="Confirm")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#dialog-host[open]")
    assert "Put 3 things to sleep?" in page.inner_text("#dialog-host")
    page.keyboard.press("Escape")
    page.wait_for_selector("#dialog-host:not([open])", state="attached")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Confirm"
    page.keyboard.press("Enter")
    page.wait_for_selector("#dialog-host[open]")
    page.click("#dialog-host button[type=submit]")
    page.wait_for_selector("#dialog-host:not([open])", state="attached")
    assert site.order()["posted"][-1] == {"confirm": "n1"}
    assert "Three things fall asleep" in page.inner_text("#toasts")


def test_confirmation_asks_in_our_own_dialog(open_page: Open, site: Site) -> None:
    page = open_page("/")
    before = len(site.order()["posted"])
    page.click("#ask")
    page.wait_for_selector("#confirm-dialog[open]")
    assert page.inner_text("#confirm-title") == "Stop it?"
    page.click("#confirm-dialog [value=no]")
    page.wait_for_timeout(200)
    assert len(site.order()["posted"]) == before
    page.click("#ask")
    with page.expect_response(re.compile("/confirm")):
        page.click("#confirm-dialog [value=yes]")
    assert site.order()["posted"][-1] == {"confirm": "asked"}


def test_grid_by_keyboard(open_page: Open, site: Site) -> None:
    page = open_page("/")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == page.evaluate("document.querySelector('#things tbody tr').id")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    assert page.inner_text("#bulk [data-count]") == "2"
    page.click("#bulk button[type=submit]")
    until(page, "!document.querySelector('[aria-busy]')")
    assert len(site.order()["posted"][-1]["ids"]) == 2
    page.click("[data-bulk-clear]")
    assert not page.is_visible("#bulk")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("open="))


def test_search_as_you_type_keeps_the_caret_and_the_address(open_page: Open) -> None:
    page = open_page("/")
    box = page.locator("#things-grid-search")
    box.click()
    page.keyboard.type("lark", delay=30)
    page.wait_for_url(re.compile("search=lark"))
    until(page, "document.querySelectorAll('#things tbody tr').length === 2")
    page.keyboard.type("-s", delay=30)
    until(page, "document.querySelectorAll('#things tbody tr').length === 1")
    assert box.input_value() == "lark-s"
    page.reload()
    assert page.locator("#things tbody tr").count() == 1
    assert page.input_value("#things-grid-search") == "lark-s"


def test_sort_and_pages_change_the_address_and_go_back(open_page: Open) -> None:
    page = open_page("/")
    first = page.inner_text("#things tbody tr .cell-name a")
    page.click(".th-sort")
    page.wait_for_url(re.compile("sort=-name"))
    until(page, "name => document.querySelector('#things tbody tr .cell-name a').textContent !== name", arg=first)
    page.click("[aria-label='Next page']")
    page.wait_for_url(re.compile(r"sort=-name.*page=2|page=2.*sort=-name"))
    until(
        page,
        "name => [...document.querySelectorAll('#things .cell-name a')].some(a => a.textContent === name)",
        arg=first,
    )
    page.go_back()
    until(
        page,
        "name => ![...document.querySelectorAll('#things .cell-name a')].some(a => a.textContent === name)",
        arg=first,
    )
    assert "page=2" not in page.url


def test_slash_and_control_k_reach_the_search(open_page: Open) -> None:
    page = open_page("/")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.matches('[data-global-search]')")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    assert page.evaluate("document.activeElement.matches('[data-global-search]')")


def test_theme_is_kept(open_page: Open, site: Site) -> None:
    page = open_page("/")
    page.click("[data-theme-toggle]")
    page.goto(f"{site.url}/")
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "dark"


def test_countdown_runs_and_times_are_local(open_page: Open, site: Site) -> None:
    site.order(waking=1)
    page = open_page("/")
    left = int(page.inner_text("#op-op1 .ring b"))
    until(page, "left => Number(document.querySelector('#op-op1 .ring b').textContent) <= left - 2", arg=left)
    title = page.get_attribute("time[data-local=time]", "title")
    assert re.search(r"\d\d:\d\d:\d\d (WET|WEST|GMT\+1|GMT|UTC)", title), title


def test_money_meter_follows_its_topic(open_page: Open, site: Site) -> None:
    page = open_page("/")
    wait_live(page, "on")
    before = page.inner_text(".burn-value")
    site.order(bump=1, send="money")
    until(page, "before => document.querySelector('.burn-value').innerText !== before", arg=before)


def test_charts_draw_and_say_when_there_is_nothing(open_page: Open) -> None:
    page = open_page("/pictures")
    until(page, "document.querySelectorAll('[data-chart]:has(canvas)').length === 8")
    assert page.inner_text("[data-source=c-empty-data]") == "No data yet"
    page.hover("[data-source=c-bars-data]")
    page.click("[data-theme-toggle]")
    page.wait_for_timeout(300)
    page.click("summary:has-text('Show data')")
    assert page.locator(".showdata tbody tr").count() == 24


def test_paint_by_mouse_and_keyboard(open_page: Open, site: Site) -> None:
    page = open_page("/pictures")
    assert page.inner_text("[data-paint-total]").startswith("55 of 168")
    page.locator("[data-d='5'][data-h='0']").hover()
    page.mouse.down()
    page.locator("[data-d='6'][data-h='2']").hover()
    page.mouse.up()
    assert page.inner_text("[data-paint-total]").startswith("61 of 168")
    page.focus("[data-d='0'][data-h='0']")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Space")
    assert page.inner_text("[data-paint-total]").startswith("63 of 168")
    page.keyboard.press("Control+z")
    assert page.inner_text("[data-paint-total]").startswith("61 of 168")
    assert page.is_visible("[data-unsaved]")
    week = page.input_value("[data-paint-field]").split(",")
    assert [len(day) for day in week] == [24] * 7
    assert week[5].startswith("1110")
    page.click("[data-paint-reset]")
    assert not page.is_visible("[data-unsaved]")


@pytest.mark.alone
def test_log_holds_a_million_lines_in_a_small_document(open_page: Open) -> None:
    page = open_page("/pictures")
    until(page, "document.querySelectorAll('.log-rows .ll').length === 3")
    took = page.evaluate("""() => { const start = performance.now(); const log = document.querySelector('#log');
        for (let block = 0; block < 100; block += 1) {
          let text = ''; for (let i = 0; i < 10000; i += 1) { text += `\\u001b[32mstep ${block * 10000 + i}\\u001b[0m loss 0.4\\n`; }
          log.dispatchEvent(new CustomEvent('log:append', {detail: {stream: block === 99 ? 'stderr' : 'stdout', text, time: '14:00:01'}})); }
        return performance.now() - start; }""")
    assert took < 15000
    until(page, "document.querySelector('.log-rows .ll:last-child')?.textContent.includes('step 999999')")
    assert page.locator(".log-rows .ll").count() < 400
    assert page.inner_text(".log-rows .ll:last-child .n") == "1000003"
    assert page.locator(".log-rows .ll:last-child .a-g").count() == 1
    box = page.evaluate(
        "(() => { const b = document.querySelector('.log-body').getBoundingClientRect(); const r = document.querySelector('.log-rows .ll:last-child').getBoundingClientRect(); return [b.bottom, r.bottom]; })()"
    )
    assert abs(box[0] - box[1]) < 22, box
    page.fill("[data-log-q]", "step 500000")
    until(page, "document.querySelector('[data-log-hits]').textContent === '1 of 1'")
    page.wait_for_selector(".log-rows .is-hit mark")
    assert page.is_visible(".log-rows .is-hit")
    assert page.get_attribute("#log", "data-follow") == "off"
    page.fill("[data-log-q]", "")
    page.check("[data-log-stream][value=e]")
    page.click("[data-follow-btn]")
    until(page, "document.querySelectorAll('.log-rows .ll--err').length > 20")
    assert page.locator(".log-rows .ll:not(.ll--err)").count() == 0


def test_log_joins_pieces_per_stream(open_page: Open) -> None:
    page = open_page("/pictures")
    until(page, "document.querySelectorAll('.log-rows .ll').length === 3")
    page.evaluate("""() => { const say = (stream, text) => document.querySelector('#log').dispatchEvent(new CustomEvent('log:append', {detail: {stream, text}}));
        say('stdout', 'half '); say('stderr', 'other'); say('stdout', 'line\\n'); say('stdout', '10 %\\r55 %\\r100 %\\n'); say('stdout', '<b>not markup</b>'); }""")
    until(page, "document.querySelectorAll('.log-rows .ll').length === 7")
    texts = page.locator(".log-rows .ll > span").all_inner_texts()
    assert texts[3:] == ["half line", "other", "100 %", "<b>not markup</b>"]


def test_without_scripts_it_lists_searches_sorts_and_opens_menus(open_page: Open) -> None:
    page = open_page("/", scripts=False)
    page.fill("#things-grid-search", "lark")
    page.press("#things-grid-search", "Enter")
    assert page.locator("#things tbody tr").count() == 2
    page.click(".th-sort")
    assert "sort=-name" in page.url
    assert "search=lark" in page.url
    page.click("summary.org")
    assert page.is_visible("text=Harbour Lane Games")
    phone = open_page("/", width=390, scripts=False)
    phone.click(".bottombar [data-rail-toggle]")
    assert phone.is_visible("#rail >> text=Audit Logs")
