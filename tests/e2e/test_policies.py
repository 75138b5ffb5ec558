"""Policies in a real browser: templates and their slide-over, the cards, nodes, rightsizing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clusters.report import Reporter, cluster, records
from tests.e2e.conftest import shoot, sign_up
from tests.e2e.test_placement import CALL
from tests.fakes import kube_objects as make
from tests.frontend.test_browser import axe, until
from tests.live.server import Embedded

pytestmark = pytest.mark.e2e
LOOKS = ((1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"))
# List prices for the nodes, three days of little use for every container, then one look by the rightsizer and one by
# the enforcers.
FILL = """
import sys
from datetime import timedelta
import django
django.setup()
from clusters import packed
from clusters.histograms import Histograms, pod_facts
from clusters.models import Cluster, UsageHistograms
from clusters.services import refigure, reports
from clusters.services import reprice_all
from core import clock
from core.actor import Actor
from costs.models import CatalogPrice
from policies.catalogue import catalogue
from policies.enforcing import looking
from policies.rightsizing import reporting
for kind in ("m5.large", "m5.xlarge", "m5.2xlarge"):
    known = catalogue().price(kind, "eu-west-1")
    for lifecycle, hourly in (("on_demand", known.on_demand), ("spot", known.spot)):
        CatalogPrice.objects.get_or_create(
            provider="aws", region="eu-west-1", instance_type=kind, lifecycle=lifecycle, as_of=known.as_of,
            defaults={"hourly": hourly, "currency": "USD", "source": "AWS list price"},
        )
reprice_all(actor=Actor.system("price_book"))
row = Cluster.objects.all_orgs().get(id=sys.argv[1])
facts, use = pod_facts(reports.load(row, ("pods", "workloads", "specs"))), Histograms()
for step in range(216):
    at = clock.now() - timedelta(minutes=20 * (216 - step))
    use.add_sample(at, {k: {b: (int(sys.argv[2]), 30 << 20) for b in f.cores} for k, f in facts.items()}, facts)
UsageHistograms.objects.all_orgs().update_or_create(
    cluster=row, defaults={"organization_id": row.organization_id, "at": clock.now(), "packed": packed.pack(use.dump())}
)
refigure(cluster_id=row.id)
reporting.refresh(cluster_id=row.id)
looking.plan_cluster(cluster_id=row.id)
"""


def called(page: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    status, answer = page.evaluate(CALL, [path, body])
    assert status in (200, 201), answer
    return dict(answer)


def reported(page: Any, server: Embedded, name: str, nanocores: int = 4_000_000) -> str:
    """A cluster of eight nodes in three groups whose agent has reported, with three days of use."""
    made = called(page, "/api/clusters", {"name": name, "region": "eu-west-1", "cloud": "aws"})
    headers = {"Authorization": f"Agent {made['agent_token']}", "Content-Encoding": "gzip"}
    tables = cluster(6, 24)
    others = (make.node("burst-0", group="burst", spot=True), make.node("pool-0", karpenter=True, group="flex"))
    for collection, more in records(*others, make.node_pool("flex")).items():
        tables.setdefault(collection, {}).update(more)
    body = Reporter(tables, uid=name).full()
    told = httpx.post(f"{server.base_url}/api/agent/cluster/snapshot", content=body, headers=headers)
    assert told.status_code == 200, told.text
    command = [sys.executable, "-c", FILL, made["id"], str(nanocores)]
    done = subprocess.run(command, env=server.environment(), cwd=Path.cwd(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return str(made["id"])


def looked_at(page: Any, name: str, width: int, theme: str) -> list[str]:
    """What is wrong with the page as it stands."""
    page.wait_for_timeout(150)
    wrong = [f"{name} {width} {theme}: {words}" for words in axe(page)]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        wrong.append(f"{name} {width} {theme}: scrolls sideways")
    shoot(page, f"policies-{name}-{width}-{theme}")
    return wrong


def test_policies_from_a_template_to_what_they_would_do(open_browser: Callable[..., Any], server: Embedded) -> None:
    page = open_browser()
    sign_up(page, "Policers", "ada@policers.test")
    page.goto("/policies/")
    number = reported(page, server, "lark-prod")
    cards = {
        "autoscaling": {"enabled": True},
        "consolidation": {"enabled": True, "level": "aggressive", "method": "replace_and_move"},
        "rightsizing": {"minimum_monthly": "0"},
    }
    policy = called(page, "/api/policies", {"name": "Careful", "document": cards})["id"]
    called(page, f"/api/policies/{policy}/apply", {"clusters": [number], "mode": "recommend"})
    called(page, "/api/node-templates", {"name": "General", "families": ["m5", "c5"], "purchasing": "hybrid"})

    wrong: list[str] = []
    for width, theme in LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        for name, path in (
            ("home", "/"),
            ("templates", "/node-templates/"),
            ("list", "/policies/"),
            ("cards", f"/policies/{policy}/"),
            ("workloads", f"/policies/{policy}/#workload"),
            ("nodes", f"/policies/clusters/{number}/nodes/"),
            ("sizes", "/policies/rightsizing/"),
            ("report", f"/policies/rightsizing/{number}/"),
            ("cluster", f"/clusters/{number}/"),
            ("groups", f"/clusters/{number}/?tab=nodes"),
        ):
            page.goto(path)
            wrong += looked_at(page, name, width, theme)
        page.goto("/node-templates/")
        page.get_by_text("Create New Template").click()
        page.wait_for_selector("#template-form")
        for step in range(1, 6):
            wrong += looked_at(page, f"wizard-{step}", width, theme)
            if step < 5:
                page.locator("[data-wizard-next]").click()
    assert wrong == []


BADGE = "() => document.querySelector('#impact-rightsizing').innerText.trim()"
MOVED = "(before) => { const now = document.querySelector('#impact-rightsizing').innerText.trim(); return now.includes('$') && now !== before; }"
SAYS = "([place, words]) => document.querySelector(place)?.innerText.includes(words)"


def test_the_badge_moves_while_the_policy_is_edited(open_browser: Callable[..., Any], server: Embedded) -> None:
    page = open_browser()
    sign_up(page, "Editors", "ada@editors.test")
    page.goto("/policies/")
    number = reported(page, server, "lark-edit", nanocores=40_000_000)
    cards = {"rightsizing": {"minimum_monthly": "0"}}
    policy = called(page, "/api/policies", {"name": "Edited", "document": cards})["id"]
    called(page, f"/api/policies/{policy}/apply", {"clusters": [number], "mode": "recommend"})
    page.goto(f"/policies/{policy}/#workload")
    stored = page.evaluate(BADGE)
    assert "$" in stored, stored
    assert not page.locator("[data-unsaved]").is_visible()
    page.locator("#p-headroom").fill("50")
    until(page, MOVED, stored, timeout=20_000)
    assert page.locator("[data-unsaved]").is_visible()
    wide = page.evaluate(BADGE)
    assert money(wide) < money(stored), "a wider buffer saves less"
    page.locator("[name='rightsizing.mode'][value=off]").check()
    until(page, SAYS, ["#impact-rightsizing", "no change in cost"], timeout=20_000)
    page.locator("[name='rightsizing.mode'][value=recommend]").check()
    until(page, MOVED, "", timeout=20_000)
    assert page.evaluate(BADGE) == wide
    page.get_by_role("button", name="Save Policy").click()
    until(page, SAYS, ["main", "Version 2"], timeout=20_000)
    assert page.evaluate(BADGE) == wide


def money(words: str) -> float:
    found = re.search(r"\$([\d,.]+)", words)
    assert found is not None, words
    return float(found[1].replace(",", ""))


def test_a_family_that_cannot_be_is_marked_and_left_out_with_one_press(open_browser: Callable[..., Any]) -> None:
    page = open_browser()
    sign_up(page, "Clashers", "ada@clashers.test")
    page.goto("/node-templates/")
    page.get_by_text("Create New Template").click()
    page.wait_for_selector("#template-form")
    page.fill("[name=name]", "Graviton")
    page.locator("[data-wizard-next]").click()
    page.locator("[name=architectures][value=amd64]").uncheck()
    page.locator("[name=architectures][value=arm64]").check()
    for family in ("m7g", "g4dn"):
        page.locator(f"[data-family][value={family}]").check(force=True)
    until(page, SAYS, ["#template-check", "Instance type g4dn is incompatible with ARM64"], timeout=20_000)
    until(page, "() => document.querySelector('.fam--clash')?.innerText.includes('g4dn')")
    assert axe(page) == []
    page.get_by_role("button", name="Leave out g4dn").click()
    until(page, "() => !document.querySelector('#template-check').innerText.includes('g4dn')", timeout=20_000)
    assert page.locator(".fam--clash").count() == 0
    assert page.locator("[data-family][value=m7g]").is_checked()
