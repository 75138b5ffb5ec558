"""The fake Vast.ai over real HTTP."""

from __future__ import annotations

import time

from core.providers import TimedOut, Unreachable
from tests.fakes.server import Answer, FakeServer, Request
from tests.fakes.vast.world import VastWorld


class FakeVast(FakeServer):
    """`world` is its state; by the wall clock."""

    def __init__(self) -> None:
        super().__init__()
        self.world = VastWorld(time.monotonic)
        self.world.limits = False

    def answer(self, request: Request) -> Answer:
        query = "&".join(f"{k}={v}" for k, v in request.query.items())
        target = f"{request.path}?{query}" if query else request.path
        try:
            found = self.world.handle(request.method, target, request.json() or None, request.bearer)
        except (Unreachable, TimedOut):
            return Answer(504, "gateway timeout", kind="text/plain")
        return Answer(found.status, found.body.decode(), kind="application/json")
