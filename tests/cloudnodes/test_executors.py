"""What node.start and node.stop do: the ordinary way, waiting, failures with words, time limits, cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from cloudnodes import selectors, services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import InstanceState
from core.providers import AuthenticationFailed, CapacityUnavailable, Conflict, QuotaExceeded, TimedOut, Unreachable
from costs.models import Interval
from operations import services as operations
from operations.models import Duration, Operation
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import Time, Worker
from tests.cloudnodes.test_observe import fresh, intervals, verbs
from tests.personas import Persona

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
S = InstanceState


def wake(node: CloudNode, who: Persona) -> Operation:
    return services.request_start(actor=who.actor, node_id=node.id, reason="a test")


def doze(node: CloudNode, who: Persona) -> Operation:
    return services.request_stop(actor=who.actor, node_id=node.id)


def test_wake_and_sleep(node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time) -> None:
    cloud.boot, cloud.halt = 30.0, 10.0
    operation = wake(node, olga)
    worker.until_done()
    operation.refresh_from_db()
    row = fresh(node)
    assert (operation.status, operation.result["already"], cloud.tokens) == ("succeeded", False, [str(operation.id)])
    assert (row.observed_state, row.desired_state, row.cause, row.cause_label) == (
        "awake",
        "awake",
        "hand",
        "Woken by Olga: a test",
    )
    assert row.ready_at == time.now
    time.go(600)
    doze(node, olga)
    worker.until_done()
    row = fresh(node)
    assert (row.observed_state, row.desired_state, row.started_at, row.ready_at) == ("asleep", "asleep", None, None)
    assert verbs(node) == [
        "node.found",
        "operation.requested",
        "node.wake_requested",
        "node.woke",
        "operation.succeeded",
        "operation.requested",
        "node.sleep_requested",
        "node.fell_asleep",
        "operation.succeeded",
    ]
    assert cloud.starts == cloud.stops == {"i-1": 1}
    awake = Interval.objects.all_orgs().get(resource_id=node.id, phase="awake")
    assert awake.person == "Olga"
    # within one look of what EC2 would charge, at either end
    assert abs((awake.ended_at - awake.started_at).total_seconds() - cloud.billed_seconds("i-1", time.now)) <= 3
    assert sorted(Duration.objects.values_list("kind", "subject")) == [
        ("node.start", "aws/g5.xlarge"),
        ("node.stop", "aws/g5.xlarge"),
    ]
    assert 30 <= Duration.objects.get(kind="node.start").seconds <= 33


def test_expected_time_is_learned(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.boot = 40.0
    assert wake(node, olga).expected_seconds is None
    worker.until_done()
    doze(node, olga)
    worker.until_done()
    assert 40 <= wake(node, olga).expected_seconds <= 43


def test_already_running_is_success_and_teaches_nothing(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.put("i-1", S.RUNNING)
    operation = wake(node, olga)
    worker.until_done()
    operation.refresh_from_db()
    assert (operation.status, operation.result["already"], cloud.calls["start"]) == ("succeeded", True, 0)
    assert not Duration.objects.exists()


def test_follows_the_providers_operation(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.follow = True
    wake(node, olga)
    worker.until_done()
    assert fresh(node).observed_state == "awake"
    assert cloud.calls["check"] >= 2
    assert cloud.starts == {"i-1": 1}


def test_waits_until_the_service_answers(
    cloud: MemoryCloud, scan: Callable, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.boot, cloud.health = 4.0, 20.0
    cloud.add("i-1", health_endpoint="http://10.0.0.1/i-1", endpoint="http://10.0.0.1")
    (node,) = scan()
    started = time.now
    wake(node, olga)
    worker.until_done()
    row = fresh(node)
    assert 24 <= (row.ready_at - started).total_seconds() <= 27
    # billed since it runs, not since it answers
    assert 4 <= (Interval.objects.all_orgs().get(phase="awake").started_at - started).total_seconds() <= 7


def test_a_stop_under_way_is_waited_out(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.put("i-1", S.STOPPING)
    cloud._move(cloud.machines["i-1"], S.STOPPING, 8, None)
    wake(node, olga)
    worker.until_done()
    assert fresh(node).observed_state == "awake"
    assert cloud.starts == {"i-1": 1}


def test_busy_provider_is_waited_out(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.put("i-1", S.RUNNING)
    time.go(5)
    cloud.fail["stop"] = [Conflict() for _ in range(8)]
    operation = doze(node, olga)
    worker.until_done()
    operation.refresh_from_db()
    assert (operation.status, operation.attempt, cloud.stops["i-1"]) == ("succeeded", 0, 1)


def test_no_capacity_names_cause_and_next_step_at_once(
    cloud: MemoryCloud, scan: Callable, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.add("i-1")
    cloud.add("i-2", gpu_tier="t4")
    node = scan()[0]
    cloud.fail["start"] = [CapacityUnavailable("AWS has no g5.xlarge free in us-east-1a.")]
    began = time.now
    wake(node, olga)
    worker.until_done()
    row = fresh(node)
    assert (time.now - began).total_seconds() <= 5
    assert (row.observed_state, row.error_on, row.error_code) == ("trouble", "start", "capacity_unavailable")
    assert row.error == "AWS has no g5.xlarge free in us-east-1a."
    assert row.next_step == "Try again in a few minutes, or wake FLUX Dev on AWS T4."
    assert row.desired_state == "asleep"
    assert verbs(node)[-2:] == ["node.wake_failed", "operation.failed"]
    assert intervals(node) == [("asleep", 0, None, 0)]
    wake(node, olga)
    assert (fresh(node).error, fresh(node).observed_state) == ("", "waking")
    worker.until_done()
    assert fresh(node).observed_state == "awake"


@pytest.mark.parametrize("failure", [QuotaExceeded("The limit of 4 vCPUs is reached."), AuthenticationFailed()])
def test_final_refusals(node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, failure: Exception) -> None:
    cloud.fail["start"] = [failure]
    wake(node, olga)
    worker.until_done()
    row = fresh(node)
    assert (row.observed_state, row.error, row.next_step, cloud.calls["start"]) == (
        "trouble",
        failure.message,
        failure.next_step,
        1,
    )


def test_network_error_is_tried_again_then_told(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.fail["start"] = [Unreachable() for _ in range(9)]
    operation = wake(node, olga)
    worker.until_done()
    operation.refresh_from_db()
    assert (operation.status, operation.attempt, operation.error_code, cloud.calls["start"]) == (
        "failed",
        3,
        "unreachable",
        4,
    )
    assert fresh(node).observed_state == "trouble"


@pytest.mark.parametrize("verb", ["describe", "start"])
def test_a_slow_provider_is_said_to_be_slow_while_it_is(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr("cloudnodes.executors.SLOW_SECONDS", 0.05)
    operation, steps, cells = wake(node, olga), [], []

    def slow(called: str) -> None:
        if called == verb and not steps:
            for timer in [t for t in threading.enumerate() if isinstance(t, threading.Timer)]:
                timer.join(5)  # the tests' SQLite is in memory: it waits for no other thread's write
            steps.append(Operation.objects.all_orgs().get(id=operation.id).step)
            cells.append(selectors.get_grid(actor=olga.actor).rows[0].cells[0].nodes[0].step)

    cloud.before = slow
    worker.until_done()
    operation.refresh_from_db()
    assert steps[-1].startswith("AWS is slow: no answer for 0.05 s. Nothing to do: Curfew waits")
    assert cells == ["AWS is slow: nothing to do, Curfew waits"]
    assert (operation.status, cloud.starts["i-1"]) == ("succeeded", 1)


def test_unknown_outcome_of_a_start_is_looked_at_before_it_is_repeated(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    def answer_is_lost(verb: str) -> None:
        if verb == "start":
            raise TimedOut

    cloud.after = answer_is_lost
    wake(node, olga)
    worker.until_done()
    assert fresh(node).observed_state == "awake"
    assert (cloud.starts["i-1"], cloud.calls["start"]) == (1, 1)


def test_a_blind_while_does_not_fail_a_start(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.boot = 60.0
    operation = wake(node, olga)
    worker.once()
    cloud.fail["describe"] = [Unreachable() for _ in range(6)]
    worker.until_done()
    operation.refresh_from_db()
    assert (operation.status, operation.attempt) == ("succeeded", 0)
    assert fresh(node).observed_state == "awake"


def test_start_timeout_says_so_and_may_be_retried(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.boot = 3000.0
    operation = wake(node, olga)
    worker.until_done(step=5)
    operation.refresh_from_db()
    row = fresh(node)
    assert (operation.status, operation.error_code) == ("failed", "start_timeout")
    assert 600 <= operation.elapsed.total_seconds() <= 640
    assert (row.observed_state, row.error, row.desired_state) == ("trouble", "It did not start within 10 min.", "awake")
    time.go(3000)
    services.observe(node_id=node.id, instance=cloud.describe(["i-1"])["i-1"], at=time.now)
    row = fresh(node)
    assert (row.observed_state, row.error) == ("awake", "")


def test_running_without_an_answer_is_not_ready_and_is_charged(
    cloud: MemoryCloud, scan: Callable, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.health = 9000.0
    cloud.add("i-1", health_endpoint="http://10.0.0.1/i-1")
    (node,) = scan()
    wake(node, olga)
    worker.until_done(step=5)
    row = fresh(node)
    assert (row.observed_state, row.error_code) == ("trouble", "not_ready")
    time.go(5)
    services.observe(node_id=node.id, instance=cloud.describe(["i-1"])["i-1"], at=time.now)
    assert fresh(node).observed_state == "trouble"
    assert intervals(node)[-1][0] == "awake"
    doze(node, olga)
    worker.until_done()
    assert fresh(node).observed_state == "asleep"


def test_a_start_that_falls_back_says_why(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.boot = 3000.0
    wake(node, olga)
    worker.once()
    cloud.put("i-1", S.STOPPED, state_reason="Server.InsufficientInstanceCapacity")
    worker.until_done()
    row = fresh(node)
    assert (row.observed_state, row.error_code) == ("trouble", "start_reverted")
    assert (
        row.error
        == "The provider took the order, but the machine is down again. It says: Server.InsufficientInstanceCapacity"
    )


def test_stop_failure_warns_and_may_be_retried(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.put("i-1", S.RUNNING)
    time.go(5)
    cloud.halt = 9000.0
    doze(node, olga)
    worker.until_done(step=5)
    row = fresh(node)
    assert (row.observed_state, row.error_on, row.error_code) == ("trouble", "stop", "stop_timeout")
    cloud._move(cloud.machines["i-1"], S.STOPPING, 1, None)
    time.go(5)
    doze(node, olga)
    worker.until_done()
    assert fresh(node).observed_state == "asleep"


def test_node_deleted_while_it_starts(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.boot = 60.0
    operation = wake(node, olga)
    worker.once()
    cloud.machines.clear()
    worker.until_done()
    operation.refresh_from_db()
    assert (operation.status, operation.error_code) == ("failed", "gone")


def test_account_disconnected_while_it_starts(
    node: CloudNode, cloud: MemoryCloud, alice: Persona, worker: Worker, time: Time
) -> None:
    from accounts import services as accounts

    cloud.boot = 60.0
    operation = wake(node, alice)
    worker.once()
    accounts.disconnect_account(actor=alice.actor, account_id=node.account_id)
    worker.until_done()
    operation.refresh_from_db()
    assert (operation.status, operation.error_code) == ("failed", "gone")


def test_cancelled_start_is_put_back_to_sleep(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.boot = 60.0
    operation = wake(node, olga)
    worker.once()
    operations.cancel_operation(actor=olga.actor, operation_id=operation.id)
    worker.until_done()
    operation.refresh_from_db()
    row = fresh(node)
    assert operation.status == "cancelled"
    assert (row.observed_state, row.desired_state) == ("asleep", "asleep")
    assert (cloud.machines["i-1"].instance.state, cloud.starts["i-1"], cloud.stops["i-1"]) == (S.STOPPED, 1, 1)
    follow_up = Operation.objects.all_orgs().exclude(id=operation.id).get()
    assert (follow_up.kind, follow_up.reason, follow_up.status) == ("node.stop", "Waking was cancelled", "succeeded")


def test_cancel_before_it_began_calls_nobody(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker
) -> None:
    calls = cloud.calls.copy()
    operation = wake(node, olga)
    operations.cancel_operation(actor=olga.actor, operation_id=operation.id)
    worker.until_done()
    assert (fresh(node).observed_state, fresh(node).desired_state) == ("asleep", "asleep")
    assert cloud.calls == calls
    assert Operation.objects.all_orgs().count() == 1


def test_cancelled_sleep_is_woken_again(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.put("i-1", S.RUNNING)
    time.go(5)
    cloud.halt = 20.0
    operation = doze(node, olga)
    worker.once()
    operations.cancel_operation(actor=olga.actor, operation_id=operation.id)
    worker.until_done()
    assert (fresh(node).observed_state, cloud.machines["i-1"].instance.state) == ("awake", S.RUNNING)


def test_retry_of_the_operation_wakes_it(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.fail["start"] = [QuotaExceeded()]
    operation = wake(node, olga)
    worker.until_done()
    operations.retry_operation(actor=olga.actor, operation_id=operation.id)
    worker.until_done()
    row = fresh(node)
    assert (row.observed_state, row.desired_state, row.error) == ("awake", "awake", "")


def test_the_pollers_reading_is_used(
    node: CloudNode, cloud: MemoryCloud, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.boot = 20.0
    wake(node, olga)
    worker.once()
    asked = cloud.calls["describe"]
    for _ in range(12):
        time.go(2)
        services.poll_account(account_id=node.account_id)
        worker.once()
    assert fresh(node).observed_state == "awake"
    assert cloud.calls["describe"] - asked == 12
