"""Requests of restic's REST protocol passed on to a server on loopback, in the event loop: no thread, no whole body.

What may be asked for is decided before (`allowed`); here are only bytes, limits and what follows when it breaks.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from core.providers import ProviderError
from gpu_fleet.providers.rclone import Address, Served

if TYPE_CHECKING:
    import httpx

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# At once, by everybody and by one machine (restic opens five); who comes later waits a little, then is sent away.
MOST = 32
MOST_OF_ONE = 8
WAIT_SECONDS = 20.0
READ_SECONDS = 300.0
STALL_SECONDS = 60.0
MIB = 1024 * 1024
# How large a file of the kind may be: restic's packs have at most 128 MiB and a little.
LARGEST: Mapping[str, int] = {"data": 160 * MIB, "index": 64 * MIB, "snapshots": MIB, "locks": 64 * 1024}
_NAME = re.compile(r"(data|keys|locks|snapshots|index)/([0-9a-f]{64})?|config")
_KEPT = ("content-type", "content-length", "content-range", "accept-ranges")


def allowed(method: str, name: str) -> bool:
    """Whether a machine may ask for this in its repository: read all of it, add, and take away nothing but locks."""
    found = _NAME.fullmatch(name)
    if found is None:
        return False
    kind, file = found[1], found[2]
    if method in ("GET", "HEAD"):
        return method == "GET" or name == "config" or bool(file)
    if not file:
        return False
    return (method == "POST" and kind in LARGEST) or (method == "DELETE" and kind == "locks")


def largest(name: str) -> int:
    """How many bytes may be written under this name."""
    return LARGEST.get(name.partition("/")[0], 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: `who` counts against the limit of one, `path` is that of the file below the served remote."""

    who: str
    method: str
    path: str
    length: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


class _Doors:
    """Who is inside, for one event loop."""

    def __init__(self) -> None:
        import httpx

        self.all = asyncio.Semaphore(MOST)
        self.each: dict[str, asyncio.Semaphore] = {}
        self.client = httpx.AsyncClient(
            timeout=httpx.Timeout(READ_SECONDS, connect=10.0),
            limits=httpx.Limits(max_connections=MOST + 8, max_keepalive_connections=8, keepalive_expiry=20.0),
            trust_env=False,
            follow_redirects=False,
        )

    @contextlib.asynccontextmanager
    async def pass_one(self, who: str) -> AsyncIterator[bool]:
        """True inside; False when there was no room in time."""
        mine = self.each.setdefault(who, asyncio.Semaphore(MOST_OF_ONE))
        async with contextlib.AsyncExitStack() as inside:
            entered = True
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    for door in (mine, self.all):
                        await inside.enter_async_context(door)
            except TimeoutError:
                entered = False
            yield entered


_doors: WeakKeyDictionary[asyncio.AbstractEventLoop, _Doors] = WeakKeyDictionary()


async def close() -> None:
    """Close this event loop's connections to served remotes."""
    doors = _doors.pop(asyncio.get_running_loop(), None)
    if doors is not None:
        await doors.client.aclose()


async def pass_on(
    asked: Asked,
    serve: Callable[[], Served],
    remove: Callable[[str], None],
    receive: Receive,
    send: Send,
    headers: list[tuple[bytes, bytes]],
) -> None:
    """Answer with what the server answers. `serve` gives the running server, `remove` deletes a damaged file; both may
    block and run in threads. An answer of 503 makes restic try again."""
    doors = _doors.setdefault(asyncio.get_running_loop(), _Doors())
    async with doors.pass_one(asked.who) as entered:
        if not entered:
            await _say(send, 503, headers, retry=5)
            return
        try:
            server = await asyncio.to_thread(serve)
            address = await asyncio.to_thread(server.address)
        except ProviderError:
            await _say(send, 503, headers, retry=5)
            return
        passage = _Passage(asked, doors.client, address, remove, receive, send, headers)
        server.used(1)
        try:
            await (passage.write() if asked.method == "POST" else passage.read())
        finally:
            server.used(-1)


class _Broken(Exception):
    """Who sends a file has gone, sends nothing, or sends more than it said."""


class _Passage:
    """One request on its way through."""

    def __init__(
        self,
        asked: Asked,
        client: httpx.AsyncClient,
        address: Address,
        remove: Callable[[str], None],
        receive: Receive,
        send: Send,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self.asked, self.client, self.remove = asked, client, remove
        self.receive, self.send, self.headers = receive, send, headers
        self.url = f"{address.url}/{asked.path}"
        basic = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        self.own = {"Authorization": f"Basic {basic}", "Accept-Encoding": "identity"}
        self.whole = False

    async def read(self) -> None:
        """GET, HEAD, DELETE. An answer that breaks off is broken off towards the asker, too, who then asks again."""
        import httpx

        await self.receive()
        left = asyncio.ensure_future(self.receive())
        begun = False
        try:
            async with self.client.stream(
                self.asked.method, self.url, headers={**self.asked.headers, **self.own}
            ) as answer:
                if answer.status_code >= 400:
                    await _say(self.send, answer.status_code, self.headers)
                    return
                await self.send(_start(answer.status_code, [*self.headers, *_of(answer.headers)]))
                begun = True
                await self._hand_on(answer, left)
        except httpx.HTTPError:
            if not begun:  # one that had begun is left unended: the web server closes the line
                await _say(self.send, 503, self.headers, retry=1)
        except TimeoutError:
            return  # nobody takes what was asked for
        finally:
            left.cancel()

    async def _hand_on(self, answer: httpx.Response, left: asyncio.Future[Message]) -> None:
        if self.asked.method != "HEAD":
            async for piece in answer.aiter_raw():
                if left.done():
                    return
                async with asyncio.timeout(STALL_SECONDS):
                    await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send({"type": "http.response.body"})

    async def write(self) -> None:
        """POST. 200 only when the whole file is there."""
        import httpx

        sent = {**self.asked.headers, **self.own, "Content-Length": str(self.asked.length)}
        try:
            answer = await self.client.post(self.url, content=self._body(), headers=sent)
            done = answer.status_code < 400 and self.whole
        except _Broken:
            return
        except httpx.HTTPError:
            done = False
        if done or await self._there():
            await _say(self.send, 200, self.headers)
        else:
            await _say(self.send, 503, self.headers, retry=1)

    async def _body(self) -> AsyncIterator[bytes]:
        left, more = self.asked.length, True
        while more:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    message = await self.receive()
            except TimeoutError:
                raise _Broken from None
            piece = message.get("body", b"")
            left -= len(piece)
            if message["type"] == "http.disconnect" or left < 0:
                raise _Broken
            if piece:
                yield piece
            more = message.get("more_body", False)
        self.whole = left == 0

    async def _there(self) -> bool:
        """Whether a file that was refused or broke off is there all the same.

        A file's name is the SHA-256 of what is in it. One that is there and is not what its name says was left by a
        server that was killed while it wrote; it is taken away, so that it can be sent anew.
        """
        import httpx

        summed = hashlib.sha256()
        try:
            async with self.client.stream("GET", self.url, headers=self.own) as answer:
                if answer.status_code >= 400:
                    return False
                async for piece in answer.aiter_raw():
                    summed.update(piece)
            if summed.hexdigest() == self.asked.path.rpartition("/")[2]:
                return True
            await asyncio.to_thread(self.remove, self.asked.path)
        except (httpx.HTTPError, ProviderError):
            return False
        return False


def _of(given: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), given[name].encode()) for name in _KEPT if name in given]


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _say(send: Send, status: int, headers: list[tuple[bytes, bytes]], *, retry: int = 0) -> None:
    """An answer without words: restic looks at the number alone, and rclone's words may tell of the account."""
    more = [(b"content-length", b"0"), *([(b"retry-after", str(retry).encode())] if retry else [])]
    await send(_start(status, [*headers, *more]))
    await send({"type": "http.response.body"})
