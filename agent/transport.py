"""HTTP for agents: token, TLS, proxy, gzip, back-off with jitter, a bounded buffer. Standard library only.

One `Transport` belongs to one thread: it keeps one connection open. Redirects are never followed, so that a token
travels to no other host; plain HTTP is refused except to this machine, unless it was allowed by hand.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import random
import socket
import ssl
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from agent import __version__

LARGEST_REPLY = 8 * 1024 * 1024
CHUNK = 65_536
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_random = random.SystemRandom()
T = TypeVar("T")


class Unreachable(Exception):
    """No usable answer came: no route, no connection, a bad certificate, a timeout, a broken answer."""


class BadAddress(ValueError):
    """The address or a file that belongs to it cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with its body read. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float:
        """Seconds that the other side asks for; 0 when it does not."""
        try:
            return max(0.0, min(float(self.headers.get("retry-after", "0")), 3600.0))
        except ValueError:
            return 0.0

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object; {} when it is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


class Backoff:
    """Waiting times that double up to a limit, each with half of it left to chance."""

    def __init__(self, first: float = 1.0, longest: float = 30.0) -> None:
        self.first, self.longest = first, longest
        self.failures = 0

    def failed(self, at_least: float = 0.0) -> float:
        """Count a failure; return the seconds to wait, never less than the other side asked for."""
        whole = min(self.longest, self.first * 2 ** min(self.failures, 16))
        self.failures += 1
        return max(at_least, whole / 2 + _random.uniform(0, whole / 2))

    def succeeded(self) -> None:
        self.failures = 0


def jittered(seconds: float, share: float = 0.1) -> float:
    """Return the seconds, up to `share` more or less, so that a fleet does not march in step."""
    return seconds * (1 + _random.uniform(-share, share))


class Bounded(Generic[T]):
    """A queue that forgets its oldest items rather than grow over a number of items or bytes."""

    def __init__(self, *, items: int, size: int) -> None:
        self.most_items, self.most_bytes = items, size
        self.bytes = 0
        self.dropped = 0
        self._queue: deque[tuple[T, int]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[T]:
        return iter([item for item, _ in self._queue])

    def push(self, item: T, size: int) -> None:
        """Add an item of so many bytes; drops from the old end what no longer fits."""
        self._queue.append((item, size))
        self.bytes += size
        while len(self._queue) > self.most_items or (self.bytes > self.most_bytes and len(self._queue) > 1):
            self.dropped += 1
            self.bytes -= self._queue.popleft()[1]

    def discard(self, wanted: Callable[[T], bool]) -> None:
        """Take out every item for which `wanted` is true; they do not count as dropped."""
        kept = [(item, size) for item, size in self._queue if not wanted(item)]
        self._queue = deque(kept)
        self.bytes = sum(size for _, size in kept)


@dataclass(frozen=True)
class Endpoint:
    """Where to connect and whom to trust. `ca_file` replaces the system's authorities."""

    url: str
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    allow_http: bool = False
    use_proxy: bool = True
    context: ssl.SSLContext | None = field(init=False, default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise BadAddress(f"{self.url!r} is not an http(s) address")
        if parts.username or parts.query or parts.fragment:
            raise BadAddress("the address must hold neither credentials nor a query")
        if parts.scheme == "http" and parts.hostname not in _LOCAL and not self.allow_http:
            raise BadAddress(f"{self.url} is not encrypted; use https, or allow plain HTTP by hand")
        if parts.scheme == "https":
            object.__setattr__(self, "context", self._context())

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.client_cert:
                context.load_cert_chain(self.client_cert, self.client_key or None)
        except (OSError, ssl.SSLError) as bad:
            raise BadAddress(f"a certificate file cannot be read: {bad}") from bad
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    @property
    def prefix(self) -> str:
        return urlsplit(self.url).path.rstrip("/")

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        """Return a connection that opens at its first request, through the environment's proxy if one is set."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        proxy = self._proxy(parts.scheme, host)
        if self.context is None:
            made = http.client.HTTPConnection(host, parts.port or 80, timeout=timeout)
        elif proxy is None:
            made = http.client.HTTPSConnection(host, parts.port or 443, timeout=timeout, context=self.context)
        else:
            made = http.client.HTTPSConnection(*proxy, timeout=timeout, context=self.context)
            made.set_tunnel(host, parts.port or 443)
        return made

    def _proxy(self, scheme: str, host: str) -> tuple[str, int] | None:
        if not self.use_proxy or host in _LOCAL:
            return None
        address = urllib.request.getproxies().get(scheme)
        if not address or urllib.request.proxy_bypass(host):
            return None
        parts = urlsplit(address if "://" in address else f"http://{address}")
        return (parts.hostname, parts.port or 3128) if parts.hostname else None


def _explain(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {problem.verify_message}"
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if isinstance(problem, http.client.IncompleteRead):
        return "the answer broke off"
    if isinstance(problem, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__


class Connection:
    """One connection, kept open between requests and opened anew when the other side has closed it."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint, self.timeout = endpoint, timeout
        self._open: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close; a read that waits in another thread ends with Unreachable."""
        link, self._open = self._open, None
        if link is None:
            return
        if link.sock is not None:
            with contextlib.suppress(OSError):  # it is closed already
                link.sock.shutdown(socket.SHUT_RDWR)
        link.close()

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float | None = None
    ) -> http.client.HTTPResponse:
        """Return the answer with its body still to be read. Raises Unreachable."""
        reused = self._open is not None
        try:
            return self._send(method, path, body, headers, timeout)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as gone:
            self.close()
            if not reused:
                raise Unreachable(_explain(gone)) from gone
        except (OSError, http.client.HTTPException) as bad:
            self.close()
            raise Unreachable(_explain(bad)) from bad
        try:  # a connection that lay idle may have been closed by the other side; that says nothing of the next one
            return self._send(method, path, body, headers, timeout)
        except (OSError, http.client.HTTPException) as bad:
            self.close()
            raise Unreachable(_explain(bad)) from bad

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float | None
    ) -> http.client.HTTPResponse:
        if self._open is None:
            self._open = self.endpoint.connect(self.timeout)
        link = self._open
        wait = self.timeout if timeout is None else timeout
        link.timeout = wait
        if link.sock is not None:
            link.sock.settimeout(wait)
        link.request(method, self.endpoint.prefix + path, body=body, headers=dict(headers))
        return link.getresponse()

    def read(self, answer: http.client.HTTPResponse, limit: int = LARGEST_REPLY) -> Reply:
        """Read an answer to its end. Raises Unreachable when it breaks off or exceeds the limit."""
        parts, size = [], 0
        for chunk in self.chunks(answer):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                self.close()
                raise Unreachable(f"an answer of more than {limit} bytes")
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, b"".join(parts))

    def chunks(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the body as it arrives. Raises Unreachable when it breaks off."""
        try:
            while chunk := answer.read1(CHUNK):
                yield chunk
            if answer.length:  # fewer bytes than were announced
                raise http.client.IncompleteRead(b"", answer.length)
            answer.close()  # gives the connection back; it does not close it
        except (OSError, ValueError, AttributeError, http.client.HTTPException) as bad:
            # ValueError and AttributeError: the socket was closed by another thread under the read.
            self.close()
            raise Unreachable(_explain(bad)) from bad
        except GeneratorExit:
            self.close()  # the rest of this answer must not be taken for the next one
            raise
        if answer.will_close:
            self.close()


def read_token(given: str, file: str) -> Callable[[], str]:
    """Return a function that gives the token, from its file anew each time (it may be rotated). Raises BadAddress."""
    if file:

        def from_file() -> str:
            try:
                return Path(file).read_text(encoding="utf-8").strip()
            except OSError as bad:
                raise Unreachable(f"the token file cannot be read: {bad.strerror}") from bad

        return from_file
    if not given:
        raise BadAddress("a token is missing")
    return lambda: given


class Transport:
    """Requests of an agent to the platform. `token` is asked for each request, so it may be renewed."""

    def __init__(
        self, endpoint: Endpoint, token: Callable[[], str], *, scheme: str = "Agent", timeout: float = 30.0
    ) -> None:
        self._connection = Connection(endpoint, timeout)
        self._token, self._scheme = token, scheme

    def close(self) -> None:
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content: Any = None,
        packed: bool = False,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = LARGEST_REPLY,
    ) -> Reply:
        """Send `content` as JSON or `body` as it is (`packed`: it is gzip) and read the answer, of `limit` bytes at most.

        Returns the answer whatever its status; a redirect is an error. Raises Unreachable.
        """
        sent = {
            "Authorization": f"{self._scheme} {self._token()}",
            "Accept": "application/json",
            "User-Agent": f"curfew-agent/{__version__}",
            "X-Curfew-Sent-At": f"{time.time():.3f}",
            **(headers or {}),
        }
        if content is not None:
            body = json.dumps(content, separators=(",", ":")).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        if packed:
            sent["Content-Encoding"] = "gzip"
        reply = self._connection.read(self._connection.send(method, path, body, sent, timeout), limit)
        if 300 <= reply.status < 400:
            raise Unreachable(f"redirected to {reply.headers.get('location', '')[:200]}; correct the address")
        return reply


def pack(content: bytes) -> bytes:
    """Return gzip of small texts, the same for the same content."""
    return gzip.compress(content, 5, mtime=0)


def environment(name: str, default: str = "") -> str:
    """Return CURFEW_<name> from the environment."""
    return os.environ.get(f"CURFEW_{name}", default)
