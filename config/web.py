"""Django's HTTP handler with every request in one thread of a small, lasting pool.

Django's own ASGI handler makes a thread for each request and goes back and forth between it and the event loop for each
signal, middleware and view. All of our views are synchronous, so one hop there and one back is enough; and because the
threads last, so do their database connections. A streaming answer is sent by Django's own code, from the event loop,
and an answer that is not known yet (`core.later`) is waited for there. Bodies of some paths are left unread for the view's
own code to pass on from the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeVar

import django
from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.core import signals
from django.core.cache import caches
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.db import connections
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from core.later import Handover, Later

TRUSTED_SECONDS = 1.0
CHECKED_AT = "curfew_checked_at"
Message = dict[str, Any]
T = TypeVar("T")


def _apart(do: Callable[..., T], *args: Any) -> T:
    """Run in a copy of this thread's own context: what a request sets is gone with it, but the thread's cache, with its
    connections to Redis, serves every request of the thread."""
    return contextvars.copy_context().run(do, *args)


def _trust_checked_connections() -> None:
    """A database connection of this thread that was found alive a moment ago is not asked again: in a burst of requests
    each of them would begin with that question. One that died meanwhile costs its thread one failed request."""
    now = time.monotonic()
    open_ones: Iterable[Any] = connections.all(initialized_only=True)
    for connection in open_ones:
        if now - getattr(connection, CHECKED_AT, float("-inf")) < TRUSTED_SECONDS:
            connection.health_check_done = True
        elif hasattr(connection, CHECKED_AT):
            delattr(connection, CHECKED_AT)


def _note_checked_connections() -> None:
    """Remember which connections Django has asked in this request; one that was trusted keeps its older moment."""
    open_ones: Iterable[Any] = connections.all(initialized_only=True)
    for connection in open_ones:
        if connection.health_check_done and not hasattr(connection, CHECKED_AT):
            setattr(connection, CHECKED_AT, time.monotonic())


class ThreadedHandler(ASGIHandler):
    """Serves HTTP; `threads` requests at once, the others wait their turn."""

    def __init__(self, threads: int) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)
        self._unread = tuple(settings.CURFEW_UNREAD_BODIES)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="curfew-web", initializer=caches.all)

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        unread = scope["path"].startswith(self._unread)
        try:
            body: IO[bytes] = io.BytesIO() if unread else await self._body(receive)
        except RequestAborted:
            return
        loop = asyncio.get_running_loop()
        response = await loop.run_in_executor(self._pool, _apart, self._answer, scope, body)
        if isinstance(response, Handover) and unread:
            await response.carry_out(receive, send)
            return
        if isinstance(response, Later) and not await self._known(response, receive):
            return
        try:
            if isinstance(response, StreamingHttpResponse):
                await self._stream(response, receive, send)
            else:
                await self.send_response(response, send)
        finally:
            if response.streaming:
                await loop.run_in_executor(self._pool, _apart, response.close)

    def _answer(self, scope: Message, body: IO[bytes]) -> HttpResponseBase:
        """The whole request, in a thread of the pool; what is not streamed is closed here as well."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        _trust_checked_connections()
        request, refused = self.create_request(scope, body)
        response: HttpResponseBase = refused if request is None else self.get_response(request)  # type: ignore[assignment]
        response._handler_class = self.__class__  # type: ignore[attr-defined]
        _note_checked_connections()
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        if not response.streaming:
            response.close()  # sends request_finished, which looks after the database connection
        return response

    async def _known(self, response: Later, receive: Any) -> bool:
        """Wait until the answer is known; False when the client went away before."""
        waiting: asyncio.Future[HttpResponse] = asyncio.ensure_future(response.outcome())
        watching: asyncio.Future[None] = asyncio.create_task(self.listen_for_disconnect(receive))
        both: list[asyncio.Future[Any]] = [waiting, watching]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                response.become(waiting.result())
            return waiting.done()
        finally:
            for task in both:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, RequestAborted):
                    await task

    async def _body(self, receive: Any) -> IO[bytes]:
        """The body: in memory when it came in one piece, which is nearly always; else as Django spools it."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestAborted
        first = message.get("body", b"")
        if not message.get("more_body", False):
            return io.BytesIO(first)

        async def again() -> Message:
            nonlocal message
            if message is not None:
                held, message = message, None
                return held
            got: Message = await receive()
            return got

        spooled: IO[bytes] = await self.read_body(again)
        return spooled

    async def _pieces(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        while (piece := await loop.run_in_executor(self._pool, next, pieces, None)) is not None:
            yield piece

    async def _stream(self, response: StreamingHttpResponse, receive: Any, send: Any) -> None:
        """Send piece by piece; stop when the browser has gone. Files and the like are read in the pool, one piece ahead
        of the browser at most."""
        if not response.is_async:
            response.streaming_content = self._pieces(iter(response.streaming_content))  # type: ignore[arg-type]
        async with ThreadSensitiveContext():
            sending = asyncio.create_task(self.send_response(response, send))
            watching = asyncio.create_task(self.listen_for_disconnect(receive))
            await asyncio.wait([sending, watching], return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, sending):
                if not task.done():
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError, RequestAborted):
                    await task


def application() -> ThreadedHandler:
    """What `get_asgi_application` is to Django."""
    django.setup(set_prefix=False)
    return ThreadedHandler(settings.CURFEW_WEB_THREADS)
