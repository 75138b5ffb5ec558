"""Every WebSocket, as every kind of caller and from every kind of page. A socket that is not listed fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from channels.layers import channel_layers
from django.conf import settings
from django.test import Client
from django.urls import URLPattern

from audit.models import AuditEntry
from config.asgi import application
from config.routing import websocket_urlpatterns
from tests.access import routes_tasks
from tests.access.matrix import World
from tests.personas import Persona

pytestmark = pytest.mark.django_db(transaction=True)
HOME = "http://localhost:8000"
OPEN, NOBODY, DENIED, GONE = 0, 4401, 4403, 4404
# What a stranger of another organization gets, and a colleague with whom the task is not shared.
TASK = {"stranger": GONE, "viewer": GONE}
HOUSE = {"stranger": OPEN}  # their own organization's
SOCKETS: dict[str, dict[str, int]] = {
    "ws/live": HOUSE,
    **{
        f"{prefix}/{route}": wanted
        for prefix in ("api", "api/v1", "ws")
        for route, wanted in (
            ("tasks/<uuid:task_id>/stream", TASK),
            ("tasks/<uuid:task_id>/metrics/stream", TASK),
            ("telemetry/stream", HOUSE),
        )
    },
}


@pytest.fixture
def world(alice: Persona, bob: Persona, olga: Persona, mallory: Persona) -> World:
    channel_layers.backends.clear()
    made = World(alice, bob, olga, mallory)
    routes_tasks.build(made)
    return made


async def _code(path: str, client: Client | None, origin: str | None) -> int:
    """0 for a socket that stays open, -1 for one that was refused before it opened, else the code that closed it."""
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value if client else "none"
    headers = [
        (b"host", b"localhost"),
        (b"user-agent", b"Firefox"),
        (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()),
    ]
    headers += [(b"origin", origin.encode())] if origin is not None else []
    scope = {
        "type": "websocket",
        "path": f"/{path}",
        "query_string": b"",
        "client": ("203.0.113.9", 40000),
        "headers": headers,
        "subprotocols": [],
    }
    socket = ApplicationCommunicator(application, scope)
    await socket.send_input({"type": "websocket.connect"})
    if (await socket.receive_output(timeout=10))["type"] != "websocket.accept":
        return -1
    first = await socket.receive_output(timeout=10)
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(timeout=10)
    return int(first["code"]) if first["type"] == "websocket.close" else OPEN


def test_every_socket_is_listed() -> None:
    routes = {str(pattern.pattern) for pattern in websocket_urlpatterns if isinstance(pattern, URLPattern)}
    assert len(websocket_urlpatterns) == len(routes)
    assert routes == set(SOCKETS)


def test_each_socket_answers_each_caller_from_our_pages_alone(
    world: World, client_of: Callable[[Persona], Client]
) -> None:
    owner, viewer, stranger = client_of(world.alice), client_of(world.bob), client_of(world.mallory)
    foreign = (None, "null", "https://evil.example", f"{HOME}.evil.example", "http://evil@example")

    async def ask(path: str) -> dict[str, int]:
        return {
            "owner": await _code(path, owner, HOME),
            "viewer": await _code(path, viewer, HOME),
            "stranger": await _code(path, stranger, HOME),
            "nobody": await _code(path, None, HOME),
            **{str(origin): await _code(path, owner, origin) for origin in foreign},
        }

    wrong = {}
    for route, wanted in SOCKETS.items():
        got = async_to_sync(ask)(route.replace("<uuid:task_id>", world.ids["task"]))
        right = {"owner": OPEN, "viewer": OPEN, "nobody": NOBODY, **wanted}
        wrong |= {f"{route} as {who}": code for who, code in got.items() if code != right.get(who, -1)}
    assert wrong == {}


def test_a_refused_socket_leaves_a_denied_line(
    world: World, client_of: Callable[[Persona], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.permissions.ROLE_PERMISSIONS", {"viewer": frozenset({"nodes.view"})})
    client = client_of(world.bob)
    assert async_to_sync(_code)("ws/telemetry/stream", client, HOME) == DENIED
    line = AuditEntry.objects.for_org(world.alice.organization).get(verb="access.denied")
    assert (line.target_id, line.actor_label) == ("workers.view", "Bob")
    assert "socket /ws/telemetry/stream" in line.detail
    assert (line.ip, line.user_agent) == ("203.0.113.9", "Firefox")
