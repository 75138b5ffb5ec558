"""The live socket: only one's own organization, only while one is a member, only from our own pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import channel_layers
from django.conf import settings
from django.test import Client

from accounts.models import Membership
from config.asgi import application
from core import live
from core.live import group_name
from operations import consumers
from tests.personas import Persona

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = (b"origin", b"http://localhost:8000")


@pytest.fixture(autouse=True)
def _own_layer() -> None:
    """A channel layer of this test's own loop."""
    channel_layers.backends.clear()


class Socket(ApplicationCommunicator):
    """One WebSocket to the whole application, as the web server would open it."""

    def __init__(self, client: Client | None, origin: tuple[bytes, bytes] = ORIGIN) -> None:
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value if client else "none"
        headers = [origin, (b"host", b"localhost"), (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode())]
        scope = {"type": "websocket", "path": "/ws/live", "query_string": b"", "headers": headers, "subprotocols": []}
        super().__init__(application, scope)

    async def connect(self) -> dict[str, Any]:
        await self.send_input({"type": "websocket.connect"})
        return await self.receive_output(timeout=5)

    async def hear(self) -> dict[str, Any]:
        message = await self.receive_output(timeout=5)
        return json.loads(message["text"]) if message["type"] == "websocket.send" else message

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(timeout=5)


async def _changed(persona: Persona, ids: list[str]) -> None:
    group = group_name(persona.organization.id)
    await sync_to_async(live._deliver)({group: {"nodes": set(ids), "audit": set()}})


def test_each_organization_hears_its_own_things_alone(
    alice: Persona, mallory: Persona, client_of: Callable[..., Client]
) -> None:
    hers, theirs = client_of(alice), client_of(mallory)

    async def talk() -> tuple[Any, bool]:
        ours, foreign = Socket(hers), Socket(theirs)
        for socket in (ours, foreign):
            assert (await socket.connect())["type"] == "websocket.accept"
            assert (await socket.hear())["topic"] == "hello"
        await _changed(alice, ["node-1"])
        heard = await ours.hear()
        silent = await foreign.receive_nothing(timeout=0.5)
        await ours.leave()
        await foreign.leave()
        return heard, silent

    heard, silent = async_to_sync(talk)()
    assert heard == {"changes": {"nodes": ["node-1"], "audit": []}}
    assert silent, "another organization heard of our node"


def test_what_several_processes_tell_of_one_change_is_one_message(
    alice: Persona, client_of: Callable[..., Client]
) -> None:
    client = client_of(alice)
    group = group_name(alice.organization.id)

    async def talk() -> tuple[Any, Any]:
        socket = Socket(client)
        await socket.connect()
        await socket.hear()
        for changes in ({"nodes": {"n1"}}, {"nodes": {"n2"}, "money": set()}):
            await sync_to_async(live._deliver)({group: changes})
        first = await socket.hear()
        await sync_to_async(live._deliver)({group: {"nodes": {"n3"}}})
        early = await socket.receive_nothing(timeout=0.3)
        second = await socket.hear()
        await socket.leave()
        return (first, early), second

    (first, early), second = async_to_sync(talk)()
    assert first == {"changes": {"nodes": ["n1", "n2"], "money": []}}
    assert early, "the page is made to look twice within a moment"
    assert second == {"changes": {"nodes": ["n3"]}}


def test_a_stranger_without_a_session_is_closed_with_4401(alice: Persona) -> None:
    async def talk() -> dict[str, Any]:
        socket = Socket(None)
        await socket.connect()
        return await socket.hear()

    assert async_to_sync(talk)()["code"] == 4401


def test_another_site_may_not_open_it(alice: Persona, client_of: Callable[..., Client]) -> None:
    client = client_of(alice)

    async def talk() -> str:
        return (await Socket(client, (b"origin", b"https://evil.example")).connect())["type"]

    assert async_to_sync(talk)() == "websocket.close"


def test_who_is_no_longer_a_member_hears_nothing_more(
    alice: Persona, bob: Persona, client_of: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "RECHECK_SECONDS", 0.0)
    client = client_of(bob)

    async def talk() -> dict[str, Any]:
        socket = Socket(client)
        await socket.connect()
        await socket.hear()
        await sync_to_async(Membership.objects.for_org(alice.organization).filter(user=bob.user).delete)()
        await _changed(alice, ["node-1"])
        return await socket.hear()

    answer = async_to_sync(talk)()
    assert (answer["type"], answer["code"]) == ("websocket.close", 4403)
