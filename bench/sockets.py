"""Many browsers in one process: each holds a live socket and one HTTP connection, and re-fetches its page as ours does.

The page's own script (static/js/live.js) gathers messages for GATHER seconds and then asks for the fragment; while an
answer is under way the next wish waits. This does the same, with as little work of its own as possible: the machine's
cores are shared with the server that is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

GATHER = 0.08
AGAIN = 1.0
MOST_IDS = 40
SHAPE = re.compile(rb'data-shape="(\w+)"')
HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


@dataclass
class Fetch:
    """One fragment: when it was asked for, when it had come, what it was."""

    asked: float
    came: float
    status: int
    body: bytes


class HttpError(Exception):
    """The server broke the connection or spoke no HTTP."""


class KeepAlive:
    """One HTTP/1.1 connection, made when first needed and again when it was closed."""

    def __init__(self, base_url: str, cookie: str) -> None:
        address = urlsplit(base_url)
        self._host, self._port = str(address.hostname), address.port or 80
        self._head = f"Host: {self._host}:{self._port}\r\nCookie: {cookie}\r\nConnection: keep-alive\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str, headers: Mapping[str, str]) -> Fetch:
        """GET; a connection that the server closed meanwhile is made anew once."""
        asked = time.time()
        for attempt in (1, 2):
            try:
                status, body = await self._exchange(path, headers)
            except (OSError, asyncio.IncompleteReadError, HttpError):
                self.close()
                if attempt == 2:
                    raise
            else:
                return Fetch(asked, time.time(), status, body)
        raise HttpError(path)

    async def _exchange(self, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{self._head}{lines}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        status = int(head[0].split()[1])
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return status, await _chunks(reader)
        return status, await reader.readexactly(int(fields.get("content-length", "0")))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        parts.append(await reader.readexactly(size + 2))
        if size == 0:
            return b"".join(part[:-2] for part in parts)


@dataclass
class Screen:
    """One open page. `fragments` gives the topics that make it ask for each of its parts again.

    `messages` are `(moment, topic)`, `fetches` the fragments that came, by address.
    """

    base_url: str
    cookie: str
    fragments: Mapping[str, frozenset[str]]
    messages: list[tuple[float, str]] = field(default_factory=list)
    fetches: dict[str, list[Fetch]] = field(default_factory=dict)
    errors: int = 0
    reconnects: int = 0
    _socket: ClientConnection | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _wanted: dict[str, asyncio.Event] = field(default_factory=dict)
    _ids: dict[str, set[str]] = field(default_factory=dict)
    _shape: dict[str, str] = field(default_factory=dict)

    async def open(self) -> None:
        """Connect the socket; returns when the server said hello."""
        await self._connect()
        await self._load()
        self.forget()
        self._wanted = {path: asyncio.Event() for path in self.fragments}
        self._tasks = [
            asyncio.create_task(self._listen()),
            *(asyncio.create_task(self._keep_fresh(path)) for path in self.fragments),
        ]

    async def _connect(self) -> None:
        url = self.base_url.replace("http", "ws", 1) + "/ws/live"
        self._socket = await connect(
            url,
            additional_headers={"Cookie": self.cookie},
            origin=self.base_url,
            open_timeout=60,
            ping_interval=None,
            compression=None,  # type: ignore[arg-type]
        )
        hello = json.loads(await asyncio.wait_for(self._socket.recv(), 60))
        assert hello["topic"] == "hello", hello

    async def _load(self) -> None:
        """Each part once, as the page brings it."""
        connection = KeepAlive(self.base_url, self.cookie)
        for path in self.fragments:
            self._learn(path, (await connection.get(path, HTMX)).body)
        connection.close()

    async def _listen(self) -> None:
        """Hear of changes. When the server breaks off, connect again and ask for everything, as the page does."""
        while True:
            await self._hear()
            self.reconnects += 1
            await asyncio.sleep(AGAIN)
            with contextlib.suppress(OSError, TimeoutError, WebSocketException):
                await self._connect()
                for path, wanted in self._wanted.items():
                    self._shape.pop(path, None)
                    wanted.set()

    async def _hear(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(ConnectionClosed):
            async for text in self._socket:
                self._take(json.loads(text).get("changes", {}))

    def _take(self, changes: Mapping[str, list[str]]) -> None:
        self.messages += [(time.time(), topic) for topic in changes]
        for path, topics in self.fragments.items():
            for topic in topics & changes.keys():
                self._ids.setdefault(path, set()).update(changes[topic])
                self._wanted[path].set()

    async def _keep_fresh(self, path: str) -> None:
        connection = KeepAlive(self.base_url, self.cookie)
        try:
            while True:
                await self._wanted[path].wait()
                await asyncio.sleep(GATHER)
                self._wanted[path].clear()
                fetch: Fetch | None = None
                try:
                    fetch = await connection.get(self._address(path), HTMX)
                except (OSError, asyncio.IncompleteReadError, HttpError):
                    connection.close()
                if fetch is None or fetch.status != 200:
                    self.errors += 1
                    await asyncio.sleep(AGAIN)
                    self._shape.pop(path, None)
                    self._wanted[path].set()
                    continue
                self._learn(path, fetch.body)
                self.fetches[path].append(fetch)
        finally:
            connection.close()

    def _address(self, path: str) -> str:
        """The fragment, or only what changed of it when the page has a layout to put that into."""
        ids = self._ids.pop(path, set())
        if path not in self._shape or not 0 < len(ids) <= MOST_IDS:
            return path
        return f"{path}?ids={','.join(sorted(ids))}&shape={self._shape[path]}"

    def _learn(self, path: str, body: bytes) -> None:
        found = SHAPE.search(body)
        if found:
            self._shape[path] = found.group(1).decode()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._socket is not None:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await self._socket.close()

    def forget(self) -> None:
        """Start a new measurement."""
        self.messages.clear()
        self.fetches = {path: [] for path in self.fragments}

    @property
    def last_heard(self) -> float:
        """When the last message or fragment came; 0 when none did."""
        return max(
            [0.0, *(at for at, _ in self.messages[-1:]), *(f.came for each in self.fetches.values() for f in each[-1:])]
        )


async def open_all(screens: list[Screen], at_once: int = 20) -> None:
    """Open every screen, some at a time, as browsers arrive."""
    gate = asyncio.Semaphore(at_once)

    async def one(screen: Screen) -> None:
        async with gate:
            await screen.open()

    await asyncio.gather(*(one(screen) for screen in screens))
