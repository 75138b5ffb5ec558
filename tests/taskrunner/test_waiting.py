"""Waiting for a task holds no thread: hundreds wait in the event loop, each task goes to one of them at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import Client

from accounts import services as accounts
from config.web import ThreadedHandler
from core.errors import Conflict
from taskrunner import services, waiting
from taskrunner.models import Task, Worker
from tests.personas import Persona


@pytest.fixture(autouse=True)
def no_connection_stays() -> Iterator[None]:
    yield
    waiting._pool.submit(connections.close_all).result()
    asyncio.run(sync_to_async(connections.close_all)())


@pytest.fixture
def handler() -> Iterator[ThreadedHandler]:
    """The web server's handler with one thread, whose connection goes with the test."""
    made = ThreadedHandler(1)
    yield made
    made._pool.submit(connections.close_all).result()


def wait(worker: Worker, seconds: float = 20.0) -> asyncio.Task[list[services.Claim]]:
    async def call() -> list[services.Claim]:
        return await waiting.wait(worker, await sync_to_async(_begun)(worker), 1, seconds)

    return asyncio.create_task(call())


def _begun(worker: Worker):
    call = uuid4()
    Worker.objects.all_orgs().filter(id=worker.id).update(claim_call=call)
    return call


@pytest.fixture
def workers(transactional_db: None, alice: Persona, join: Callable[..., Worker]) -> list[Worker]:
    return [join(f"w{n}", cpu=1000) for n in range(12)]


@pytest.mark.usefixtures("transactional_db")
class TestTheRoom:
    def test_each_task_goes_to_one_and_who_waits_longest_is_first(self, workers, submit, monkeypatch):
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

        async def play() -> None:
            calls = [wait(worker) for worker in workers]
            await asyncio.sleep(0.2)
            made = [await sync_to_async(submit)(f"t{n}", cpu=600) for n in range(3)]
            done, _ = await asyncio.wait(calls[:3], timeout=10)
            assert [[c.task.id for c in call.result()] for call in calls[:3]] == [[task.id] for task in made]
            assert len(done) == 3
            assert not any(call.done() for call in calls[3:])
            for call in calls[3:]:
                call.cancel()

        asyncio.run(play())

    def test_only_who_fits_is_asked(self, workers, submit, join, monkeypatch):
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        asked = []
        true = services.claim_some
        monkeypatch.setattr(services, "claim_some", lambda **how: asked.append(how["worker"].name) or true(**how))
        ssd = join("ssd", labels={"disk": "ssd"})

        async def play() -> None:
            calls = [wait(worker) for worker in [*workers, ssd]]
            await sync_to_async(submit)("labelled", labels={"disk": "ssd"})
            assert [c.task.name for c in await asyncio.wait_for(calls[-1], 10)] == ["labelled"]
            for call in calls[:-1]:
                call.cancel()

        asyncio.run(play())
        assert asked == ["ssd"]

    def test_a_newer_call_ends_the_older_at_once_and_time_ends_a_call(self, workers, monkeypatch):
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

        async def play() -> None:
            older = wait(workers[0])
            await asyncio.sleep(0.2)
            newer = wait(workers[0], 0.3)
            with pytest.raises(Conflict) as refused:
                await asyncio.wait_for(older, 2)
            assert refused.value.code == "superseded"
            assert await asyncio.wait_for(newer, 5) == []

        asyncio.run(play())

    def test_a_task_that_was_claimed_as_the_time_ran_out_is_still_handed_over(self, workers, submit, monkeypatch):
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        true = services.claim_some

        def slowly(**how):
            time.sleep(0.6)
            return true(**how)

        monkeypatch.setattr(services, "claim_some", slowly)
        submit("late")

        async def play() -> None:
            assert [c.task.name for c in await asyncio.wait_for(wait(workers[0], 0.3), 10)] == ["late"]

        asyncio.run(play())

    def test_a_call_that_began_in_another_process_ends_this_one(self, workers, submit, monkeypatch):
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

        async def play() -> None:
            older = wait(workers[0])
            await asyncio.sleep(0.2)
            await sync_to_async(_begun)(workers[0])
            await sync_to_async(submit)()
            with pytest.raises(Conflict):
                await asyncio.wait_for(older, 10)

        asyncio.run(play())
        assert Task.objects.all_orgs().get().status == "queued"


class TestOverHttp:
    """The web server's own handler with one thread: more calls than threads wait, and a page is answered meanwhile."""

    def test_waiting_leaves_the_only_thread_to_others(self, transactional_db, handler, alice, submit, monkeypatch):
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        _, enrolment = accounts.create_enrolment_token(actor=alice.actor, kind="worker", name="test")
        facts = {"cpu": 1000, "memory": 1024}
        tokens = [services.register(enrolment=enrolment, facts={"name": f"w{n}", **facts})[1] for n in range(5)]

        async def play() -> None:
            calls = [asyncio.create_task(ask(handler, token, "?wait=20&most=4")) for token in tokens]
            await asyncio.sleep(0.5)
            assert (await asyncio.wait_for(ask(handler, "", path="/healthz", method="GET"), 5))[0] == 200
            assert not any(call.done() for call in calls)
            again = asyncio.create_task(ask(handler, tokens[0], "?wait=0.2"))
            status, headers, body = await asyncio.wait_for(calls[0], 5)
            assert (status, headers["content-type"]) == (409, "application/problem+json")
            assert b"superseded" in body
            assert (await asyncio.wait_for(again, 5))[0] == 204
            await sync_to_async(submit)("build")
            status, headers, body = await asyncio.wait_for(calls[1], 10)
            assert (status, headers["content-type"]) == (200, "application/json")
            assert len(body) == int(headers["content-length"])
            assert headers["x-request-id"]
            assert b'"name": "build"' in body
            for call in calls[2:]:
                call.cancel()

        asyncio.run(play())

    def test_who_goes_away_waits_no_longer(self, transactional_db, handler, alice, monkeypatch):
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        _, enrolment = accounts.create_enrolment_token(actor=alice.actor, kind="worker", name="test")
        worker, token = services.register(enrolment=enrolment, facts={"name": "w", "cpu": 1000, "memory": 1024})

        async def play() -> None:
            gone = asyncio.Event()
            call = asyncio.create_task(ask(handler, token, "?wait=20", gone=gone))
            await asyncio.sleep(0.5)
            rooms = waiting._rooms[asyncio.get_running_loop()]
            assert list(rooms[alice.organization.id].calls) == [worker.id]
            gone.set()
            assert await asyncio.wait_for(call, 5) is None
            assert rooms[alice.organization.id].calls == {}

        asyncio.run(play())

    @pytest.mark.django_db
    def test_a_call_too_many_is_sent_away_but_still_gets_what_is_there(self, alice, submit, monkeypatch):
        monkeypatch.setattr(waiting, "MOST_WAITING", 0)
        _, enrolment = accounts.create_enrolment_token(actor=alice.actor, kind="worker", name="test")
        _, token = services.register(enrolment=enrolment, facts={"name": "anvil", "cpu": 1000, "memory": 1024})
        call = {"path": "/api/agent/claim?wait=20", "headers": {"Authorization": f"Agent {token}"}}
        away = Client().post(**call)
        assert (away.status_code, away["Retry-After"]) == (204, "2")
        submit()
        assert Client().post(**call).status_code == 200
        assert Client().post("/api/agent/claim?most=x", headers=call["headers"]).status_code == 422


async def ask(handler, token, query="", *, path="/api/agent/claim", method="POST", gone=None):
    """One request as a server hands it over; status, headers and body, or None when no answer was sent."""
    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.lstrip("?").encode(), "client": ("", 0),
        "headers": [(b"host", b"testserver"), (b"authorization", f"Agent {token}".encode())], "scheme": "http",
        "server": ("testserver", 80), "root_path": "", "http_version": "1.1", "asgi": {"version": "3.0"},
    }  # fmt: skip
    given = iter([{"type": "http.request", "body": b"", "more_body": False}])
    sent = []

    async def receive():
        for message in given:
            return message
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await handler(scope, receive, send)
    if not sent:
        return None
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])
