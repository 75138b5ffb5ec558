"""Placement in a real browser: a cluster under a policy, what is asked of it, what is Unmanaged, the way chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import shoot, sign_up
from tests.frontend.test_browser import axe, until

pytestmark = pytest.mark.e2e
SAYS = "([place, words]) => document.querySelector(place)?.innerText.includes(words)"
CALL = """async ([path, body]) => {
  const token = document.cookie.match(/csrftoken=([^;]+)/)?.[1] ?? document.querySelector('[name=csrfmiddlewaretoken]')?.value;
  const answer = await fetch(path, {method: 'POST', headers: {'Content-Type': 'application/json', 'X-CSRFToken': token},
    body: JSON.stringify(body)});
  return [answer.status, await answer.json()];
}"""
DOCUMENT = {
    "placement": {"spot": "force", "block_burstable": True, "spread_zones": True},
    "exemptions": {"namespaces": ["kube-system"], "labels": []},
}


def test_the_placement_of_a_cluster(open_browser: Callable[..., Any]) -> None:
    page = open_browser()
    sign_up(page, "Placers", "ada@placers.test")
    page.goto("/policies/")
    status, made = page.evaluate(CALL, ["/api/clusters", {"name": "larkspur-dev"}])
    assert status == 201, made
    cluster = made["id"]
    status, policy = page.evaluate(CALL, ["/api/policies", {"name": "Spot first", "document": DOCUMENT}])
    assert status == 201, policy
    status, told = page.evaluate(
        CALL, [f"/api/policies/{policy['id']}/apply", {"clusters": [cluster], "mode": "enforce"}]
    )
    assert status == 200, told
    problems = {}
    for width, theme in ((1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        page.goto(f"/policies/placement/{cluster}/")
        page.wait_for_timeout(300)
        words = page.inner_text("main")
        assert "Spot first" in words
        assert "Unmanaged" in words
        wrong = axe(page)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append("scrolls sideways")
        if wrong:
            problems[f"{width} {theme}"] = wrong
        shoot(page, f"placement-{width}-{theme}")
    assert problems == {}
    page.select_option("[name=way]", "webhook")
    page.fill("[name=fallback_minutes]", "15")
    page.get_by_role("button", name="Save").click()
    until(page, "() => document.querySelector('[name=fallback_minutes]')?.value === '15'")
    until(page, SAYS, ["main", "for 15 minutes"])
    page.goto("/audit/")
    assert "Chose how placement rules reach" in page.inner_text("main table")
