"""The web server's handler: threads that last, and what is streamed from them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from config import web
from config.web import ThreadedHandler

SENT: list[str] = []


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{threading.current_thread().name} {len(request.body)}")


def pieces(request: HttpRequest) -> StreamingHttpResponse:
    def each() -> Iterator[bytes]:
        try:
            for number in range(1000):
                SENT.append(threading.current_thread().name)
                yield b"%d," % number
        finally:
            SENT.append("closed")

    return StreamingHttpResponse(each())


LEFT: ContextVar[str] = ContextVar("left_behind", default="")


def memory(request: HttpRequest) -> HttpResponse:
    found = LEFT.get()
    LEFT.set("by an earlier request")
    return HttpResponse(f"{id(caches['default'])} {found}")


urlpatterns = [path("plain", plain), path("pieces", pieces), path("memory", memory)]


@pytest.fixture(autouse=True)
def _own_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    SENT.clear()


def scope(address: str) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": address, "query_string": b"", "headers": []}


def test_a_request_of_several_pieces_is_answered_by_a_thread_of_the_pool() -> None:
    async def ask() -> tuple[int, bytes]:
        client = ApplicationCommunicator(ThreadedHandler(1), scope("/plain"))
        await client.send_input({"type": "http.request", "body": b"ab", "more_body": True})
        await client.send_input({"type": "http.request", "body": b"cd", "more_body": True})
        await client.send_input({"type": "http.request", "body": b"e"})
        start, body = await client.receive_output(5), await client.receive_output(5)
        return start["status"], body["body"]

    assert async_to_sync(ask)() == (200, b"curfew-web_0 5")


def test_requests_share_the_thread_s_cache_and_nothing_else() -> None:
    async def ask() -> list[bytes]:
        handler, bodies = ThreadedHandler(1), []
        for _ in range(3):
            client = ApplicationCommunicator(handler, scope("/memory"))
            await client.send_input({"type": "http.request", "body": b""})
            await client.receive_output(5)
            bodies.append((await client.receive_output(5))["body"])
        return bodies

    bodies = async_to_sync(ask)()
    assert len({body.split(b" ")[0] for body in bodies}) == 1
    assert [body.split(b" ")[1] for body in bodies] == [b"", b"", b""]


def test_a_stream_is_read_in_the_pool_and_ends_when_the_browser_goes() -> None:
    async def ask() -> list[bytes]:
        client = ApplicationCommunicator(ThreadedHandler(1), scope("/pieces"))
        await client.send_input({"type": "http.request", "body": b""})
        await client.receive_output(5)
        first = [(await client.receive_output(5))["body"] for _ in range(3)]
        await client.send_input({"type": "http.disconnect"})
        await client.wait(5)
        return first

    assert async_to_sync(ask)() == [b"0,", b"1,", b"2,"]
    assert SENT[-1] == "closed"
    assert len(SENT) <= 1001
    assert set(SENT[:-1]) == {"curfew-web_0"}


def test_who_leaves_before_the_request_is_complete_gets_nothing() -> None:
    async def ask() -> bool:
        client = ApplicationCommunicator(ThreadedHandler(1), scope("/plain"))
        await client.send_input({"type": "http.request", "body": b"ab", "more_body": True})
        await client.send_input({"type": "http.disconnect"})
        return await client.receive_nothing(0.2)

    assert async_to_sync(ask)()


class Alive:
    """A database connection that notes how often a request began with the question whether it lives."""

    def __init__(self) -> None:
        self.health_check_done = False
        self.asked = 0

    def request(self) -> None:
        self.health_check_done = False  # as Django does at the start and the end of each
        web._trust_checked_connections()
        if not self.health_check_done:
            self.asked += 1
            self.health_check_done = True
        web._note_checked_connections()


def test_a_connection_found_alive_a_moment_ago_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    moment, connection = [50.0], Alive()
    monkeypatch.setattr(web.time, "monotonic", lambda: moment[0])
    monkeypatch.setattr(web.connections, "all", lambda initialized_only: [connection])
    for _ in range(12):  # 0.4 s apart: trust is not prolonged by itself
        connection.request()
        moment[0] += 0.4
    assert connection.asked == 4
    moment[0] += 60
    connection.request()
    assert connection.asked == 5
