"""Pages of tasks and workers, read as a person reads them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from core import clock, encryption
from taskrunner import services, viewing
from taskrunner.models import Quota, Task, TaskSchedule, TaskTemplate, Worker
from taskrunner.placing import Resources
from taskrunner.selectors import WorkerLine
from taskrunner.selectors.workers import _line
from tests.personas import Persona

pytestmark = pytest.mark.django_db
FORM = {"name": "nightly", "image": "busybox:1", "cpu": "1", "memory": "64", "timeout": "5"}


@pytest.fixture
def browser(alice: Persona, client: Client) -> Client:
    client.force_login(alice.user)
    return client


def send(browser: Client, **fields: Any) -> Any:
    return browser.post("/tasks/new", {**FORM, **fields})


def show(browser: Client, task: Task) -> str:
    return str(browser.get(task.get_absolute_url()).content.decode())


def test_a_file_is_sealed_and_lies_where_it_was_put(browser: Client) -> None:
    assert send(browser, file_path="/etc/app.ini", file_text=" a=1\n").status_code == 302
    task = Task.objects.all_orgs().get()
    assert task.files == ["/etc/app.ini"]
    assert encryption.unseal(task.sealed, bound_to=task.seal_name)["files"] == {"/etc/app.ini": " a=1\n"}
    wrong = send(browser, file_path="../etc", file_text="x")
    assert wrong.status_code == 422


def test_a_task_runs_after_those_that_were_chosen(browser: Client, alice: Persona, submit: Callable[..., Task]) -> None:
    first, ended = submit("first"), submit("ended")
    services.cancel(actor=alice.actor, task_id=ended.id)
    page = browser.get("/tasks/new").content.decode()
    assert str(first.id) in page
    assert str(ended.id) not in page
    assert browser.post("/tasks/new", {**FORM, "needs": [str(first.id)]}).status_code == 302
    task = Task.objects.all_orgs().get(name="nightly")
    assert (task.status, list(task.needs.all())) == ("waiting", [first])
    assert browser.post("/tasks/new", {**FORM, "needs": [str(ended.id)]}).status_code == 422
    assert f'Runs after</dt><dd class="text-wrap"><a href="{first.get_absolute_url()}"' in show(browser, task)
    assert f'Then runs</dt><dd class="text-wrap"><a href="{task.get_absolute_url()}"' in show(browser, first)


def test_a_task_is_repeated_and_no_more(browser: Client) -> None:
    wrong = send(browser, cron="61 3 * * *", zone="Europe/Berlin")
    assert wrong.status_code == 422
    assert "not a cron expression" in wrong.content.decode()
    secret = send(browser, cron="0 3 * * *", secrets="A=b")
    assert "keeps no secrets" in secret.content.decode()
    assert send(browser, cron="0 3 * * *", zone="Europe/Berlin").headers["Location"] == "/tasks/schedules"
    assert not Task.objects.all_orgs().exists()
    page = browser.get("/tasks/schedules").content.decode()
    assert "0 3 * * *" in page
    row = TaskSchedule.objects.all_orgs().get()
    assert browser.post(f"/tasks/schedules/{row.id}/delete").status_code == 302
    assert not TaskSchedule.objects.all_orgs().exists()


def test_workers_are_drawn_by_the_network_that_they_call_from() -> None:
    def line(name: str, address: str, health: str = "idle", kind: str = "") -> WorkerLine:
        return WorkerLine(Worker(name=name, address=address, sleepable_kind=kind), health, 0, Resources())

    drawn = viewing.topology(
        [
            line("a", "10.1.2.3"),
            line("b", "10.1.2.9", "lost"),
            line("c", "::ffff:10.9.0.1", "lost"),
            line("d", "2001:db8::7"),
            line("e", "", kind="cluster"),
            line("f", ""),
        ]
    )
    assert [(net["name"], [n["line"].worker.name for n in net["nodes"]], net["is_lost"]) for net in drawn] == [
        ("10.1.2.0/24", ["a", "b"], False),
        ("10.9.0.0/24", ["c"], True),
        ("2001:db8::/64", ["d"], False),
        ("Clusters, reached by Curfew", ["e"], False),
        ("Not heard of yet", ["f"], False),
    ]


def test_an_admin_sees_people_with_their_tasks_and_what_happened(
    browser: Client, alice: Persona, submit: Callable[..., Task]
) -> None:
    task = submit("bake")
    services.cancel(actor=alice.actor, task_id=task.id)
    services.save_quota(actor=alice.actor, user_id=alice.user.id, limits={"most_running": 3})
    people = browser.get("/workers/people").content.decode()
    assert f"/tasks/?owner={alice.user.id}" in people
    assert "3 running" in people
    mine = browser.get(f"/tasks/?owner={alice.user.id}").content.decode()
    assert "bake" in mine
    for nobody in ("00000000-0000-0000-0000-000000000001", "x"):
        assert "Nothing matches" in browser.get(f"/tasks/?owner={nobody}").content.decode()
    events = browser.get("/workers/events").content.decode()
    assert "Submitted the task bake" in events
    assert "bake" not in browser.get("/workers/events?q=nosuchthing").content.decode().split("events-grid")[1]


def test_events_come_in_windows_and_the_log_is_not_counted(browser: Client, submit: Callable[..., Task]) -> None:
    for number in range(52):
        submit(f"bake-{number}")
    with CaptureQueriesContext(connection) as asked:
        first = browser.get("/workers/events").content.decode()
    assert not [q["sql"] for q in asked if "COUNT(" in q["sql"] and 'FROM "audit_auditentry"' in q["sql"]]
    assert told(first) == list(range(51, 1, -1))
    older = re.search(r'href="(\?before=[^"]+)"', first)
    assert older is not None
    second = browser.get(f"/workers/events{html.unescape(older[1])}").content.decode()
    assert told(second) == [1, 0]
    assert "Newer" in second


def told(page: str) -> list[int]:
    """The numbers of the tasks whose submission a page tells of, in its order."""
    return [int(number) for number in re.findall(r">Submitted the task bake-(\d+)<", page)]


def test_a_template_is_kept_and_deleted_from_the_form(browser: Client) -> None:
    assert send(browser, template="Nightly").status_code == 302
    row = TaskTemplate.objects.all_orgs().get()
    assert f"/tasks/templates/{row.id}/delete" in browser.get("/tasks/new").content.decode()
    assert browser.post(f"/tasks/templates/{row.id}/delete").status_code == 302
    assert not TaskTemplate.objects.all_orgs().exists()


def test_limits_are_given_and_shown_in_cores(browser: Client) -> None:
    assert browser.post("/workers/limits", {"row": "all", "all-most_cpu": "2.5"}).status_code == 302
    assert Quota.objects.all_orgs().get().most_cpu == 2500
    assert 'value="2.5"' in browser.get("/workers/limits").content.decode()


def test_what_a_worker_uses_is_a_part_of_its_machine_and_not_of_what_it_offers() -> None:
    """One that offers two of sixteen cores is not overloaded while its machine is not."""
    usage = {"cpu": 150, "memory": 4096, "storage": 3072, "cpu_whole": 1600, "memory_whole": 16384}
    worker = Worker(name="a", cpu=2000, memory=2048, storage=1024, usage=usage, seen_at=clock.now())
    line = _line(worker, None)
    assert line.health == "idle"
    assert [(bar.label, bar.used, bar.total) for bar in line.bars] == [
        ("CPU", 1.5, 16),
        ("Memory", 4, 16),
        ("Disk", 3, 4),
    ]
    assert line.offers == "2 cores, 2.0 GiB memory, 1.0 GiB disk"
    worker.usage = {"cpu": 199, "memory": 100}
    assert _line(worker, None).health == "overloaded"
