"""Waiting for a task never takes the web server's last thread."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts import services as accounts
from taskrunner import services
from taskrunner.api import agent_views
from tests.personas import Persona


@pytest.mark.django_db
def test_a_call_too_many_is_sent_away_but_still_gets_what_is_there(alice: Persona) -> None:
    _, enrolment = accounts.create_enrolment_token(actor=alice.actor, kind="worker", name="test")
    _, token = services.register(enrolment=enrolment, facts={"name": "anvil", "cpu": 1000, "memory": 1024})
    ask = {"path": "/api/agent/claim?wait=20", "headers": {"Authorization": f"Agent {token}"}}
    held = [agent_views._waiting.acquire(blocking=False) for _ in range(agent_views.MOST_WAITING)]
    try:
        assert all(held)
        away = Client().post(**ask)
        assert (away.status_code, away["Retry-After"]) == (204, "2")
        services.submit(actor=alice.actor, fields={"name": "build", "image": "busybox:1"})
        assert Client().post(**ask).status_code == 200
    finally:
        for _ in held:
            agent_views._waiting.release()
    assert Client().post("/api/agent/claim?wait=0.1", headers=ask["headers"]).status_code == 204
