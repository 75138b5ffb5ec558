"""An operation from the wish to its end: claims, fences, retries, cancellation. The row is the truth."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from kombu.exceptions import OperationalError

from audit.models import AuditEntry
from core import clock
from core.errors import Conflict, Forbidden, InvalidState, NotFound
from core.providers import AuthenticationFailed, BadAnswer, ProviderError, Throttled, TimedOut, Unreachable
from core.tasks import _send as really_send
from operations import runner, services, tasks
from operations.enums import Status
from operations.models import Duration, Operation
from operations.registry import LostLease, OperationFailed, RunAgain, RunContext
from tests.operations.conftest import Bell, ring
from tests.personas import Persona

pytestmark = pytest.mark.django_db


def fresh(operation: Operation) -> Operation:
    return Operation.objects.all_orgs().get(id=operation.id)


def fail_with(error: Exception) -> Any:
    def does(context: RunContext) -> None:
        raise error

    return does


def later(seconds: float) -> Any:
    return clock.at(clock.now() + timedelta(seconds=seconds))


class TestRequest:
    def test_row_line_hint_and_notice(
        self, alice: Persona, bell: Bell, sent_tasks: list, published: list, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            operation = ring(alice, reason="it is noon")
        assert (operation.status, operation.attempt, operation.fence) == (Status.QUEUED, 0, 0)
        assert sent_tasks == [("operations.run", {"operation_id": str(operation.id)})]
        ids = sorted([str(operation.id), str(operation.resource_id)])
        assert ("operations", ids) in [(m["topic"], m["ids"]) for _, m in published]
        line = AuditEntry.objects.for_org(alice.organization).get(verb="operation.requested")
        assert (line.operation_id, line.target_label) == (operation.id, "the great bell")

    def test_nothing_is_sent_when_the_transaction_fails(
        self, alice: Persona, bell: Bell, sent_tasks: list, django_capture_on_commit_callbacks: Any
    ) -> None:
        def ask_and_fail() -> None:
            with transaction.atomic():
                ring(alice)
                raise RuntimeError("the caller's own write failed")

        with django_capture_on_commit_callbacks(execute=True), pytest.raises(RuntimeError):
            ask_and_fail()
        assert sent_tasks == []
        assert not Operation.objects.all_orgs().exists()

    def test_one_active_per_resource(self, alice: Persona, bell: Bell) -> None:
        first = ring(alice)
        with pytest.raises(Conflict) as refused:
            ring(alice, first.resource_id)
        assert (refused.value.code, refused.value.extra["operation"]) == ("operation_active", str(first.id))
        runner.run_operation(first.id)
        assert ring(alice, first.resource_id).id != first.id

    def test_an_idempotency_key_returns_what_it_made_even_afterwards(self, alice: Persona, bell: Bell) -> None:
        resource = uuid4()
        first = ring(alice, resource, idempotency_key="noon")
        assert ring(alice, resource, idempotency_key="noon").id == first.id
        runner.run_operation(first.id)
        assert ring(alice, resource, idempotency_key="noon").id == first.id
        assert bell.runs == 1

    def test_a_key_is_not_reused_for_something_else(self, alice: Persona, bell: Bell) -> None:
        first = ring(alice, idempotency_key="noon")
        with pytest.raises(Conflict) as refused:
            ring(alice, uuid4(), idempotency_key="noon")
        assert (refused.value.code, refused.value.extra["operation"]) == ("idempotency_key_reused", str(first.id))

    def test_keys_of_organizations_do_not_meet(self, alice: Persona, mallory: Persona, bell: Bell) -> None:
        assert ring(alice, idempotency_key="noon").id != ring(mallory, idempotency_key="noon").id


class TestRun:
    def test_success(self, alice: Persona, bell: Bell) -> None:
        def does(context: RunContext) -> Mapping[str, Any]:
            context.progress(40, "Pulling the rope", done=1, total=2)
            context.checkpoint(pulled=True)
            with later(12):
                context.renew()
            return {"rung": 3}

        bell.does = does
        operation = ring(alice)
        assert runner.run_operation(operation.id) == "succeeded"
        row = fresh(operation)
        assert (row.status, row.progress, row.result, row.state, row.fence) == (
            Status.SUCCEEDED,
            100,
            {"rung": 3},
            {"pulled": True},
            1,
        )
        assert (row.step, row.steps_done, row.steps_total, row.lease_owner, row.lease_expires_at) == (
            "Pulling the rope",
            1,
            2,
            "",
            None,
        )
        assert bell.ended == [(operation.id, Status.SUCCEEDED)]
        assert Duration.objects.filter(kind="bell.ring", subject="tower").count() == 1
        line = AuditEntry.objects.for_org(alice.organization).get(verb="operation.succeeded")
        assert (line.operation_id, line.outcome) == (operation.id, "success")

    def test_a_claim_is_won_once(self, alice: Persona, bell: Bell) -> None:
        operation = ring(alice)
        assert runner.claim(operation.id) is not None
        assert runner.claim(operation.id) is None
        assert runner.run_operation(operation.id) == "not_claimed"

    def test_what_is_not_due_is_not_claimed(
        self, alice: Persona, bell: Bell, sent_tasks: list, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            operation = ring(alice, not_before=clock.now() + timedelta(hours=1))
        assert sent_tasks == []
        assert runner.claim(operation.id) is None
        assert runner.due_ids() == []
        with later(3601):
            assert runner.due_ids() == [operation.id]
            assert runner.claim(operation.id) is not None

    def test_waiting_holds_no_thread_and_is_no_retry(self, alice: Persona, bell: Bell) -> None:
        def does(context: RunContext) -> None:
            if not context.state.get("asked"):
                context.checkpoint(asked=True)
                raise RunAgain(20)

        bell.does = does
        operation = ring(alice)
        assert runner.run_operation(operation.id) == "again"
        row = fresh(operation)
        assert (row.status, row.attempt, row.state, row.lease_owner) == (Status.QUEUED, 0, {"asked": True}, "")
        started = row.started_at
        assert runner.run_operation(operation.id) == "not_claimed"
        with later(21):
            assert runner.run_operation(operation.id) == "succeeded"
        assert fresh(operation).started_at == started

    def test_the_time_limit(self, alice: Persona, bell: Bell) -> None:
        operation = ring(alice, deadline_seconds=60)
        with later(61):
            assert runner.run_operation(operation.id) == "failed"
        assert (fresh(operation).error_code, bell.runs) == ("timeout", 0)

    def test_the_median_is_learned_from_successes_only(self, alice: Persona, bell: Bell) -> None:
        for seconds in (10, 30, 20):
            operation = runner.claim(ring(alice).id)
            assert operation is not None
            with later(seconds):
                services.finish(operation, Status.SUCCEEDED)
        bell.does = fail_with(OperationFailed("no"))
        runner.run_operation(ring(alice).id)
        assert services.expected_seconds("bell.ring", "tower") == pytest.approx(20, abs=0.5)
        assert ring(alice).expected_seconds == pytest.approx(20, abs=0.5)
        assert services.expected_seconds("bell.ring", "elsewhere") is None


class TestFailure:
    def test_a_transient_error_is_tried_again_with_growing_pauses(self, alice: Persona, bell: Bell) -> None:
        bell.does = fail_with(Unreachable("The tower does not answer."))
        operation = ring(alice)
        pauses = []
        moment = clock.now()
        for outcome in ("retry", "retry", "failed"):
            with clock.at(moment):
                assert runner.run_operation(operation.id) == outcome
                row = fresh(operation)
                pauses.append((row.not_before - moment).total_seconds())
            moment = row.not_before
        assert row.status == Status.FAILED
        assert row.error == "The tower does not answer."
        assert 1 <= pauses[0] <= 2
        assert 2 <= pauses[1] <= 4
        assert bell.runs == bell.max_attempts == 3
        assert bell.ended == [(operation.id, Status.FAILED)]

    def test_the_providers_own_pause_is_kept(self, alice: Persona, bell: Bell) -> None:
        bell.does = fail_with(Throttled("Slow down.", retry_after=42))
        operation = ring(alice)
        before = clock.now()
        assert runner.run_operation(operation.id) == "retry"
        assert 42 <= (fresh(operation).not_before - before).total_seconds() < 45

    @pytest.mark.parametrize(
        ("failure", "said"),
        [
            (Throttled(), "Wait a minute, then try again. It was tried 3 times."),
            (
                Unreachable(),
                "Check the network, the address and the firewall, then try again. It was tried 3 times.",
            ),
            (TimedOut(), f"{TimedOut().next_step} It was tried 3 times."),
            (Unreachable(next_step=""), "It was tried 3 times."),
            (BadAnswer(), f"{BadAnswer().next_step} It was tried 3 times."),
        ],
    )
    def test_the_last_try_promises_no_other(
        self, alice: Persona, bell: Bell, failure: ProviderError, said: str
    ) -> None:
        bell.does = fail_with(failure)
        operation = ring(alice)
        for _ in range(bell.max_attempts):
            Operation.objects.all_orgs().filter(id=operation.id).update(not_before=clock.now())
            runner.run_operation(operation.id)
        assert (fresh(operation).status, fresh(operation).next_step) == (Status.FAILED, said)

    def test_a_final_error_is_final(self, alice: Persona, bell: Bell) -> None:
        bell.does = fail_with(
            AuthenticationFailed("The key was revoked.", next_step="Give a new key.", detail="UnrecognizedClient")
        )
        operation = ring(alice)
        assert runner.run_operation(operation.id) == "failed"
        row = fresh(operation)
        assert (row.error, row.next_step, row.attempt) == ("The key was revoked.", "Give a new key.", 0)
        assert row.result == {"provider_words": "UnrecognizedClient"}
        line = AuditEntry.objects.for_org(alice.organization).get(verb="operation.failed")
        assert line.outcome == "failed"

    def test_a_crash_is_tried_again_and_its_words_stay_inside(self, alice: Persona, bell: Bell) -> None:
        bell.does = fail_with(ZeroDivisionError("password=hunter2"))
        operation = ring(alice)
        assert runner.run_operation(operation.id) == "retry"
        assert "hunter2" not in fresh(operation).error
        assert fresh(operation).error_code == "internal"

    def test_secrets_in_errors_are_masked(self, alice: Persona, bell: Bell) -> None:
        bell.does = fail_with(
            OperationFailed(
                "refused AKIAIOSFODNN7EXAMPLE with secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
            )
        )
        operation = ring(alice)
        runner.run_operation(operation.id)
        assert "wJalrXUtnFEMI" not in fresh(operation).error

    @pytest.mark.parametrize("attempt", range(1, 12))
    def test_back_off_is_bounded_and_jittered(self, attempt: int) -> None:
        seen = {runner.backoff(attempt) for _ in range(50)}
        top = min(runner.BACKOFF_CAP_SECONDS, runner.BACKOFF_BASE_SECONDS * 2 ** (attempt - 1))
        assert len(seen) > 10
        assert all(top / 2 <= s <= top for s in seen)


class TestCancel:
    def test_a_queued_one_ends_at_once(self, alice: Persona, bell: Bell) -> None:
        operation = services.cancel_operation(actor=alice.actor, operation_id=ring(alice).id)
        assert operation.status == Status.CANCELLED
        assert bell.ended == [(operation.id, Status.CANCELLED)]
        assert runner.run_operation(operation.id) == "not_claimed"
        assert bell.runs == 0

    def test_a_running_one_ends_at_its_next_step(self, alice: Persona, bell: Bell) -> None:
        def does(context: RunContext) -> None:
            services.cancel_operation(actor=alice.actor, operation_id=context.operation.id)
            assert fresh(context.operation).status == Status.RUNNING
            context.check_cancel()
            raise AssertionError("it went on")

        bell.does = does
        operation = ring(alice)
        assert runner.run_operation(operation.id) == "cancelled"
        assert fresh(operation).error_code == "cancelled"

    def test_one_that_waits_is_woken_to_clean_up(self, alice: Persona, bell: Bell) -> None:
        def does(context: RunContext) -> None:
            context.checkpoint(asked=True)
            raise RunAgain(600)

        bell.does = does
        operation = ring(alice)
        runner.run_operation(operation.id)
        services.cancel_operation(actor=alice.actor, operation_id=operation.id)
        assert fresh(operation).status == Status.QUEUED
        assert runner.run_operation(operation.id) == "cancelled"

    def test_a_transient_failure_after_a_cancel_is_not_tried_again(self, alice: Persona, bell: Bell) -> None:
        def does(context: RunContext) -> None:
            services.cancel_operation(actor=alice.actor, operation_id=context.operation.id)
            context.operation.refresh_from_db()
            raise Unreachable("gone")

        bell.does = does
        operation = ring(alice)
        assert runner.run_operation(operation.id) == "failed"

    def test_what_has_ended_cannot_be_cancelled(self, alice: Persona, bell: Bell) -> None:
        operation = ring(alice)
        runner.run_operation(operation.id)
        with pytest.raises(InvalidState):
            services.cancel_operation(actor=alice.actor, operation_id=operation.id)

    def test_asking_twice_is_one_wish(self, alice: Persona, bell: Bell) -> None:
        operation = runner.claim(ring(alice).id)
        assert operation is not None
        first = services.cancel_operation(actor=alice.actor, operation_id=operation.id).cancel_requested_at
        assert services.cancel_operation(actor=alice.actor, operation_id=operation.id).cancel_requested_at == first

    def test_rights(self, alice: Persona, bob: Persona, mallory: Persona, bell: Bell) -> None:
        operation = ring(alice)
        with pytest.raises(Forbidden):
            services.cancel_operation(actor=bob.actor, operation_id=operation.id)
        with pytest.raises(NotFound):
            services.cancel_operation(actor=mallory.actor, operation_id=operation.id)
        assert fresh(operation).cancel_requested_at is None


class TestRetry:
    def test_it_is_a_new_row_that_points_back(self, alice: Persona, bell: Bell) -> None:
        bell.does = fail_with(OperationFailed("no"))
        old = ring(alice, payload={"times": 3}, reason="noon")
        runner.run_operation(old.id)
        new = services.retry_operation(actor=alice.actor, operation_id=old.id)
        assert (new.retry_of_id, new.payload, new.resource_id, new.reason, new.status) == (
            old.id,
            {"times": 3},
            old.resource_id,
            "Retry: noon",
            "queued",
        )
        assert fresh(old).status == Status.FAILED

    def test_twice_is_a_conflict_and_with_a_key_the_same(self, alice: Persona, bell: Bell) -> None:
        bell.does = fail_with(OperationFailed("no"))
        old = ring(alice)
        runner.run_operation(old.id)
        new = services.retry_operation(actor=alice.actor, operation_id=old.id, idempotency_key="again")
        assert services.retry_operation(actor=alice.actor, operation_id=old.id, idempotency_key="again").id == new.id
        with pytest.raises(Conflict):
            services.retry_operation(actor=alice.actor, operation_id=old.id)

    @pytest.mark.parametrize("status", ["queued", "running", "succeeded"])
    def test_only_what_failed(self, alice: Persona, bell: Bell, status: str) -> None:
        operation = ring(alice)
        if status == "running":
            runner.claim(operation.id)
        if status == "succeeded":
            runner.run_operation(operation.id)
        with pytest.raises(InvalidState):
            services.retry_operation(actor=alice.actor, operation_id=operation.id)

    def test_rights(self, alice: Persona, bob: Persona, mallory: Persona, bell: Bell) -> None:
        bell.does = fail_with(OperationFailed("no"))
        operation = ring(alice)
        runner.run_operation(operation.id)
        with pytest.raises(Forbidden):
            services.retry_operation(actor=bob.actor, operation_id=operation.id)
        with pytest.raises(NotFound):
            services.retry_operation(actor=mallory.actor, operation_id=operation.id)


class TestLeases:
    def test_the_reaper_gives_back_what_a_dead_worker_held(self, alice: Persona, bell: Bell) -> None:
        operation = runner.claim(ring(alice).id, owner="dead:1")
        assert operation is not None
        assert runner.reap_expired() == 0
        with later(31):
            assert runner.reap_expired() == 1
            row = fresh(operation)
            assert (row.status, row.fence, row.lease_owner, row.attempt) == (Status.QUEUED, 2, "", 0)
            assert runner.run_operation(operation.id) == "succeeded"
            assert runner.reap_expired() == 0

    def test_the_successor_goes_on_where_the_dead_one_was(self, alice: Persona, bell: Bell) -> None:
        dead = runner.claim(ring(alice).id)
        assert dead is not None
        runner.Lease(dead, 30).checkpoint(pulled=2)
        bell.does = lambda context: {"started_from": context.state["pulled"]}
        with later(31):
            runner.reap_expired()
            runner.run_operation(dead.id)
        assert fresh(dead).result == {"started_from": 2}

    def test_whoever_lost_the_lease_changes_nothing(self, alice: Persona, bell: Bell) -> None:
        old = runner.claim(ring(alice).id)
        assert old is not None
        lease = runner.Lease(old, 30)
        with later(31):
            runner.reap_expired()
            new = runner.claim(old.id)
            assert new is not None
            for write in (lease.renew, lambda: lease.checkpoint(x=1), lambda: lease.progress(50, "late")):
                with pytest.raises(LostLease):
                    write()
            assert services.finish(old, Status.FAILED, error="late") is False
            assert (fresh(old).status, fresh(old).state, fresh(old).error, bell.ended) == (Status.RUNNING, {}, "", [])
            assert services.finish(new, Status.SUCCEEDED) is True
        assert bell.ended == [(old.id, Status.SUCCEEDED)]

    def test_an_executor_that_lost_its_lease_ends_quietly(self, alice: Persona, bell: Bell) -> None:
        def does(context: RunContext) -> None:
            with later(31):
                runner.reap_expired()
            context.checkpoint(late=True)

        bell.does = does
        operation = ring(alice)
        assert runner.run_operation(operation.id) == "lost"
        assert (fresh(operation).status, fresh(operation).state) == (Status.QUEUED, {})

    def test_work_kept_alive_is_not_reaped(self, alice: Persona, bell: Bell) -> None:
        operation = runner.claim(ring(alice).id)
        assert operation is not None
        lease = runner.Lease(operation, 30)
        for seconds in (20, 40, 60):
            with later(seconds):
                assert runner.reap_expired() == 0
                lease.renew()


class TestLostBroker:
    def test_a_request_succeeds_and_the_tick_finds_it(
        self, alice: Persona, bell: Bell, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
    ) -> None:
        def broken(*args: Any, **kwargs: Any) -> None:
            raise OperationalError("no broker")

        monkeypatch.setattr("core.tasks._send", really_send)
        monkeypatch.setattr("core.tasks.current_app.send_task", broken)
        with django_capture_on_commit_callbacks(execute=True):
            operation = ring(alice)
        assert fresh(operation).status == Status.QUEUED
        sent: list[dict] = []
        monkeypatch.setattr("operations.tasks.current_app.send_task", lambda name, kwargs, queue: sent.append(kwargs))
        assert tasks.tick() == 1
        assert sent == [{"operation_id": str(operation.id)}]
        assert tasks.run(operation_id=str(operation.id)) == "succeeded"
        assert tasks.tick() == 0

    def test_a_message_that_comes_twice_runs_once(self, alice: Persona, bell: Bell) -> None:
        operation = ring(alice)
        assert [tasks.run(operation_id=str(operation.id)) for _ in range(3)] == [
            "succeeded",
            "not_claimed",
            "not_claimed",
        ]
        assert bell.runs == 1

    def test_the_sweep_reaps_and_beats(self, alice: Persona, bell: Bell) -> None:
        from core.models import Pulse

        runner.claim(ring(alice).id)
        with later(31):
            assert tasks.sweep() == {"reaped": 1}
        assert Pulse.objects.filter(name="sweep").exists()
