"""The HTTPS side: bounded bodies, a deadline for each request, no client that can hold up another.

The handshake is made in the connection's own thread, so that a client that connects and says nothing stalls itself alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from agent.cluster.webhook.review import LARGEST, Unreadable, judge
from agent.wire.placement import Rules

log = logging.getLogger("curfew.agent.webhook")
PATH = "/mutate"
READ_SECONDS = 2.0
IDLE_SECONDS = 90.0  # API servers keep connections open; longer than their own limit is no use
MOST_CONNECTIONS = 256
CHUNK = 65_536


class State:
    """What requests are answered with, replaced as a whole by the keeper; and figures for the platform."""

    def __init__(self) -> None:
        self.rules = Rules()
        self.softened: frozenset[str] = frozenset()
        self.ready = False
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._times: deque[float] = deque(maxlen=2_000)
        self.problem = ""

    def is_softened(self, owner: str) -> bool:
        return owner in self.softened

    def note(self, seconds: float, done: tuple[str, ...], problem: str) -> None:
        with self._lock:
            self.counts["reviewed"] += 1
            self.counts["changed"] += bool(done)
            self.counts.update(done)
            self._times.append(seconds)
            if problem:
                self.counts["problems"] += 1
                self.problem = problem

    def figures(self) -> dict[str, Any]:
        """Counts since the start, and how long the last two thousand answers took."""
        with self._lock:
            times, counts = sorted(self._times), dict(self.counts)
        found: dict[str, Any] = {"counts": counts, "problem": self.problem}
        if times:
            found["p50_ms"] = round(times[len(times) // 2] * 1000, 2)
            found["p99_ms"] = round(times[min(len(times) - 1, len(times) * 99 // 100)] * 1000, 2)
        return found


class Late(Exception):
    """The body did not come in time."""


class Listener(ThreadingHTTPServer):
    """One webhook. `use` gives it its certificate, also while it serves."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], state: State) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)
        self.state = state
        self._context: ssl.SSLContext | None = None
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def use(self, cert: str, key: str) -> None:
        """Serve with this certificate and key (PEM) from now on; open connections keep theirs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        handle, name = tempfile.mkstemp()
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(key + cert)
            context.load_cert_chain(name)
        finally:
            Path(name).unlink()
        self._context = context

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._context is None or not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        context = self._context
        assert context is not None
        request.settimeout(READ_SECONDS)
        with contextlib.suppress(OSError):
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, ValueError), context.wrap_socket(request, server_side=True) as wrapped:
            Handler(wrapped, client_address, self)

    def shutdown_request(self, request: Any) -> None:
        with contextlib.suppress(OSError):
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a connection ended early")


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with connections that stay open."""

    protocol_version = "HTTP/1.1"
    server_version = "curfew-webhook"
    sys_version = ""
    wbufsize = -1
    timeout = IDLE_SECONDS
    server: Listener

    def do_POST(self) -> None:
        began = time.monotonic()
        if self.path.partition("?")[0] != PATH:
            self._say(404, b"")
            return
        try:
            length = int(self.headers.get("Content-Length") or "")
        except ValueError:
            self._refuse(411, b"a length is needed")
            return
        if not 0 <= length <= LARGEST:
            self._refuse(413, b"too large to be a pod")
            return
        try:
            body = self._read(length, began + READ_SECONDS)
        except (Late, OSError):
            self.close_connection = True
            return
        arrived = time.monotonic()  # what the network takes is not ours to answer for
        state = self.server.state
        try:
            verdict = judge(body, state.rules, state.is_softened)
        except Unreadable as bad:
            state.note(time.monotonic() - arrived, (), str(bad))
            self._say(400, str(bad).encode(), "text/plain")
            return
        self._say(200, verdict.body)
        state.note(time.monotonic() - arrived, verdict.done, verdict.problem)

    def do_GET(self) -> None:
        ready = self.path == "/healthz" or (self.path == "/readyz" and self.server.state.ready)
        self._say(200 if ready else 503 if self.path == "/readyz" else 404, b"ok" if ready else b"", "text/plain")

    def _read(self, length: int, until: float) -> bytes:
        parts: list[bytes] = []
        left = length
        while left:
            remaining = until - time.monotonic()
            if remaining <= 0:
                raise Late
            self.connection.settimeout(remaining)
            piece = self.rfile.read1(min(left, CHUNK))
            if not piece:
                raise Late
            parts.append(piece)
            left -= len(piece)
        self.connection.settimeout(IDLE_SECONDS)
        return b"".join(parts)

    def _refuse(self, status: int, body: bytes) -> None:
        """Answer without reading the body; the connection cannot be used again."""
        self.close_connection = True
        self._say(status, body, "text/plain")

    def _say(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        log.debug(format, *args)


def serve(address: tuple[str, int], state: State) -> tuple[Listener, Callable[[], None]]:
    """Listen in a thread of its own; returns the listener and how to end it."""
    listener = Listener(address, state)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.2}, name="webhook", daemon=True)
    thread.start()

    def end() -> None:
        listener.shutdown()
        listener.server_close()
        thread.join(2.0)

    return listener, end
