"""How long figures and logs are kept, logs in a bucket, what tasks cost, what admins see."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from core.errors import InvalidInput
from costs.models import Interval
from taskrunner import selectors, services
from taskrunner.models import LogObject, LogPiece, Sample, Task, Worker
from taskrunner.services import storing
from tests.fakes.s3 import moto_server
from tests.personas import Persona
from tests.taskrunner.conftest import Time

pytestmark = [pytest.mark.integration, pytest.mark.django_db]


@pytest.fixture
def run(join: Callable[..., Worker], submit: Callable[..., Task], time: Time) -> Callable[..., Task]:
    """A task that ran a minute and printed this, in portions."""

    def make(data: bytes = b"hello\n", worker: Worker | None = None, part: int = 100_000, **fields: Any) -> Task:
        worker = worker or join()
        task = submit(**fields)
        claim = services.claim(worker=worker)
        assert claim is not None
        services.start(worker=worker, task_id=task.id, fence=1)
        services.renew(worker=worker, task_id=task.id, fence=1, metrics={"cpu": 50.0})
        for at in range(0, len(data), part):
            services.append_log(
                worker=worker,
                task_id=task.id,
                fence=1,
                stream="stderr" if at // part % 2 else "stdout",
                offset=sum(min(part, len(data) - b) for b in range(at // part % 2 * part, at, 2 * part)),
                data=data[at : at + part],
            )
        time.go(60)
        services.finish(worker=worker, task_id=task.id, fence=1, exit_class="ok", exit_code=0)
        return task

    return make


def whole(task: Task, stream: str = "") -> bytes:
    return b"".join(selectors.log_bytes(attempt=selectors.attempt_of(task), stream=stream))


def test_old_figures_and_logs_go_and_young_ones_stay(
    run: Callable[..., Task], alice: Persona, time: Time, client_of: Callable[[Persona], Client]
) -> None:
    old = run()
    time.go(10 * 86400)
    young = run()
    assert services.forget_old() == (0, 0)  # for ever unless somebody says otherwise
    services.save_keeping(actor=alice.actor, sample_days=7, log_days=7)
    assert services.forget_old() == (1, 1)
    assert (whole(old), whole(young)) == (b"", b"hello\n")
    assert [s.task_id for s in Sample.objects.exclude(task=None)] == [young.id]
    page = client_of(alice).get(f"/tasks/{old.id}/")
    assert "This log was removed" in page.text
    with pytest.raises(InvalidInput):
        services.save_keeping(actor=alice.actor, sample_days=0, log_days=None)


@pytest.fixture(scope="module")
def moto() -> Iterator[Any]:
    import boto3

    keys = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    with moto_server() as url:
        yield boto3.client("s3", endpoint_url=url, **keys)


@pytest.fixture
def bucket(moto: Any, settings: Any) -> Any:
    """A bucket of this test's own, named in the settings."""
    name = f"logs-{uuid4().hex}"
    moto.create_bucket(Bucket=name)
    settings.CURFEW_TASK_LOG_BUCKET = f"s3://{name}/curfew?region=us-east-1&endpoint={moto.meta.endpoint_url}"
    settings.CURFEW_TASK_LOG_BUCKET_KEY = "a:b"
    return moto


def names(s3: Any, settings: Any) -> list[str]:
    name = settings.CURFEW_TASK_LOG_BUCKET.split("/")[2]
    return [row["Key"] for row in s3.list_objects_v2(Bucket=name).get("Contents", [])]


def test_a_log_in_the_bucket_is_the_same_byte_for_byte(
    run: Callable[..., Task], bucket: Any, alice: Persona, time: Time, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(storing, "OBJECT_BYTES", 300_000)
    chance = random.Random(7)
    data = b"".join(chance.randbytes(chance.randint(0, 300)) + b"needle\n" * (n % 50 == 0) for n in range(6000))
    task = run(data)
    before = [whole(task), whole(task, "stdout"), whole(task, "stderr")]
    attempt = selectors.attempt_of(task)
    lines = selectors.log_lines(attempt=attempt, first=500, count=200)
    found = selectors.search_log(attempt=attempt, wanted="needle")
    assert before[0] == data
    assert services.move_logs() == 0  # something may still be on its way
    time.go(180)
    assert services.move_logs() == 1
    assert LogPiece.objects.filter(kept_in=None).count() == 0
    assert sum(len(piece.data) for piece in LogPiece.objects.all()) == 0
    assert len(names(bucket, settings)) > 1
    assert [whole(task), whole(task, "stdout"), whole(task, "stderr")] == before
    assert selectors.log_lines(attempt=attempt, first=500, count=200) == lines
    assert selectors.search_log(attempt=attempt, wanted="needle") == found
    assert selectors.read_bytes(attempt=attempt, stream="stderr", offset=150_000, most=9) == before[2][150_000:150_009]
    services.delete(actor=alice.actor, task_id=task.id)
    time.go(3700)
    services.drop_objects()
    assert (names(bucket, settings), LogObject.objects.count()) == ([], 0)


def test_a_kill_between_bucket_and_database_loses_nothing(
    run: Callable[..., Task], bucket: Any, time: Time, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    task = run(b"hello\n")
    time.go(180)

    class Killed(BaseException):
        pass

    def killed(*given: Any, **more: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("django.db.models.query.QuerySet.bulk_update", killed)
        with pytest.raises(Killed):
            services.move_logs()
    assert whole(task) == b"hello\n"
    assert services.move_logs() == 1
    assert len(names(bucket, settings)) == 2
    time.go(3700)
    services.drop_objects()
    assert (len(names(bucket, settings)), whole(task)) == (1, b"hello\n")


def test_a_bucket_that_refuses_leaves_the_log_where_it_is(
    run: Callable[..., Task], bucket: Any, time: Time, settings: Any
) -> None:
    task = run(b"hello\n")
    time.go(180)
    settings.CURFEW_TASK_LOG_BUCKET = f"s3://no-such-bucket?endpoint={bucket.meta.endpoint_url}"
    assert services.move_logs() == 0
    assert whole(task) == b"hello\n"


def priced(worker: Worker, time: Time, *, began: float, hourly: str | None) -> Worker:
    """A machine of the ledger, awake since so many seconds ago."""
    worker.sleepable_kind, worker.sleepable_id = "node", uuid4()
    worker.save()
    Interval.objects.create(
        organization_id=worker.organization_id,
        resource_kind="node",
        resource_id=worker.sleepable_id,
        resource_label="anvil",
        phase="awake",
        started_at=time.now - timedelta(seconds=began),
        price=Decimal(hourly) if hourly else None,
    )
    return worker


def test_a_task_costs_its_share_of_the_machine(
    run: Callable[..., Task], join: Callable[..., Worker], time: Time
) -> None:
    task = run(worker=priced(join(cpu=4000, memory=8192), time, began=60, hourly="6.00"), cpu=2000, memory=1024)
    assert selectors.cost_of(task).amount == Decimal("0.05")  # half of 6 dollars an hour for a minute
    assert len(selectors.cost_of(task).intervals) == 1


@pytest.mark.parametrize(("began", "hourly"), [(-30, "6.00"), (60, None)])
def test_what_the_ledger_does_not_know_is_no_amount(
    run: Callable[..., Task], join: Callable[..., Worker], time: Time, began: float, hourly: str | None
) -> None:
    found = selectors.cost_of(run(worker=priced(join(), time, began=began, hourly=hourly)))
    assert (found.amount, "does not price" in found.why) == (None, True)


def test_a_machine_that_nobody_knows_has_no_price(run: Callable[..., Task], alice: Persona, api_of: Any) -> None:
    assert "Nobody knows" in selectors.cost_of(run()).why


def test_admins_see_people_and_what_happened(
    run: Callable[..., Task], alice: Persona, bob: Persona, client_of: Callable[[Persona], Client]
) -> None:
    run()
    client = client_of(alice)
    people = client.get("/api/admin/users").json()["results"]
    assert [(row["email"], row["role"], row["tasks"]["succeeded"]) for row in people] == [
        (alice.user.email, "owner", 1),
        (bob.user.email, "viewer", 0),
    ]
    url = f"/api/admin/users/{bob.user.pk}"
    body = {"role": "operator", "quota": {"most_running": 2}}
    changed = client.put(url, body, content_type="application/json").json()
    assert (changed["role"], changed["quota"]["most_running"]) == ("operator", 2)
    made = client.post("/api/admin/users", {"email": "n@x.test", "role": "viewer"}, content_type="application/json")
    assert (made.status_code, made.json()["email"]) == (201, "n@x.test")
    verbs = {row["verb"] for row in client.get("/api/admin/logs").json()["results"]}
    assert {"task.submitted", "task.started", "task.finished", "worker.enrolled", "task_quota.saved"} <= verbs
    assert not any(verb.startswith("member") for verb in verbs)
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == 404


def test_the_page_says_what_keeping_takes(
    run: Callable[..., Task], alice: Persona, client_of: Callable[[Persona], Client]
) -> None:
    run(bytes(200_000))
    client = client_of(alice)
    assert "a year of that is" in client.get("/workers/keeping").text
    assert client.post("/workers/keeping", {"log_days": "30"}).status_code == 302
    assert client.post("/workers/keeping", {"log_days": "0"}).status_code == 422
    assert 'value="30"' in client.get("/workers/keeping").text


def test_figures_of_a_task_outlive_its_worker(
    run: Callable[..., Task], join: Callable[..., Worker], alice: Persona
) -> None:
    worker = join()
    task = run(worker=worker)
    services.beat(worker=worker, usage={"cpu": 5.0})
    services.remove_worker(actor=alice.actor, worker_id=worker.id)
    assert [s.task_id for s in Sample.objects.all()] == [task.id]
    assert len(selectors.task_history(task=task)) == 1
