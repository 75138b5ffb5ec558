"""A task that prints, and those who watch: from the line at the agent to every browser, and a tab's memory.

    python -m bench.task_viewers                   # 100 viewers, 5,000 lines a second for 20 s
    python -m bench.task_viewers --lines 1000000   # a real browser follows, then loads them all; its heap afterwards

The agent's part is played over its own HTTP. A viewer is a WebSocket that reads what every open page reads; each line
begins with the moment at which it was handed over, so that nothing but one clock is compared. The viewers and the writer
are this process, on the same processors as the server; what each of the two used stands beside the figure.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from bench.support import ROOT, report, summary

sys.path.insert(0, str(ROOT))

from tests.live.client import Api, Browser
from tests.live.server import Embedded

EMAIL = "a@viewers.test"
BATCHES = 10  # a second: how often the worker's agent ships
FORCE_GC = "HeapProfiler.collectGarbage"


class Agent:
    """A worker with one task, over the agents' own HTTP."""

    def __init__(self, url: str, api: Api) -> None:
        enrol = api.post("/api/admin/workers", {"name": "bench"}).json()["token"]
        facts = {"token": enrol, "name": "bench", "cpu": 4000, "memory": 8192, "storage": 1000}
        token = httpx.post(f"{url}/api/agent/register", json=facts).json()["token"]
        self.http = httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Agent {token}"})
        given = {"name": "printer", "image": "busybox:1", "cpu": 100, "memory": 64, "timeout_seconds": 7200}
        self.task = str(api.post("/api/tasks", given).json()["id"])
        self.path = f"/api/agent/tasks/{self.task}"
        found: dict[str, Any] = {}
        while not found:
            answer = self.http.post("/api/agent/claim?wait=5")
            found = answer.json() if answer.status_code == 200 else {}
        orders = found.get("orders") or [found]
        self.fence = orders[0]["fence"]
        self.renew()
        self.http.post(f"{self.path}/start", json={"fence": self.fence}).raise_for_status()
        self.offset = 0

    def renew(self) -> None:
        self.http.post(f"{self.path}/renew", json={"fence": self.fence}).raise_for_status()

    def ship(self, data: bytes) -> None:
        query = {"stream": "stdout", "offset": str(self.offset), "fence": str(self.fence)}
        answer = self.http.post(
            f"{self.path}/logs", params=query, content=gzip.compress(data, 1), headers={"Content-Encoding": "gzip"}
        )
        answer.raise_for_status()
        self.offset = answer.json()["offset"]


def _print(agent: Agent, rate: int, seconds: float, shipped: list[int]) -> None:
    """Ship `rate` lines a second, each with its moment."""
    each, began, number = rate // BATCHES, time.time(), 0
    renewed = began
    for batch in range(int(seconds * BATCHES)):
        due = began + batch / BATCHES
        time.sleep(max(0.0, due - time.time()))
        moment = time.time()
        agent.ship(b"".join(b"%.4f line %07d\n" % (moment, number + n) for n in range(each)))
        number += each
        if time.time() - renewed > 10:
            agent.renew()
            renewed = time.time()
    shipped.append(number)


class Viewer:
    """One open page: takes text from the socket, and reads the store where the socket left something out."""

    def __init__(self, url: str, cookie: str, task: str, fence: int) -> None:
        self.url, self.cookie, self.task, self.fence = url, cookie, task, fence
        self.late: list[float] = []
        self.lines = self.fetched = 0

    async def watch(self, http: httpx.AsyncClient, stop: asyncio.Event, ready: asyncio.Semaphore) -> None:
        from websockets.asyncio.client import connect

        address = f"{self.url.replace('http', 'ws', 1)}/ws/tasks/{self.task}/stream"
        headers = {"Cookie": self.cookie}
        async with connect(address, additional_headers=headers, origin=self.url, max_size=None) as socket:  # type: ignore[arg-type]
            await socket.recv()  # hello: from here on the socket tells of what is printed
            ready.release()
            while not stop.is_set():
                try:
                    message = json.loads(await asyncio.wait_for(socket.recv(), 0.5))
                except TimeoutError:
                    continue
                if message["type"] != "log":
                    continue
                if message["text"] is not None and message["first_line"] == self.lines:
                    self._take(message["text"].splitlines())
                    self.lines = message["lines"]
                elif message["lines"] > self.lines:
                    await self._read_on(http)

    def _take(self, texts: list[str]) -> None:
        now = time.time()
        self.late += [now - float(text.split(" ", 1)[0]) for text in (texts[0], texts[-1])]

    async def _read_on(self, http: httpx.AsyncClient) -> None:
        while True:
            answer = await http.get(
                f"/api/tasks/{self.task}/logs", params={"first": self.lines, "count": 1000, "attempt": self.fence}
            )
            found = answer.json()
            if found["lines"]:
                self._take([line["text"] for line in found["lines"]])
            self.lines += len(found["lines"])
            self.fetched += len(found["lines"])
            if not found["lines"] or self.lines >= found["total_lines"]:
                return


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _watch(url: str, cookie: str, agent: Agent, server: int, options: argparse.Namespace) -> dict[str, object]:
    stop, ready = asyncio.Event(), asyncio.Semaphore(0)
    viewers = [Viewer(url, cookie, agent.task, agent.fence) for _ in range(options.viewers)]
    async with httpx.AsyncClient(base_url=url, headers={"Cookie": cookie}, timeout=60) as http:
        watching = [asyncio.create_task(viewer.watch(http, stop, ready)) for viewer in viewers]
        for _ in viewers:
            await asyncio.wait_for(ready.acquire(), 60)
        shipped: list[int] = []
        began, served, own = time.time(), _cpu(server), time.process_time()
        await asyncio.to_thread(_print, agent, options.rate, options.seconds, shipped)
        took = time.time() - began
        deadline = time.time() + 30
        while min(v.lines for v in viewers) < shipped[0] and time.time() < deadline:  # noqa: ASYNC110  many counters
            await asyncio.sleep(0.05)
        served, own = _cpu(server) - served, time.process_time() - own
        stop.set()
        await asyncio.gather(*watching)
    behind = [viewer for viewer in viewers if viewer.lines < shipped[0]]
    late = [moment for viewer in viewers for moment in viewer.late]
    return {
        "viewers": options.viewers,
        "lines": shipped[0],
        "lines_per_second": round(shipped[0] / took),
        "line_to_viewer_seconds": summary(late),
        "cores_of_server": round(served / took, 2),
        "cores_of_viewers_and_writer": round(own / took, 2),
        "viewers_without_every_line": len(behind),
        "lines_read_from_the_store": sum(viewer.fetched for viewer in viewers),
    }


def _heap(url: str, cookies: Mapping[str, str], agent: Agent, lines: int) -> dict[str, object]:
    """A real tab that is open while `lines` lines are printed and then loads all of them; its heap after a collection."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(base_url=url)
        context.add_cookies([{"name": name, "value": value, "url": url} for name, value in cookies.items()])
        page = context.new_page()
        page.goto(f"/tasks/{agent.task}/")
        page.wait_for_selector("[data-task-log]")
        tools = page.context.new_cdp_session(page)
        before = _used(tools)
        began, shipped = time.time(), 0
        while shipped < lines:
            count = min(20_000, lines - shipped)
            agent.ship(
                b"".join(
                    b"%08d a line of a log that is about as long as lines are, 72 bytes\n" % (shipped + n)
                    for n in range(count)
                )
            )
            shipped += count
            if shipped % 200_000 == 0:
                agent.renew()
        printed = time.time() - began
        page.wait_for_function(
            "n => document.querySelector('[data-task-log]').textContent.includes(String(n).padStart(8, '0'))",
            arg=lines - 1,
            timeout=900_000,
        )
        shown = time.time() - began
        began = time.time()
        page.click("[data-log-whole]")
        page.wait_for_function(
            "n => document.querySelector('[data-log-pos]').textContent.endsWith(` of ${n.toLocaleString('en-US')}`)",
            arg=lines,
            timeout=900_000,
        )
        loaded = time.time() - began
        after = _used(tools)
        browser.close()
    return {
        "lines": lines,
        "printed_seconds": round(printed, 1),
        "newest_line_shown_seconds": round(shown, 1),
        "all_lines_loaded_seconds": round(loaded, 1),
        "heap_mb_before": round(before / 1e6, 1),
        "heap_mb": round(after / 1e6, 1),
    }


def _used(tools: Any) -> float:
    """Bytes of the tab's heap after a collection."""
    tools.send(FORCE_GC)
    return float(tools.send("Runtime.getHeapUsage")["usedSize"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--lines", type=int, default=0, help="measure a browser's heap after so many lines instead")
    options = parser.parse_args()
    with Embedded() as curfew:
        agent = Agent(curfew.base_url, curfew.member("Viewers", EMAIL))
        browser: Browser = curfew.browser(EMAIL)
        if options.lines:
            found = _heap(curfew.base_url, dict(browser.http.cookies), agent, options.lines)
        else:
            found = asyncio.run(_watch(curfew.base_url, browser.cookie, agent, curfew.parts["web"].pid, options))
    report("task_viewers", **found)


if __name__ == "__main__":
    main()
