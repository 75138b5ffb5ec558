"""Curfew's own web handler on a port of loopback, in this process, on the test's database connection; for restic and rclone.

That connection is inside the test's transaction: nothing may close it (`close_old_connections`), and because the state of
its savepoints knows no threads, one request at a time may use it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from django.core import signals
from django.db import close_old_connections, connections
from django.http.response import HttpResponseBase

from config.web import ThreadedHandler
from gpu_fleet.providers import passing
from tests.stack import free_port


class OneByOne(ThreadedHandler):
    """Its threads take turns; what is passed on needs none of them."""

    _turn = threading.Lock()

    def _answer(self, *args: Any) -> HttpResponseBase:
        with self._turn:
            return super()._answer(*args)


@contextmanager
def web_server(threads: int = 2) -> Iterator[str]:
    """Its address. All of its threads share the test's connection, as Django's live server does."""
    handler, mine = OneByOne(threads), connections["default"]
    mine.inc_thread_sharing()
    both = (signals.request_started, signals.request_finished)
    for signal in both:
        signal.disconnect(close_old_connections)

    def share() -> None:
        connections["default"] = mine

    handler._pool = ThreadPoolExecutor(threads, initializer=share)
    port = free_port()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await handler(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await passing.close()
        await send({"type": "lifespan.shutdown.complete"})

    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=port, log_level="error", loop="asyncio"))
    running = threading.Thread(target=server.run, daemon=True)
    running.start()
    end = time.monotonic() + 10
    while not server.started and time.monotonic() < end:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        running.join(10)
        handler._pool.shutdown()
        for signal in both:
            signal.connect(close_old_connections)
        mine.dec_thread_sharing()


def alias(folder: Path) -> str:
    """A remote that leads to a folder of this server."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"[nas]\ntype = alias\nremote = {folder}\n"
