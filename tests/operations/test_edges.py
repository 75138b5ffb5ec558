"""What happens at the edges of a worker: an executor that cannot finish, a kind nobody knows, a job that kills its worker."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from core import clock
from operations import registry, runner, services
from operations.models import Operation
from tests.personas import Persona


class Broken(registry.BaseExecutor):
    """Does its work, but cannot bring its resource in line."""

    kind = "tests.broken_end"
    label = "Broken end"
    max_attempts = 3

    def run(self, context: registry.RunContext) -> None:
        return None

    def finished(self, operation: Operation) -> None:
        raise ValueError("the row will not have it")


@pytest.fixture
def operation(alice: Persona) -> Operation:
    registry.register(Broken())
    return services.request_operation(
        actor=alice.actor, kind=Broken.kind, resource_kind="thing", resource_id=uuid.uuid4(), resource_label="thing"
    )


def test_an_executor_that_cannot_finish_ends_after_its_tries(operation: Operation) -> None:
    outcomes = []
    for _ in range(Broken.max_attempts):
        Operation.objects.all_orgs().filter(id=operation.id).update(not_before=clock.now())
        outcomes.append(runner.run_operation(operation.id))
    assert outcomes == ["retry", "retry", "failed"]
    operation.refresh_from_db()
    assert (operation.status, operation.error_code) == ("failed", "internal")


def test_a_kind_that_nobody_knows_fails_at_once_and_is_not_tried_for_ever(operation: Operation) -> None:
    Operation.objects.all_orgs().filter(id=operation.id).update(kind="tests.of_another_version")
    assert runner.run_operation(operation.id) == "not_claimed"
    operation.refresh_from_db()
    assert (operation.status, operation.error_code) == ("failed", "no_executor")
    assert runner.due() == []


def test_a_job_that_always_kills_its_worker_is_given_up(operation: Operation) -> None:
    registry.register(Broken())
    for round_number in range(runner.MOST_LOST_LEASES):
        Operation.objects.all_orgs().filter(id=operation.id).update(not_before=clock.now(), max_attempts=1)
        assert runner.claim(operation.id) is not None, round_number
        Operation.objects.all_orgs().filter(id=operation.id).update(lease_expires_at=clock.now() - timedelta(seconds=1))
        assert runner.reap_expired() == 1
    operation.refresh_from_db()
    assert operation.status == "failed"


def test_a_restarted_server_need_not_wait_for_the_leases_of_the_dead_one(operation: Operation) -> None:
    assert runner.claim(operation.id, owner="another-process:1") is not None
    assert runner.due() == []
    assert runner.release_dead_process() == 1
    assert [due.id for due in runner.due()] == [operation.id]
