"""Cloud nodes by themselves, clicked in a real browser: favourites, rules, warnings, budgets that act, declared nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.conftest import shoot
from tests.fakes.aws import SandboxAws
from tests.frontend.test_browser import axe, until
from tests.live.client import PASSWORD, Api
from tests.live.server import Embedded

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
Open = Callable[..., Any]
LOOKS = ((1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"))
PATIENCE = 30_000
# Colours are half-way between two themes while they change, and contrast with nothing.
SETTLED = "document.getAnimations().every(a => !(a instanceof CSSTransition) || a.playState === 'finished')"
TICK = 90_000  # budgets are checked every minute
OWNER, VIEWER = "gwen@studio.test", "vera@studio.test"
DEV, CANNY = "flux-dev-a10g-aws-1111", "flux-canny-a10g-aws-1111"
JOIN = f"""
from accounts import selectors
from accounts.models import Membership, Organization, User
from accounts.services import connect_sandbox
studio = Organization.objects.get(name="Studio")
vera = User.objects.create_user("{VIEWER}", "{PASSWORD}", name="Vera")
Membership.objects.for_org(studio).create(organization=studio, user=vera, role="viewer")
connect_sandbox(actor=selectors.caller_for(User.objects.get(email="{OWNER}"), studio.id).actor)
"""
# What the watcher would have found after looking at the node for 27 minutes. It looks again in an hour.
IDLE = """
from datetime import timedelta
from core import clock
from cloudnodes.models import CloudNode
from cloudnodes.automatic_models import NodeActivity
now, node = clock.now(), CloudNode.objects.all_orgs().get(instance_name="{name}")
facts = dict(verdict="idle", why="served nothing since the last look", idle_since=now - timedelta(minutes=27))
soon, later = now + timedelta(minutes=3), now + timedelta(hours=1)
facts |= dict(sampled_at=soon, warned_at=now, stops_at=soon, next_at=later, keep_until=None)
NodeActivity.objects.for_org(node.organization_id).update_or_create(
    node=node, defaults=facts | dict(organization_id=node.organization_id)
)
"""


@dataclass
class Studio:
    """An organization with twelve nodes on the sandbox cloud; its owner's API client."""

    curfew: Embedded
    api: Api

    def idle(self, name: str) -> None:
        self.curfew.manage("shell", "-c", IDLE.format(name=name))

    def switch(self, verb: str, *names: str) -> None:
        begun = [self.api.switch(verb, name).json()["operation"]["id"] for name in names]
        assert [self.api.ended(one)["status"] for one in begun] == ["succeeded"] * len(names)


@pytest.fixture(scope="module")
def server() -> Iterator[Embedded]:
    with (
        SandboxAws(seed=True, transition_seconds=1.5) as sandbox,
        Embedded(CURFEW_SANDBOX_AWS_ENDPOINT=sandbox.url, CURFEW_OUTBOUND_NETWORKS="127.0.0.1/32") as curfew,
    ):
        yield curfew


@pytest.fixture(scope="module")
def studio(server: Embedded) -> Studio:
    api = server.member("Studio", OWNER)
    server.manage("shell", "-c", JOIN)
    assert api.scanned(api.accounts()[0]["id"])["status"] == "active"
    return Studio(server, api)


def enter(page: Any, email: str = OWNER) -> Any:
    page.goto("/login")
    page.fill("[name=login]", email)
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)
    return page


def says(page: Any, place: str, words: str, timeout: float = PATIENCE) -> None:
    """Wait until a part of the open page says so."""
    look = "([place, words]) => document.querySelector(place)?.innerText.includes(words)"
    until(page, look, arg=[place, words], timeout=timeout)


def silent(page: Any, place: str, words: str, timeout: float = PATIENCE) -> None:
    """Wait until a part of the open page says so no more."""
    look = "([place, words]) => !document.querySelector(place)?.innerText.includes(words)"
    until(page, look, arg=[place, words], timeout=timeout)


def looked_at(page: Any, name: str) -> list[str]:
    """What is wrong with the page as it stands, wide and narrow, light and dark."""
    wrong: list[str] = []
    for width, theme in LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("theme => { document.documentElement.dataset.bsTheme = theme; }", theme)
        page.wait_for_timeout(150)
        until(page, SETTLED)
        wrong += [f"{name} {width} {theme}: {words}" for words in axe(page)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"{name} {width} {theme}: scrolls sideways")
        shoot(page, f"nodes-{name}-{width}-{theme}")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.evaluate("document.documentElement.dataset.bsTheme = 'light'")
    return wrong


def test_favourites_a_rule_a_warning_and_stop_all(open_browser: Open, studio: Studio) -> None:
    page, wrong = enter(open_browser()), []
    page.goto("/cloud-nodes/automatic")
    for name in (DEV, CANNY):
        page.get_by_role("button", name=f"{name} is a favourite").click()
        page.locator(f"[aria-label$='{name} is a favourite'][aria-pressed=true]").wait_for()
    page.get_by_role("button", name="Start favourites (2)").click()
    says(page, "body", "2 on the way")
    until(page, "() => document.querySelector('#automatic').innerText.split('Awake').length === 3", timeout=PATIENCE)

    page.get_by_role("link", name=f"Rule of FLUX Dev on AWS {DEV}").click()
    page.fill("[name=idle_minutes]", "0")
    page.fill("[name=warn_minutes]", "500")
    page.locator("#rule").get_by_role("button", name="Save").click()
    says(page, "#rule", "greater than or equal to 1")
    assert page.input_value("[name=idle_minutes]") == "0"
    assert page.input_value("[name=warn_minutes]") == "500"
    assert page.evaluate("document.activeElement.name") == "idle_minutes"
    says(page, "#rule h2", DEV)
    wrong += looked_at(page, "rule-refused")
    page.fill("[name=idle_minutes]", "30")
    page.fill("[name=warn_minutes]", "5")
    page.locator("#rule").get_by_role("button", name="Save").click()
    says(page, "main", "30 min (its own)")

    studio.idle(DEV)
    page.reload()
    says(page, "#automatic", "Idle since")
    says(page, "#automatic", "1 counting down")
    wrong += looked_at(page, "idle")
    page.get_by_role("button", name=f"Keep 1 h: FLUX Dev on AWS {DEV}").click()
    says(page, "#automatic", "by gwen")
    wrong += looked_at(page, "kept")

    page.goto("/cloud-nodes/")
    page.get_by_role("link", name="Stop all").click()
    says(page, "#dialog-host", "Put 2 nodes to sleep?")
    wrong += looked_at(page, "stop-all")
    page.locator("#dialog-host").get_by_role("link", name="Cancel").click()
    until(page, "() => !document.querySelector('#dialog-host').open")
    page.get_by_role("link", name="Stop all").click()
    page.locator("#dialog-host").get_by_role("button", name="Put to sleep").click()
    says(page, "#page-summary", "4 of 4 off")
    until(page, "() => !/Awake|Falling/.test(document.querySelector('main table').innerText)", timeout=PATIENCE)
    assert wrong == []


def test_a_budget_acts_until_it_is_lifted(open_browser: Open, studio: Studio) -> None:
    studio.switch("start", DEV, CANNY)
    owner, viewer, wrong = enter(open_browser()), enter(open_browser(), VIEWER), []
    for page in (owner, viewer):
        page.goto("/cloud-nodes/")
    money = enter(open_browser())
    money.goto("/settings/budgets")
    money.fill("[name=amount]", "-1")
    money.fill("[name=warn_at]", "soon")
    money.fill("[name=act_at]", "1")
    money.check("[name=refuse_starts]")
    money.check("[name=sleep_idle]")
    money.locator("#budget-form").get_by_role("button", name="Save").click()
    says(money, "#budget-form", "Numbers between 1 and 500")
    assert [money.input_value(f"[name={name}]") for name in ("amount", "warn_at", "act_at")] == ["-1", "soon", "1"]
    assert money.is_checked("[name=sleep_idle]")
    wrong += looked_at(money, "budget-refused")
    studio.idle(DEV)
    money.fill("[name=amount]", "0.02")
    money.fill("[name=warn_at]", "80")
    money.locator("#budget-form").get_by_role("button", name="Save").click()
    says(money, "main", "Acting now")

    for page in (owner, viewer):  # neither page was loaded again
        says(page, "#page-summary", "Nothing new is woken.")
        says(page, "#page-summary", "what is idle is put to sleep")
    assert owner.get_by_role("link", name="Raise it or let it be exceeded").count() == 1
    assert viewer.get_by_role("link", name="Raise it or let it be exceeded").count() == 0
    wrong += looked_at(owner, "budget-banner") + looked_at(viewer, "budget-banner-viewer")

    owner.locator("[data-name='SDXL Turbo on AWS']").check(force=True)
    owner.get_by_role("button", name="Apply Changes").click()
    says(owner, "body", "Nothing was changed, 1 left as it is")
    says(owner, "body", "so nothing new is woken")
    shoot(owner, "nodes-start-refused")
    says(viewer, "#page-words", "1 awake", timeout=TICK)  # what was idle sleeps, by the minute's check
    awake = {name: viewer.is_checked(f"[data-name='{name} on AWS']") for name in ("FLUX Dev", "FLUX Canny")}
    assert awake == {"FLUX Dev": False, "FLUX Canny": True}, "nobody knew whether the second was busy"

    owner.get_by_role("link", name="Raise it or let it be exceeded").click()
    says(owner, "main", "Acting now")
    owner.get_by_role("button", name="Let it be exceeded").click()
    says(owner, "[role=dialog][open], dialog[open]", "Let this budget be exceeded?")
    wrong += looked_at(owner, "budget-lift")
    owner.get_by_role("dialog").get_by_role("button", name="Let it be exceeded").click()
    says(owner, "main", "Lifted until")
    silent(viewer, "#page-summary", "Nothing new is woken.")
    owner.goto("/cloud-nodes/")
    owner.locator("[data-name='SDXL Turbo on AWS']").check(force=True)
    owner.get_by_role("button", name="Apply Changes").click()
    says(viewer, "#page-words", "2 awake")
    assert wrong == []


def test_nodes_are_declared_by_form_and_by_file(open_browser: Open, studio: Studio) -> None:
    page, wrong = enter(open_browser()), []
    page.goto("/cloud-nodes/declare")
    plain = "i-0123456789abcdef0"
    page.fill("[name=provider_id]", plain)
    page.fill("[name=node_type]", "!!!")
    page.fill("[name=hourly_cost]", "-3")
    page.locator("#one").get_by_role("button", name="Declare").click()
    says(page, "#one", "greater than or equal to 0")
    assert page.input_value("[name=provider_id]") == plain
    assert page.input_value("[name=hourly_cost]") == "-3"
    page.fill("[name=hourly_cost]", "3")
    page.locator("#one").get_by_role("button", name="Declare").click()
    says(page, "#one", "no letter or digit")
    assert page.input_value("[name=node_type]") == "!!!"
    wrong += looked_at(page, "declare-refused")
    page.fill("[name=node_type]", "Wan Video")
    page.locator("#one").get_by_role("button", name="Declare").click()
    says(page, "body", "Declared 1, 1 of them new")
    says(page, "main table", "Not found")  # the sandbox knows no such machine
    wrong += looked_at(page, "declared")

    def choose(*lines: str) -> None:
        text = "\n".join(("account,provider_id,node_type,gpu_tier,region,hourly_cost", *lines))
        page.set_input_files("[name=file]", {"name": "n.csv", "mimeType": "text/csv", "buffer": text.encode()})
        page.get_by_role("button", name="Declare all of them").click()

    account = page.locator("[name=account] option").first.inner_text()
    good = [f"{account},i-0{n}23456789abcdef0,Wan Video,a10g,us-east-1,1.5" for n in (2, 3)]
    choose(good[0], f"{account},,Wan Video,a10g,us-east-1,cheap", good[1])
    says(page, "#many", "line 3")
    says(page, "#many", "provider_id is empty")
    says(page, "#many", "'cheap' is not an amount")
    wrong += looked_at(page, "file-refused")
    says(page, "#declared-h + .sub", "1")
    choose(*good)
    says(page, "body", "Declared 2, 2 of them new")
    says(page, "#declared-h + .sub", "3")
    assert wrong == []
