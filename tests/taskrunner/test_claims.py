"""Claims, fences, leases, retries, needs, limits: every effect once, whoever is killed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEntry
from core.errors import Conflict, InvalidInput, InvalidState, NotFound, QuotaExceeded
from taskrunner import services
from taskrunner.models import Attempt, Task, Worker

pytestmark = pytest.mark.django_db


def status_of(task: Task) -> str:
    return Task.objects.all_orgs().get(id=task.id).status


def run(worker: Worker, exit_class: str = "ok", exit_code: int = 0) -> Task:
    claim = services.claim(worker=worker)
    assert claim is not None
    facts = {"worker": worker, "task_id": claim.task.id, "fence": claim.task.fence}
    services.start(**facts)
    return services.finish(**facts, exit_class=exit_class, exit_code=exit_code)


def test_the_first_by_priority_and_age_that_fits(join, submit, time):
    big = submit("big", cpu=64_000, priority=9)
    labelled = submit("labelled", labels={"disk": "ssd"}, priority=8)
    old = submit("old")
    time.go(1)
    urgent = submit("urgent", priority=5)
    worker = join()
    taken = [services.claim(worker=worker).task.id for _ in range(2)]
    assert taken == [urgent.id, old.id]
    assert services.claim(worker=worker) is None
    assert services.claim(worker=join("ssd", labels={"disk": "ssd"})).task.id == labelled.id
    assert status_of(big) == "queued"


def test_no_more_than_fits_at_once(join, submit):
    for n in range(3):
        submit(f"t{n}", cpu=2000)
    worker = join(cpu=4000)
    assert [services.claim(worker=worker) is not None for _ in range(3)] == [True, True, False]


def test_a_task_that_ends_well_is_audited_and_said_once(join, submit, alice):
    task = submit()
    worker = join()
    done = run(worker)
    again = services.finish(worker=worker, task_id=task.id, fence=1, exit_class="error", exit_code=1)
    assert (done.status, again.status) == ("succeeded", "succeeded")
    verbs = AuditEntry.objects.all_orgs().filter(target_id=str(task.id)).order_by("seq").values_list("verb", flat=True)
    assert list(verbs) == ["task.submitted", "task.started", "task.finished"]


def test_a_silent_worker_loses_its_task_and_its_word(join, submit, time):
    task = submit(retries=1)
    first, second = join("first"), join("second")
    old = services.claim(worker=first).task
    services.start(worker=first, task_id=task.id, fence=old.fence)
    services.renew(worker=first, task_id=task.id, fence=old.fence)
    time.go(44)
    assert services.sweep_leases() == 0
    time.go(2)
    assert services.sweep_leases() == 1
    assert status_of(task) == "queued"
    assert services.claim(worker=second) is None  # not before the pause is over
    time.go(15)
    new = services.claim(worker=second).task
    assert (new.id, new.fence) == (task.id, 2)
    for call in (
        lambda: services.renew(worker=first, task_id=task.id, fence=1),
        lambda: services.append_log(worker=first, task_id=task.id, fence=1, stream="stdout", offset=0, data=b"x"),
        lambda: services.finish(worker=first, task_id=task.id, fence=1, exit_class="ok"),
        lambda: services.start(worker=second, task_id=task.id, fence=1),
    ):
        with pytest.raises(Conflict) as refused:
            call()
        assert refused.value.code == "stale_lease"
    services.finish(worker=second, task_id=task.id, fence=2, exit_class="ok", exit_code=0)
    assert list(Attempt.objects.order_by("number").values_list("exit_class", flat=True)) == ["lost", "ok"]


def test_a_claim_that_nobody_heard_of_costs_no_attempt(join, submit, time):
    task, worker = submit(), join()
    assert services.claim(worker=worker).task.id == task.id
    time.go(16)
    assert services.sweep_leases() == 1
    assert status_of(task) == "queued"
    assert services.claim(worker=worker).task.attempt == 1


def test_a_newer_call_ends_the_older_ones(join, submit):
    worker, (old, new) = join(), (uuid4(), uuid4())
    for call in (old, new):
        assert services.claim_some(worker=worker, most=1, call=call, begins=True) == []
    task = submit()
    with pytest.raises(Conflict) as refused:
        services.claim_some(worker=worker, most=1, call=old)
    assert refused.value.code == "superseded"
    assert [c.task.id for c in services.claim_some(worker=worker, most=1, call=new)] == [task.id]


def test_several_at_once_are_the_first_that_fit_together(join, submit, time):
    for name, cpu in (("a", 2000), ("b", 1500), ("c", 1000), ("d", 500)):
        submit(name, cpu=cpu)
        time.go(1)
    worker = join(cpu=4000)
    assert [c.task.name for c in services.claim_some(worker=worker, most=2)] == ["a", "b"]
    assert [c.task.name for c in services.claim_some(worker=worker, most=9)] == ["d"]  # c does not fit any more
    rows = Task.objects.all_orgs().filter(worker=worker).order_by("name")
    assert list(rows.values_list("name", "status", "fence", "attempt")) == [
        (name, "claimed", 1, 1) for name in ("a", "b", "d")
    ]
    assert Attempt.objects.filter(worker=worker, number=1, finished_at=None).count() == 3


def test_a_claimed_task_is_what_the_database_holds(join, submit, time):
    submit(labels={"disk": "ssd"}, environment={"A": "1"}, retry_on=["error"], secrets={"T": "s"}, priority=3)
    worker = join(labels={"disk": "ssd", "rack": "4"})
    Worker.objects.all_orgs().filter(id=worker.id).update(idle_since=time.now)
    task = services.claim(worker=worker).task
    stored = Task.objects.all_orgs().get(id=task.id)
    fields = [field.attname for field in Task._meta.concrete_fields]
    assert {name: getattr(task, name) for name in fields} == {name: getattr(stored, name) for name in fields}
    assert Worker.objects.all_orgs().get(id=worker.id).idle_since is None


STATEMENTS = {"postgresql": 1, "sqlite": 7}  # beside begin and commit


@pytest.mark.parametrize("most", [1, 4])
def test_a_claim_costs_the_same_few_statements(join, submit, most):
    for n in range(4):
        submit(f"t{n}")
    worker = join()
    with CaptureQueriesContext(connection) as captured:
        assert len(services.claim_some(worker=worker, most=most, call=uuid4(), begins=True)) == most
    said = [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]
    assert len(said) == STATEMENTS[connection.vendor], "\n".join(said)


def test_retries_end_with_the_reason(join, submit, time):
    task = submit(retries=1, retry_on=["error"])
    worker = join()
    assert run(worker, "error", 3).status == "queued"
    time.go(20)
    ended = run(worker, "error", 3)
    assert (ended.status, ended.attempt, ended.reason) == ("failed", 2, "The command ended with code 3.")
    assert status_of(task) == "failed"


def test_renewing_keeps_the_task_and_brings_the_wish_to_cancel(join, submit, alice, time):
    task, worker = submit(), join()
    services.claim(worker=worker)
    time.go(-20)
    for _ in range(10):
        time.go(30)
        assert services.renew(worker=worker, task_id=task.id, fence=1, metrics={"cpu": 12.5}) is False
        assert services.sweep_leases() == 0
    services.cancel(actor=alice.actor, task_id=task.id)
    assert services.renew(worker=worker, task_id=task.id, fence=1) is True
    services.finish(worker=worker, task_id=task.id, fence=1, exit_class="error", exit_code=137)
    assert status_of(task) == "cancelled"
    with pytest.raises(InvalidState):
        services.cancel(actor=alice.actor, task_id=task.id)


def test_needs_are_waited_for_and_a_failure_ends_what_follows(join, submit, alice):
    made = services.submit_many(
        actor=alice.actor,
        tasks=[
            {"key": "c", "needs": ["b"], "name": "c", "image": "a:1"},
            {"key": "b", "needs": ["a"], "name": "b", "image": "a:1"},
            {"key": "a", "name": "a", "image": "a:1"},
        ],
    )
    assert [task.status for task in made] == ["waiting", "waiting", "queued"]
    worker = join()
    run(worker)
    assert [status_of(task) for task in made] == ["waiting", "queued", "succeeded"]
    run(worker, "error", 1)
    assert [status_of(task) for task in made] == ["cancelled", "failed", "succeeded"]
    with pytest.raises(InvalidInput) as circle:
        services.submit_many(
            actor=alice.actor,
            tasks=[{"key": "a", "needs": ["a"], "name": "a", "image": "a:1"}],
        )
    assert "wait for each other" in str(circle.value.errors)
    assert Task.objects.all_orgs().count() == 3


def test_what_waits_is_settled_by_the_sweep_too(submit, time):
    first = submit("first")
    then = submit("then", needs=[first.id])
    Task.objects.all_orgs().filter(id=first.id).update(status="succeeded")
    assert services.sweep_waiting() == 1
    assert status_of(then) == "queued"


def test_limits_hold_the_queue_and_refuse_more(join, submit, alice, olga):
    services.save_quota(actor=alice.actor, user_id=olga.user.pk, limits={"most_queued": 2, "most_running": 1})
    submit("one", olga)
    submit("two", olga)
    with pytest.raises(QuotaExceeded):
        submit("three", olga)
    submit("mine")
    worker = join()
    taken = {services.claim(worker=worker).task.name, services.claim(worker=worker).task.name}
    assert taken == {"one", "mine"}
    assert services.claim(worker=worker) is None


def test_another_organization_gets_and_sees_nothing(join, submit, alice, bob, mallory):
    task = submit()
    theirs = join("theirs", mallory)
    assert services.claim(worker=theirs) is None
    for person in (mallory, bob):  # bob is of the same organization, but the task is not shared
        with pytest.raises(NotFound):
            services.cancel(actor=person.actor, task_id=task.id)


def test_secrets_are_sealed_and_opened_for_the_worker_alone(join, submit, alice):
    task = submit(secrets={"TOKEN": "planted-7f3a"}, files={"/etc/app.ini": "planted-7f3a"})
    row = Task.objects.all_orgs().filter(id=task.id).values().get()
    assert "planted" not in str(row)
    claim = services.claim(worker=join())
    assert (claim.secrets, claim.files) == ({"TOKEN": "planted-7f3a"}, {"/etc/app.ini": "planted-7f3a"})
    services.finish(worker=claim.task.worker, task_id=task.id, fence=1, exit_class="error", exit_code=1)
    again = services.retry(actor=alice.actor, task_id=task.id)
    assert services.claim(worker=claim.task.worker).secrets == {"TOKEN": "planted-7f3a"}
    assert again.retry_of_id == task.id


def test_a_drained_worker_takes_nothing(join, submit, olga):
    worker = join()
    submit()
    services.save_worker(actor=olga.actor, worker_id=worker.id, changes={"wanted": "draining"})
    assert services.claim(worker=worker) is None


def test_schedules_submit_once_for_what_was_missed(alice, time):
    row = services.save_schedule(
        actor=alice.actor, name="nightly", cron="0 3 * * *", zone="Europe/Berlin", fields={"image": "a:1"}
    )
    assert row.next_at.isoformat() == "2031-06-13T01:00:00+00:00"
    time.go(3 * 86_400)
    assert [services.run_due_schedules(), services.run_due_schedules()] == [1, 0]
    assert Task.objects.all_orgs().get().name == "nightly"
    for bad in ({"cron": "61 * * * *"}, {"zone": "Mars/Base"}):
        with pytest.raises(InvalidInput):
            services.save_schedule(
                actor=alice.actor,
                **{"name": "x", "cron": "0 0 * * *", "zone": "UTC", "fields": {"image": "a:1"}, **bad},
            )


@pytest.mark.pg
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("most", [1, 3])
def test_many_claim_at_once_and_each_task_goes_to_one(join, submit, most):
    if connection.vendor != "postgresql":
        pytest.skip("one writer at a time")
    for n in range(40):
        submit(f"t{n}", cpu=10, memory=4)
    workers = [join(f"w{n}") for n in range(4)]

    def take(worker: Worker) -> list[str]:
        found = []
        while claims := services.claim_some(worker=worker, most=most):
            found.extend(claim.task.name for claim in claims)
        return found

    taken = [name for names in together(take, workers) for name in names]
    assert sorted(taken) == sorted(f"t{n}" for n in range(40))


@pytest.mark.pg
@pytest.mark.django_db(transaction=True)
def test_calls_of_one_worker_at_once_never_give_more_than_it_has(join, submit):
    if connection.vendor != "postgresql":
        pytest.skip("one writer at a time")
    for n in range(12):
        submit(f"t{n}", cpu=1000, memory=64)
    worker = join(cpu=4000)
    taken = together(lambda _: len(services.claim_some(worker=worker, most=3)), range(6))
    assert sum(taken) == Task.objects.all_orgs().filter(worker=worker).count() == 4


@pytest.mark.pg
@pytest.mark.django_db(transaction=True)
def test_workers_at_once_never_pass_a_limit(join, submit, alice):
    if connection.vendor != "postgresql":
        pytest.skip("one writer at a time")
    services.save_quota(actor=alice.actor, user_id=None, limits={"most_running": 3})
    for n in range(12):
        submit(f"t{n}", cpu=10, memory=4)
    taken = together(lambda w: len(services.claim_some(worker=w, most=2)), [join(f"w{n}") for n in range(6)])
    assert sum(taken) == 3


def together(function, things):
    """The answers of the function for each thing, all called at once, each on a connection of its own."""

    def call(thing):
        try:
            return function(thing)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(things)) as pool:
        return list(pool.map(call, things))
