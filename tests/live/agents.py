"""Real agents of a real cluster, with a road to the platform on which everything may go wrong.

with FakeKube() as kube, Road(curfew.base_url) as road, Agents(kube, road, token) as agents:
    agents.start("one")
    road.next("twice", "late", "truncated")
    agents.kill9("one")
"""

from __future__ import annotations

import gzip
import json
import logging
import sys
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from agent.cluster.kube import Access, Kube
from agent.cluster.store import Store
from agent.transport import Endpoint
from agent.wire.delta import State
from agent.wire.resources import RESOURCES
from tests.fakes.kube import FakeKube
from tests.fakes.server import Answer, FakeServer, Request
from tests.live.processes import Child, clean_environment

logging.getLogger("httpx").setLevel(logging.WARNING)
SNAPSHOT = "/api/agent/cluster/snapshot"
PASSED = ("Authorization", "Content-Type", "Content-Encoding", "X-Curfew-Sent-At", "X-Curfew-Session")
# What may become of one message: lost on its way, its answer lost, delivered twice, delivered again after the next one,
# cut in the middle, refused for a moment.
MISHAPS = ("lost", "unanswered", "twice", "late", "truncated", "busy", "broken")


class Road(FakeServer):
    """Stands between agents and the platform. `next(...)` plans what becomes of the next messages, in turn; `closed`
    breaks every connection, `newer` lets everything pass as if it were of format 2. `verdicts`: what the platform answered to each message that reached it."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self.http = httpx.Client(base_url=base_url, timeout=30)
        self.closed = self.newer = False
        self.verdicts: list[tuple[str, int]] = []
        self.happened: list[str] = []
        self._plan: deque[str] = deque()
        self._kept: list[Request] = []
        self._guard = threading.Lock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.http.close()

    def next(self, *mishaps: str) -> None:
        self._plan.extend(mishaps)

    def mend(self) -> None:
        """Open the road and let every message pass."""
        self._plan.clear()
        self.closed = self.newer = False

    def handle(self, request: Request) -> Answer:
        """Requests pass side by side, as on a real road."""
        if self.closed:
            raise ConnectionAbortedError("the road is closed")
        return self.answer(request)

    def answer(self, request: Request) -> Answer:
        if self.newer:
            packed = request.headers.get("Content-Encoding") == "gzip"
            text = json.dumps({**json.loads(gzip.decompress(request.body) if packed else request.body), "format": 2})
            return self._pass("newer", request, gzip.compress(text.encode()) if packed else text.encode())
        if request.path != SNAPSHOT:
            return self._pass("beat", request)
        with self._guard:
            mishap = self._plan.popleft() if self._plan else ""
        if mishap:
            self.happened.append(mishap)
        return self._befall(mishap, request)

    def _befall(self, mishap: str, request: Request) -> Answer:
        if mishap == "lost":
            raise ConnectionAbortedError("lost on its way")
        if mishap == "busy":
            return Answer(503, {"code": "busy"}, {"Retry-After": "1"})
        if mishap == "broken":
            return Answer(502, "<html>Bad gateway</html>", kind="text/html")
        if mishap == "truncated":
            return self._pass(mishap, request, request.body[: len(request.body) // 2])
        answer = self._pass(mishap, request)
        if mishap == "twice":
            answer = self._pass("again", request)
        if mishap == "unanswered":
            raise ConnectionAbortedError("the answer is lost")
        with self._guard:
            again, self._kept = self._kept, [request] if mishap == "late" else []
        for late in again:
            self._pass("out of order", late)
        return answer

    def _pass(self, how: str, request: Request, body: bytes | None = None) -> Answer:
        headers = {name: request.headers[name] for name in PASSED if request.headers.get(name)}
        try:
            reply = self.http.request(request.method, request.path, content=body or request.body, headers=headers)
        except httpx.HTTPError as gone:
            raise ConnectionAbortedError("the platform is away") from gone
        if request.path == SNAPSHOT:
            self.verdicts.append((how, reply.status_code))
        kept = {name: reply.headers[name] for name in ("Retry-After",) if name in reply.headers}
        return Answer(reply.status_code, reply.text, kept, reply.headers.get("Content-Type", "application/json"))


class Agents:
    """Processes `python -m agent cluster` that report one API server, ended with the block."""

    def __init__(self, kube: FakeKube, road: Road, token: str, folder: Path) -> None:
        self.kube, self.road, self.token, self.folder = kube, road, token, folder
        self.running: dict[str, Child] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self.running.values():
            child.kill9()

    def start(self, name: str = "one", *, clock_off: float = 0.0) -> None:
        """Start an agent, anew when it was killed; `clock_off` seconds ahead of everybody else."""
        module = ["tests.live.skewed", str(clock_off)] if clock_off else ["agent"]
        command = [sys.executable, "-m", *module, "cluster", "--url", self.road.url, "--api-server", self.kube.url]
        env = clean_environment(CURFEW_TOKEN=self.token, CURFEW_CLUSTER_NAME="lark-prod")
        self.running[name] = Child(name, command, env=env, log=self.folder / f"agent-{name}.log")

    def kill9(self, name: str = "one") -> None:
        self.running.pop(name).kill9()

    def log(self, name: str = "one") -> str:
        return (self.folder / f"agent-{name}.log").read_text(errors="replace")


def digest_of(kube: FakeKube) -> str:
    """What the platform must hold: everything listed anew, through a store of our own."""
    store, client = Store(), Kube(Access(Endpoint(kube.url)))
    served = {plural for _, plural in kube.store.tables}
    for resource in RESOURCES:
        if resource.name in served:
            client.list(resource.path, lambda obj, r=resource: store.put(r, obj))  # type: ignore[misc]
    client.close()
    tables: dict[str, dict[str, Any]] = {
        name: {key: json.loads(text) for key, text in table} for name, table in store.cut(full=True).set.items()
    }
    return State.of(tables).digest
