"""A grid of 500 node types on four providers, two hundred browsers that look at it, and nodes that change.

    python -m bench.grid --types 500 --screens 200 --changes 30

PostgreSQL, Redis and a web server as processes of their own; no worker, so that nothing but the changes happens. This
process holds all browsers and commits the changes by the ordinary service (`cloudnodes.services.observe`), as a worker
would. Measured, in seconds:

- `change_to_every_screen`: from the commit to the moment at which the last browser holds what changed. Each is waited for up
  to 30 s; who has nothing by then counts as 30 s here and as one of `late`;
- `change_to_each_screen`: the same for every browser by itself;
- `click_answer`: from a click (start a node, over HTTP) to its 202, while all the browsers look;
- `page`: the whole first page of the grid, as a browser loads it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import time
from pathlib import Path

from bench.sockets import KeepAlive, Screen, open_all
from bench.startup import processor_seconds
from bench.support import report, summary
from tests.live.server import Scaled

GRID = "/cloud-nodes/"
TOPICS = frozenset({"nodes", "operations"})
PROVIDERS = ("aws", "azure", "gcp", "docker")
QUIET_SECONDS = 0.6
GIVE_UP_SECONDS = 30
# Clicks go to types beyond the first page, which the changes are on.
FIRST_TYPES = 60


class WebAlone(Scaled):
    """A scaled-out Curfew of which only the web server runs."""

    def commands(self) -> dict[str, list[str]]:
        return {"web": super().commands()["web"]}


def fill(email: str, types: int) -> list[str]:
    """Accounts of four providers with one node of each type; ids of the nodes on the grid's first page."""
    from accounts.models import Membership
    from cloudnodes.models import CloudNode, NodeType
    from core import clock
    from tests.personas import make_account

    house = Membership.objects.all_orgs().select_related("organization").get(user__email=email).organization
    accounts = {p: make_account(house, p, f"{n:012d}") for n, p in enumerate(PROVIDERS, 1)}
    kinds = [
        NodeType(organization=house, name=f"Model {n:03d}", slug=f"model-{n:03d}", created_at=clock.now())
        for n in range(types)
    ]
    NodeType.objects.for_org(house).bulk_create(kinds)
    rows = [
        CloudNode(
            organization=house,
            account=accounts[provider],
            node_type=kind,
            gpu_tier="a10g",
            provider=provider,
            provider_id=f"{provider}-{kind.slug}",
            instance_name=f"{kind.slug}-{provider}",
            region="us-east-1",
            instance_type="g5.xlarge",
            provider_state="stopped",
            observed_state="asleep",
            state_since=clock.now(),
            hourly_cost="1.006",
            observed_at=clock.now(),
            created_at=clock.now(),
        )
        for kind in kinds
        for provider in PROVIDERS
    ]
    CloudNode.objects.for_org(house).bulk_create(rows, batch_size=500)
    return [str(row.id) for row in rows[:200]]


def change(node_id: str, *, up: bool) -> float:
    """Commit that the provider now says running or stopped; the moment of the commit, before anybody is told."""
    from django.db import transaction

    from cloudnodes import services
    from cloudnodes.models import CloudNode
    from cloudnodes.providers.base import Instance, InstanceState
    from core import clock

    node = CloudNode.objects.all_orgs().select_related("node_type").get(id=node_id)
    found = Instance(
        provider_id=node.provider_id,
        name=node.instance_name,
        region=node.region,
        zone="",
        instance_type=node.instance_type,
        state=InstanceState.RUNNING if up else InstanceState.STOPPED,
        node_type=node.node_type.name,
        gpu_tier=node.gpu_tier,
        labels_source="tags",
    )
    moments: list[float] = []
    with transaction.atomic():
        transaction.on_commit(lambda: moments.append(time.time()))
        assert services.observe(node_id=node.id, instance=found, at=clock.now()), "nothing changed"
    return moments[0]


class Bench:
    """The browsers, and what is done to their grid."""

    def __init__(self, curfew: WebAlone, screens: int, types: int) -> None:
        self.curfew = curfew
        self.types = types
        self.api = curfew.member("Larkspur", "alice@larkspur.test")
        self.nodes = fill("alice@larkspur.test", types)
        self.cookie = curfew.browser("alice@larkspur.test").cookie
        self.screens = [Screen(curfew.base_url, self.cookie, {GRID: TOPICS}) for _ in range(screens)]
        self.spread: list[float] = []
        self.each: list[float] = []
        self.clicks: list[float] = []
        self.page: list[float] = []
        self.processor: list[float] = []
        self.bytes: list[int] = []
        self.late = 0
        self.looks: list[float] = []

    async def run(self, changes: int) -> None:
        single = KeepAlive(self.curfew.base_url, self.cookie)
        for _ in range(5):
            fetch = await single.get(GRID, {})
            assert fetch.status == 200, fetch.status
            self.page.append(fetch.came - fetch.asked)
        await open_all(self.screens)
        try:
            for number in range(changes):
                await self._change(self.nodes[7 * number % len(self.nodes)])
                await self._click(number)
        finally:
            await asyncio.gather(*(screen.close() for screen in self.screens))

    async def _change(self, node_id: str) -> None:
        await self._quiet()
        for screen in self.screens:
            screen.forget()
        used = self._processor()
        committed = await asyncio.to_thread(change, node_id, up=True)
        came = await self._all_came(node_id, committed + GIVE_UP_SECONDS)
        await self._quiet()
        self.processor.append(self._processor() - used)
        self.looks.append(sum(len(screen.fetches[GRID]) for screen in self.screens) / len(self.screens))
        took = [at - committed for at in came]
        missing = len(self.screens) - len(took)
        self.late += missing
        self.each += took
        self.spread.append(GIVE_UP_SECONDS if missing else max(took))

    def _processor(self) -> float:
        """Processor seconds of the web server, with its processes."""
        pid = self.curfew.parts["web"].pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(processor_seconds(one) for one in (pid, *map(int, children)))

    async def _all_came(self, node_id: str, deadline: float) -> list[float]:
        """When each screen held the node awake, as soon as all do; without those that do not in time."""
        awake = re.compile(rb'node--awake" id="[^"]*node-' + node_id.encode())
        waiting = dict.fromkeys(range(len(self.screens)), 0)
        came: list[float] = []
        while waiting and time.time() < deadline:
            await asyncio.sleep(0.05)
            for number, looked_at in list(waiting.items()):
                fetches = self.screens[number].fetches[GRID]
                found = next((fetch for fetch in fetches[looked_at:] if awake.search(fetch.body)), None)
                if found is None:
                    waiting[number] = len(fetches)
                else:
                    del waiting[number]
                    came.append(found.came)
                    self.bytes.append(len(found.body))
        return came

    async def _click(self, number: int) -> None:
        """Ask for a start while every browser is fetching what the click changes."""
        far = FIRST_TYPES if self.types > FIRST_TYPES else 0
        name = f"model-{13 * number % (self.types - far) + far:03d}-gcp"
        began = time.time()
        answer = await asyncio.to_thread(self.api.switch, "start", name, provider="gcp")
        self.clicks.append(time.time() - began)
        assert answer.status_code in {202, 409}, f"{answer.status_code} {answer.text}"

    async def _quiet(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if time.time() - max(screen.last_heard for screen in self.screens) > QUIET_SECONDS:
                return
            await asyncio.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.grid", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--types", type=int, default=500)
    parser.add_argument("--screens", type=int, default=200)
    parser.add_argument("--changes", type=int, default=30)
    parser.add_argument("--processes", type=int, default=1, help="web processes that share the port")
    options = parser.parse_args()
    with WebAlone(CURFEW_WEB_PROCESSES=str(options.processes)) as curfew:
        os.environ.update(curfew.environment())
        import django

        django.setup()
        bench = Bench(curfew, options.screens, options.types)
        asyncio.run(bench.run(options.changes))
        report(
            "grid",
            nodes=options.types * len(PROVIDERS),
            screens=options.screens,
            web_processes=options.processes,
            changes=options.changes,
            change_to_every_screen=summary(bench.spread),
            change_to_each_screen=summary(bench.each) if bench.each else None,
            late=bench.late,
            looks_per_screen_and_change=summary(bench.looks),
            click_answer=summary(bench.clicks),
            page=summary(bench.page),
            web_processor_seconds_per_change=summary(bench.processor),
            fragment_bytes=max(bench.bytes, default=0),
            reconnects=sum(screen.reconnects for screen in bench.screens),
            errors=sum(screen.errors for screen in bench.screens),
        )


if __name__ == "__main__":
    main()
