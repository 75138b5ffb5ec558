"""One person clicks while two hundred browsers look: how soon the provider is called, how soon every screen is right.

    python -m bench.click --clicks 40 --screens 200
    python -m bench.click --clicks 40 --screens 200 --scaled

Real processes over loopback: a Curfew, the sandbox AWS, and this one with all the browsers in it. A click starts or
stops a node over the HTTP interface. Measured for each click, in seconds:

- `click_to_provider_call`: from before the request to the arrival of the call at the provider;
- `click_to_every_socket` and `click_to_every_screen`: until the last browser was told of the change, and until the
  last one held a fragment fetched after it;
- `settled_to_every_screen`: the same, from the moment at which the operation's end was written;
- `provider_change_to_every_screen`: the same, from the provider's own change of state (running, stopped). It includes
  waiting for the next look at the provider, every 2 s while a node starts;
- `fragment`: one re-fetch as a browser sees it, while all of them fetch.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.sockets import Screen, open_all
from bench.startup import processor_seconds
from bench.support import report, summary
from tests.live.client import Api
from tests.live.cloud import WatchedCloud
from tests.live.server import Curfew, Embedded, Scaled

GRID, METER = "/cloud-nodes/", "/costs/meter"
FRAGMENTS = {GRID: frozenset({"nodes", "operations"}), METER: frozenset({"money"})}
SETTLE_SECONDS = 30.0
QUIET_SECONDS = 1.0
LONGEST_RUN = 1800.0


@dataclass
class Figures:
    """Seconds of every click."""

    api: list[float] = field(default_factory=list)
    provider: list[float] = field(default_factory=list)
    sockets: list[float] = field(default_factory=list)
    screens: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    fragment: list[float] = field(default_factory=list)
    fragment_bytes: list[int] = field(default_factory=list)
    fetches: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    incomplete: int = 0
    processor: list[float] = field(default_factory=list)


class Bench:
    """A running Curfew with a scanned account, and the browsers that look at it."""

    def __init__(self, curfew: Curfew, cloud: WatchedCloud, screens: int, *, listen_only: bool) -> None:
        self.curfew, self.cloud = curfew, cloud
        self.api: Api = curfew.member("Larkspur", "alice@larkspur.test")
        answer = self.api.connect_keys(cloud.keys())
        assert answer.status_code in {200, 201, 202}, answer.text
        for account in self.api.accounts():
            self.api.scanned(account["id"])
        cookie = curfew.browser("alice@larkspur.test").cookie
        self.screens = [Screen(curfew.base_url, cookie, {} if listen_only else FRAGMENTS) for _ in range(screens)]
        self.figures = Figures()

    async def run(self, clicks: int) -> None:
        await open_all(self.screens)
        try:
            for _ in range(clicks):
                await self.click()
        finally:
            await asyncio.gather(*(screen.close() for screen in self.screens))

    async def click(self) -> None:
        """Start or stop one node, wait until all is quiet, and take the figures."""
        before = await asyncio.to_thread(self.cloud.watch)
        nodes = await asyncio.to_thread(self.curfew.inspector.nodes)
        at_rest = [n for n in nodes if before.states[n["provider_id"]] in {"running", "stopped"}]
        node = at_rest[len(self.figures.api) // 2 % len(at_rest)]  # each is started, then stopped
        verb = "stop" if before.states[node["provider_id"]] == "running" else "start"
        for screen in self.screens:
            screen.forget()
        used = self._processor()
        clicked = time.time()
        answer = await asyncio.to_thread(self.api.switch, verb, node["instance_name"])
        self.figures.api.append(time.time() - clicked)
        assert answer.status_code == 202, f"{answer.status_code} {answer.text}"
        operation = await self._ended(answer.json()["operation"]["id"])
        await self._quiet()
        self.figures.processor.append(self._processor() - used)
        after = await asyncio.to_thread(self.cloud.watch, calls=len(before.calls), changes=len(before.changes))
        self._take(node["provider_id"], verb, clicked, operation, after.calls, after.changes)

    def _processor(self) -> float:
        """Processor seconds of all parts of the server so far; unlike the clock, they do not depend on other load."""
        return sum(processor_seconds(part.pid) for part in self.curfew.parts.values())

    async def _ended(self, operation_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            rows = await asyncio.to_thread(self.curfew.inspector.operations)
            row = next(r for r in rows if r["id"] == operation_id)
            if row["finished_at"]:
                assert row["status"] == "succeeded", row
                return dict(row)
            await asyncio.sleep(0.25)
        raise AssertionError(f"operation {operation_id} has not ended")

    async def _quiet(self) -> None:
        """Until no browser has heard or fetched anything for a while."""
        deadline = time.monotonic() + SETTLE_SECONDS
        await asyncio.sleep(QUIET_SECONDS)  # the notice of what was just written may still be on its way
        while time.monotonic() < deadline:
            if time.time() - max(screen.last_heard for screen in self.screens) > QUIET_SECONDS:
                return
            await asyncio.sleep(0.1)

    def _take(
        self,
        instance: str,
        verb: str,
        clicked: float,
        operation: dict[str, Any],
        calls: Sequence[Any],
        changes: Sequence[Any],
    ) -> None:
        action, reached = ("StartInstances", "running") if verb == "start" else ("StopInstances", "stopped")
        mine = [c["at"] for c in calls if c["action"] == action and instance in c["instances"]]
        assert mine, f"no {action} of {instance}"
        self.figures.provider.append(mine[0] - clicked)
        self._spread(self.figures.sockets, clicked, sockets=True)
        self._spread(self.figures.screens, clicked)
        self._spread(self.figures.settled, operation["finished_at"])
        reached_at = [c["at"] for c in changes if c["instance"] == instance and c["to"] == reached]
        assert reached_at, f"{instance} did not become {reached}"
        self._spread(self.figures.change, reached_at[0])
        for screen in self.screens:
            grids = screen.fetches.get(GRID, [])
            self.figures.fragment += [fetch.came - fetch.asked for fetch in grids]
            self.figures.fragment_bytes += [len(fetch.body) for fetch in grids]
            self.figures.fetches.append(sum(len(each) for each in screen.fetches.values()))
            self.figures.messages.append(len(screen.messages))

    def _spread(self, into: list[float], since: float, *, sockets: bool = False) -> None:
        """The last of all screens' first message, or first fragment asked for after a message, since a moment."""
        moments = []
        for screen in self.screens:
            told = next((at for at, topic in screen.messages if at >= since and topic in FRAGMENTS[GRID]), None)
            if not sockets:
                if not screen.fragments:
                    return
                told = next(
                    (f.came for f in screen.fetches[GRID] if told is not None and f.asked >= told and f.status == 200),
                    None,
                )
            if told is None:
                self.figures.incomplete += 1
                return
            moments.append(told - since)
        into.append(max(moments))

    def result(self) -> dict[str, Any]:
        figures = self.figures
        named = {
            "click_answer": figures.api,
            "click_to_provider_call": figures.provider,
            "click_to_every_socket": figures.sockets,
            "click_to_every_screen": figures.screens,
            "settled_to_every_screen": figures.settled,
            "provider_change_to_every_screen": figures.change,
            "fragment": figures.fragment,
        }
        return {
            **{name: summary(values) for name, values in named.items() if values},
            "server_processor_seconds_per_click": summary(figures.processor) if figures.processor else None,
            "fragment_bytes": max(figures.fragment_bytes, default=0),
            "messages_per_screen_and_click": round(sum(figures.messages) / max(1, len(figures.messages)), 1),
            "fetches_per_screen_and_click": round(sum(figures.fetches) / max(1, len(figures.fetches)), 1),
            "incomplete": figures.incomplete,
            "errors": sum(screen.errors for screen in self.screens),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.click", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--screens", type=int, default=200)
    parser.add_argument("--scaled", action="store_true", help="PostgreSQL, Redis, web, worker and beat")
    parser.add_argument("--listen-only", action="store_true", help="browsers hear, but do not fetch")
    options = parser.parse_args()
    with WatchedCloud(transition_seconds=1.0) as cloud, Scaled(cloud) if options.scaled else Embedded(cloud) as curfew:
        bench = Bench(curfew, cloud, options.screens, listen_only=options.listen_only)
        try:
            asyncio.run(asyncio.wait_for(bench.run(options.clicks), LONGEST_RUN))
        except (AssertionError, httpx.HTTPError):
            report("click", failed=True, **bench.result())
            raise
        report(
            "click",
            mode=curfew.mode,
            screens=options.screens,
            clicks=options.clicks,
            fetching=not options.listen_only,
            **bench.result(),
        )


if __name__ == "__main__":
    main()
