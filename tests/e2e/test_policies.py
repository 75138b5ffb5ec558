"""Policies in a real browser: templates and their slide-over, the cards, nodes, rightsizing."""

from __future__ import annotations

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
from tests.frontend.test_browser import axe
from tests.live.server import Embedded

pytestmark = pytest.mark.e2e
LOOKS = ((1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"))
# Three days of little use for every container, then one look by the rightsizer and one by the enforcers.
FILL = """
import sys
from datetime import timedelta
import django
django.setup()
from clusters import packed
from clusters.histograms import Histograms, pod_facts
from clusters.models import Cluster, UsageHistograms
from clusters.services import refigure, reports
from core import clock
from policies.enforcing import looking
from policies.rightsizing import reporting
row = Cluster.objects.all_orgs().get(id=sys.argv[1])
facts, use = pod_facts(reports.load(row, ("pods", "workloads", "specs"))), Histograms()
for step in range(216):
    at = clock.now() - timedelta(minutes=20 * (216 - step))
    use.add_sample(at, {k: {b: (4_000_000, 30 << 20) for b in f.cores} for k, f in facts.items()}, facts)
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


def reported(page: Any, server: Embedded, name: str) -> str:
    """A cluster of eight nodes in three groups whose agent has reported, with three days of use."""
    made = called(page, "/api/clusters", {"name": name, "region": "us-east-1", "cloud": "aws"})
    headers = {"Authorization": f"Agent {made['agent_token']}", "Content-Encoding": "gzip"}
    tables = cluster(6, 24)
    others = (make.node("burst-0", group="burst", spot=True), make.node("pool-0", karpenter=True, group="flex"))
    for collection, more in records(*others, make.node_pool("flex")).items():
        tables.setdefault(collection, {}).update(more)
    body = Reporter(tables, uid=name).full()
    told = httpx.post(f"{server.base_url}/api/agent/cluster/snapshot", content=body, headers=headers)
    assert told.status_code == 200, told.text
    command = [sys.executable, "-c", FILL, made["id"]]
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
