"""Signed calls in, changes of tasks out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import Membership
from notifications import services as notifications
from notifications.models import Channel, Delivery
from taskrunner import services
from taskrunner.models import Task, TaskHook, Worker
from taskrunner.services.hooking import signature
from tests.personas import Persona
from tests.taskrunner.conftest import Time

pytestmark = [pytest.mark.integration, pytest.mark.django_db]
FIELDS = {"name": "train", "image": "busybox:1", "command": ["true"], "environment": {"MODE": "fast", "LEVEL": "1"}}


@pytest.fixture
def hook(alice: Persona, time: Time) -> tuple[TaskHook, str]:
    template = services.save_template(actor=alice.actor, name="train", fields=FIELDS)
    return services.save_hook(actor=alice.actor, name="ci", template_id=template.id, per_minute=3)


@pytest.fixture
def call(hook: tuple[TaskHook, str], time: Time, client: Client) -> Callable[..., Any]:
    def make(body: bytes = b"", *, secret: str = hook[1], age: float = 0, sent: bytes | None = None) -> Any:
        moment = int(time.now.timestamp() - age)
        header = f"t={moment},v1={signature(secret, moment, body)}"
        return client.post(
            f"/api/hooks/tasks/{hook[0].id}",
            data=body if sent is None else sent,
            content_type="application/json",
            headers={"Curfew-Signature": header},
        )

    return make


def test_a_signed_call_submits_the_template(call: Callable[..., Any], alice: Persona) -> None:
    answer = call(json.dumps({"name": "train 7", "environment": {"LEVEL": "2"}}).encode())
    assert answer.status_code == 202
    task = Task.objects.all_orgs().get(id=answer.json()["task"])
    assert (task.name, task.environment, task.owner) == ("train 7", {"MODE": "fast", "LEVEL": "2"}, alice.user)


def test_the_same_call_again_gives_the_same_task(call: Callable[..., Any]) -> None:
    first, second = call(b"{}").json(), call(b"{}").json()
    assert first == second
    assert Task.objects.all_orgs().count() == 1


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"secret": "whsec_other"}, 401),
        ({"age": 301}, 401),
        ({"age": -301}, 401),
        ({"sent": b'{"name": "x"}'}, 401),
        ({"body": b"{"}, 422),
        ({"body": b'{"image": "evil:1"}'}, 422),
        ({"body": b'{"environment": {"A": 1}}'}, 422),
        ({"body": b'{"name": "a\\u0007b"}'}, 422),
        ({"body": b"x" * 70_000}, 413),
    ],
)
def test_what_is_refused(call: Callable[..., Any], how: dict[str, Any], status: int) -> None:
    answer = call(**how)
    assert (answer.status_code, Task.objects.all_orgs().count()) == (status, 0), answer.content


def test_too_many_calls_wait(call: Callable[..., Any], time: Time) -> None:
    statuses = [call(f'{{"name": "n{n}"}}'.encode()).status_code for n in range(4)]
    late = call(b'{"name": "late"}')
    assert (statuses, late.status_code, int(late.headers["Retry-After"])) == ([202, 202, 202, 429], 429, 61)
    time.go(61)
    assert call(b'{"name": "later"}').status_code == 202


def test_who_left_submits_nothing(call: Callable[..., Any], alice: Persona, hook: tuple[TaskHook, str]) -> None:
    Membership.objects.for_org(alice.organization.id).filter(user=alice.user).delete()
    assert call(b"{}").status_code == 403
    hook[0].refresh_from_db()
    assert "no longer a member" in hook[0].problem


def test_an_unsigned_call_is_refused_and_an_unknown_hook_is_not_found(client: Client, hook: Any) -> None:
    assert client.post(f"/api/hooks/tasks/{hook[0].id}").status_code == 401
    assert client.post("/api/hooks/tasks/00000000-0000-0000-0000-000000000000").status_code == 404


@pytest.fixture
def heard(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a webhook channel that asked for the course of tasks is sent."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr("core.ssrf.check_url", lambda url: None)
    names = ["task.started", "task.succeeded", "task.failed", "task.cancelled"]
    notifications.add_channel(actor=alice.actor, name="ci", kind="webhook", url="https://ci.test/h", events=names)
    notifications.add_channel(actor=alice.actor, name="everything", kind="webhook", url="https://all.test/h")

    def post(url: str, body: bytes, headers: Any) -> None:
        sent.extend(json.loads(body)["events"])

    monkeypatch.setattr("notifications.senders._post", post)
    return sent


def test_changes_are_told_once_each(
    join: Callable[..., Worker], submit: Callable[..., Task], heard: list[dict[str, Any]], time: Time
) -> None:
    worker = join()
    task = submit("build", secrets={"TOKEN": "hunter2"}, retries=1, retry_on=["error"])
    for fence in (1, 2):
        assert services.claim(worker=worker) is not None
        for _ in range(2):
            services.start(worker=worker, task_id=task.id, fence=fence)
        services.finish(worker=worker, task_id=task.id, fence=fence, exit_class="error", exit_code=3)
        time.go(60)
    notifications.deliver_due()
    told = [(e["event"], e["data"]["status"], e["data"]["attempt"]) for e in heard]
    assert told[0] == ("task.started", "running", 1)
    assert sorted(told[1:]) == [("task.failed", "failed", 2), ("task.started", "running", 2)]  # of the same moment
    failed = next(e for e in heard if e["event"] == "task.failed")
    assert failed["data"]["exit_code"] == 3
    assert failed["url"].endswith(f"/tasks/{task.id}/")
    assert "hunter2" not in json.dumps(heard)
    everything = Channel.objects.all_orgs().get(name="everything")
    assert Delivery.objects.all_orgs().filter(channel=everything).count() == 0
