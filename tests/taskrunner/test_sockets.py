"""Who may listen to a task, and what they hear."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from channels.layers import channel_layers, get_channel_layer
from channels.routing import URLRouter
from django.test import Client

from config.routing import websocket_urlpatterns
from core.live import group_name
from taskrunner import services
from taskrunner.models import Task, Worker
from tests.personas import Persona

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _own_layer() -> None:
    """A channel layer of this test's own loop."""
    channel_layers.backends.clear()


class Listener(ApplicationCommunicator):
    """A browser's side of one socket."""

    def __init__(self, path: str, client: Client | None) -> None:
        session = client.session if client is not None else {}
        scope = {"type": "websocket", "path": path, "query_string": b"", "headers": [], "session": session}
        super().__init__(URLRouter(websocket_urlpatterns), scope)

    async def connect(self) -> None:
        await self.send_input({"type": "websocket.connect"})
        assert (await self.receive_output(5))["type"] == "websocket.accept"

    async def hear(self) -> Any:
        return json.loads((await self.receive_output(5))["text"])

    async def say(self, what: object) -> None:
        await self.send_input({"type": "websocket.receive", "text": json.dumps(what)})

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(5)


def test_a_viewer_hears_the_log_and_others_do_not(
    join: Callable[..., Worker],
    submit: Callable[..., Task],
    alice: Persona,
    mallory: Persona,
    client_of: Callable[[Persona], Client],
) -> None:
    worker, task = join(), submit()
    services.claim(worker=worker)
    mine, hers = client_of(alice), client_of(mallory)

    def say(data: bytes) -> None:
        services.append_log(worker=worker, task_id=task.id, fence=1, stream="stderr", offset=0, data=data)

    async def go() -> list[Any]:
        path = f"/ws/tasks/{task.id}/stream"
        heard: list[Any] = []
        for client in (hers, None):
            other = Listener(path, client)
            await other.connect()
            heard.append((await other.receive_output(5))["code"])
        viewer = Listener(path, mine)
        await viewer.connect()
        heard.append(await viewer.hear())
        await database_sync_to_async(say)(b"first\n")
        heard.append(await viewer.hear())
        await viewer.say({})
        heard.append(await viewer.hear())
        await viewer.leave()
        return heard

    assert async_to_sync(go)() == [
        4404,
        4401,
        {"type": "hello"},
        {"type": "log", "fence": 1, "stream": "stderr", "first_line": 0, "lines": 1, "text": "first\n"},
        {"type": "pong"},
    ]


def test_telemetry_tells_whose_figures_are_new(alice: Persona, client_of: Callable[[Persona], Client]) -> None:
    client = client_of(alice)

    async def go() -> list[Any]:
        viewer = Listener("/ws/telemetry/stream", client)
        await viewer.connect()
        heard = [await viewer.hear()]
        for changes in ({"tasks": ["t"]}, {"tasks": ["t"], "workers": ["w"]}):
            notice = {"type": "changed", "text": json.dumps({"changes": changes})}
            await get_channel_layer().group_send(group_name(alice.organization.id), notice)
        heard.append(await viewer.hear())
        await viewer.leave()
        return heard

    assert async_to_sync(go)() == [{"type": "hello"}, {"type": "telemetry", "workers": ["w"]}]
