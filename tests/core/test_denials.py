"""Every refusal of a known caller is a Denied line, wherever it happens, and a flood of them fills no log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.test import Client, RequestFactory
from redis.exceptions import ConnectionError as RedisConnectionError

from accounts import services as accounts
from audit.models import AuditEntry
from core import denials, error_views
from core.errors import Forbidden
from tests.access import matrix
from tests.access.matrix import Route, World
from tests.personas import Persona

pytestmark = pytest.mark.django_db
REFUSED = [route for route in matrix.all_routes() if route.viewer == 403]
APPS = {"audit", "settings", "nodes", "clusters", "gpu-fleet", "tasks", "workers", "policies", "hibernation", "costs"}


def lines(persona: Persona, actor_id: str = "") -> list[AuditEntry]:
    found = AuditEntry.objects.for_org(persona.organization).filter(verb="access.denied", outcome="denied")
    return list(found.filter(actor_id=actor_id or str(persona.user.id)).order_by("seq"))


def _left_no_line(route: Route, world: World, client: Client) -> bool:
    kwargs = {"content_type": "application/json"} if route.api and route.method != "GET" else {}
    body = {name: value.format(**world.ids) if isinstance(value, str) else value for name, value in route.body.items()}
    with transaction.atomic():
        cache.clear()
        before = len(lines(world.bob))
        answer = getattr(client, route.method.lower())(route.path.format(**world.ids), body, **kwargs)
        missing = answer.status_code == 403 and len(lines(world.bob)) == before
        transaction.set_rollback(True)
    return missing


def test_every_refused_route_of_every_app_leaves_a_line(world: World, client_of: Callable[[Persona], Client]) -> None:
    client = client_of(world.bob)
    client.raise_request_exception = False
    rooms = {part for route in REFUSED for part in route.path.split("/")[1:3]}
    assert rooms >= APPS, APPS - rooms
    assert [route.label for route in REFUSED if _left_no_line(route, world, client)] == []


def test_looking_at_what_one_may_see_leaves_none(world: World, client_of: Callable[[Persona], Client]) -> None:
    client, accused = client_of(world.bob), []
    client.raise_request_exception = False
    for route in matrix.all_routes():
        if route.method == "GET" and route.viewer == 200:
            cache.clear()
            before = len(lines(world.bob))
            client.get(route.path.format(**world.ids))
            accused += [route.path] * (len(lines(world.bob)) > before)
    assert accused == []


def test_without_a_cache_every_refusal_is_a_line(
    bob: Persona, rf: RequestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any) -> bool:
        raise RedisConnectionError("no broker")

    monkeypatch.setattr("core.denials.cache.add", away)
    for _ in range(3):
        with denials.told(rf.get("/")), pytest.raises(Forbidden):
            bob.actor.require("nodes.operate", "wake nodes")
    assert [e.target_id for e in lines(bob)] == ["nodes.operate"] * 3


def test_a_line_says_what_was_wanted_and_where(alice: Persona, bob: Persona, client_of: Callable[..., Client]) -> None:
    invitation, _ = accounts.invite(actor=alice.actor, email="nina@elsewhere.test", role="viewer")
    client_of(bob).post(f"/settings/members/invitations/{invitation.id}/revoke", headers={"User-Agent": "Firefox"})
    (line,) = lines(bob)
    assert line.target_id == "members.manage"
    assert str(invitation.id) in line.detail
    assert "POST /settings/members/invitations/" in line.detail
    assert (line.ip, line.user_agent) == ("127.0.0.1", "Firefox")


def test_keys_and_agents_leave_lines_of_their_own(alice: Persona) -> None:
    key, text = accounts.create_api_key(actor=alice.actor, name="ci", scopes=["members.view"])
    enrolment = accounts.create_enrolment_token(actor=alice.actor, kind="worker", name="Rack")[1]
    agent, token = accounts.mint_agent_token(enrolment=enrolment, name="rack-1")
    for kind, word in (("Api-Key", text), ("Agent", token)):
        answer = Client().get("/api/audit", headers={"Authorization": f"{kind} {word}"})
        assert answer.status_code == 403
    assert [(e.actor_kind, e.target_id) for e in lines(alice, str(key.id))] == [("api_key", "audit.view")]
    assert [e.actor_kind for e in lines(alice, str(agent.id))] == ["agent"]


def test_a_view_that_goes_on_without_it_leaves_a_line_too(bob: Persona, rf: RequestFactory) -> None:
    with denials.told(rf.get("/")), pytest.raises(Forbidden), transaction.atomic():
        bob.actor.require("nodes.operate", "wake nodes")
    assert [e.target_id for e in lines(bob)] == ["nodes.operate"]


def test_what_django_refuses_counts(bob: Persona, rf: RequestFactory) -> None:
    request = rf.get("/api/x")
    request.actor = bob.actor  # type: ignore[attr-defined]
    assert error_views.forbidden(request, PermissionDenied("Not here.")).status_code == 403
    assert [e.target_label for e in lines(bob)] == ["Not here."]


def test_a_flood_says_how_large_it_was_without_filling_the_log(bob: Persona, rf: RequestFactory) -> None:
    for _ in range(250):
        denials.note(Forbidden("No.", permission="nodes.operate"), bob.actor)
    assert [e.detail for e in lines(bob)] == [
        "Needs nodes.operate.",
        "Needs nodes.operate. The 10th time within ten minutes.",
        "Needs nodes.operate. The 100th time within ten minutes.",
    ]
    for number in range(300):
        denials.note(Forbidden(f"No {number}.", permission="nodes.operate"), bob.actor)
    assert len(lines(bob)) == denials.LINES_AN_HOUR + 1  # and the hundredth


def test_strangers_and_other_errors_leave_none(alice: Persona) -> None:
    before = AuditEntry.objects.for_org(alice.organization).count()
    assert Client().get("/api/audit").status_code == 401
    denials.note(ValueError("x"), alice.actor)
    denials.note(Forbidden("x"), None)
    assert AuditEntry.objects.for_org(alice.organization).count() == before
