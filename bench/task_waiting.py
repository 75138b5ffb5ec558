"""Hundreds of workers that wait for a task at one web server: what they cost its pages, and how soon a task is taken.

    python -m bench.task_waiting --workers 200 --tasks 40
    python -m bench.task_waiting --workers 200 --tasks 40 --scaled

Real processes over loopback; the workers are calls of `POST /api/agent/claim?wait=25` in one loop, each made again when
it is answered. Pages are read one after the other, before the workers came and while all of them wait. Then tasks are
submitted one at a time; measured is the time from before the submission to the order in a worker's hands.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

import httpx

from bench.startup import processor_seconds
from bench.support import report, summary
from tests.live.client import Api
from tests.live.server import Curfew, Embedded, Scaled

PAGES = ("/tasks/", "/workers/", "/api/tasks")


class Fleet:
    """The waiting workers; `taken` are names of tasks with the time at which they came."""

    def __init__(self, curfew: Curfew, tokens: list[str]) -> None:
        self.curfew, self.tokens = curfew, tokens
        self.taken: dict[str, float] = {}
        self.twice: list[str] = []
        self.sent_away = self.answers = 0

    async def work(self, http: httpx.AsyncClient, token: str) -> None:
        own = {"Authorization": f"Agent {token}"}
        while True:
            answer = await http.post("/api/agent/claim?wait=25", headers=own)
            self.answers += 1
            if answer.status_code == 200:
                came, order = time.perf_counter(), answer.json()
                self.twice += [order["name"]] if order["name"] in self.taken else []
                self.taken[order["name"]] = came
                path = f"/api/agent/tasks/{order['task']}/renew"  # else the claim goes back to the queue
                assert (await http.post(path, headers=own, json={"fence": order["fence"]})).status_code == 200
            else:
                self.sent_away += "Retry-After" in answer.headers
                assert answer.status_code == 204, answer.text

    def http(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=len(self.tokens) + 10, max_keepalive_connections=len(self.tokens) + 10)
        return httpx.AsyncClient(base_url=self.curfew.base_url, limits=limits, timeout=60)


def enrol(curfew: Curfew, api: Api, workers: int) -> list[str]:
    enrolment = api.post("/api/admin/workers", {"name": "bench"}).json()["token"]
    tokens = []
    for n in range(workers):
        facts = {"token": enrolment, "name": f"w{n}", "cpu": 64_000, "memory": 65_536, "storage": 1000}
        answer = httpx.post(f"{curfew.base_url}/api/agent/register", json=facts, timeout=60)
        assert answer.status_code == 201, answer.text
        tokens.append(answer.json()["token"])
    return tokens


def read_pages(browser: httpx.Client, api: Api, rounds: int) -> list[float]:
    """Seconds of each page, one after the other."""
    times = []
    for _ in range(rounds):
        for path in PAGES:
            began = time.perf_counter()
            answer = api.get(path) if path.startswith("/api/") else browser.get(path)
            times.append(time.perf_counter() - began)
            assert answer.status_code == 200, f"{path} {answer.status_code}"
    return times


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def play(curfew: Curfew, api: Api, browser: httpx.Client, fleet: Fleet, options: Any) -> dict[str, Any]:
    read_pages(browser, api, 3)
    without = await asyncio.to_thread(read_pages, browser, api, options.rounds)
    pid = curfew.parts["web"].pid
    async with fleet.http() as http:
        workers = [asyncio.create_task(fleet.work(http, token)) for token in fleet.tokens]
        await asyncio.sleep(8)
        used, began = processor_seconds(pid), time.monotonic()
        await asyncio.sleep(5)
        idle = (processor_seconds(pid) - used) / (time.monotonic() - began)
        waited = await asyncio.to_thread(read_pages, browser, api, options.rounds)
        threads = threads_of(pid)
        asked: dict[str, float] = {}
        for n in range(options.tasks):
            asked[f"t{n}"] = time.perf_counter()
            body = {"name": f"t{n}", "image": "busybox:1", "command": ["true"], "cpu": 100, "memory": 16}
            answer = await asyncio.to_thread(api.post, "/api/tasks", body)
            assert answer.status_code == 201, answer.text
            await asyncio.sleep(0.3)
        for _ in range(100):
            if len(fleet.taken) == options.tasks:
                break
            await asyncio.sleep(0.1)
        for worker in workers:
            worker.cancel()
        ended = await asyncio.gather(*workers, return_exceptions=True)
    broken = [repr(each) for each in ended if not isinstance(each, asyncio.CancelledError)]
    assert not broken, broken[:3]
    assert sorted(fleet.taken) == sorted(asked), "none is lost"
    assert not fleet.twice, "each task goes to one worker"
    return {
        "page_seconds_alone": summary(without),
        "page_seconds_while_they_wait": summary(waited),
        "submit_to_order_seconds": summary([fleet.taken[name] - at for name, at in asked.items()]),
        "threads": threads,
        "sent_away": fleet.sent_away,
        "processor_while_all_wait": round(idle, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--scaled", action="store_true")
    options = parser.parse_args()
    with (Scaled if options.scaled else Embedded)() as curfew:
        api = curfew.member("Larkspur", "alice@larkspur.test")
        browser = curfew.browser("alice@larkspur.test").http
        fleet = Fleet(curfew, enrol(curfew, api, options.workers))
        figures = asyncio.run(play(curfew, api, browser, fleet, options))
        report("task_waiting", mode=curfew.mode, workers=options.workers, tasks=options.tasks, **figures)


if __name__ == "__main__":
    main()
