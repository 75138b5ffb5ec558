"""Claim, run, renew, end. Survives `kill -9` at any instruction: the lease runs out and a successor goes on."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import connection
from django.db.models import F

from core import clock, request_context
from core.errors import CurfewError
from core.live import publish
from core.providers import ProviderError
from core.redaction import redact_text
from operations import registry, services
from operations.enums import Status
from operations.models import Operation

log = logging.getLogger(__name__)
BACKOFF_BASE_SECONDS = 2.0
BACKOFF_CAP_SECONDS = 120.0
MOST_LOST_LEASES = 10
_process = ""


def _name_process() -> None:
    """Give this process its own name; what forks, such as Celery's pool, gives each child another one."""
    global _process
    _process = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


_name_process()
os.register_at_fork(after_in_child=_name_process)


def owner_name() -> str:
    return f"{_process}:{threading.get_ident()}"


class Lease:
    """The runner's side of an operation that it holds; implements `registry.RunContext`."""

    def __init__(self, operation: Operation, seconds: int) -> None:
        self.operation = operation
        self.seconds = seconds

    @property
    def state(self) -> dict[str, Any]:
        return self.operation.state

    def _write(self, **fields: Any) -> None:
        fields["lease_expires_at"] = clock.now() + timedelta(seconds=self.seconds)
        held = Operation.objects.all_orgs().filter(
            id=self.operation.id, fence=self.operation.fence, status=Status.RUNNING
        )
        if not held.update(**fields):
            raise registry.LostLease(str(self.operation.id))
        for name, value in fields.items():
            setattr(self.operation, name, value)

    def renew(self) -> None:
        self._write()

    def checkpoint(self, **changes: Any) -> None:
        self._write(state={**self.operation.state, **changes})

    def progress(
        self, percent: int | None = None, step: str = "", done: int | None = None, total: int | None = None
    ) -> None:
        fields: dict[str, Any] = {}
        if percent is not None:
            fields["progress"] = max(0, min(99, percent))
        if step:
            fields["step"] = redact_text(step)[:200]
        if done is not None:
            fields["steps_done"] = done
        if total is not None:
            fields["steps_total"] = total
        self._write(**fields)
        publish(self.operation.organization_id, "operations", [self.operation.id, self.operation.resource_id])

    def check_cancel(self) -> None:
        asked = Operation.objects.all_orgs().filter(id=self.operation.id, cancel_requested_at__isnull=False).exists()
        if asked:
            raise registry.Cancelled


def claim(operation_id: UUID | str, owner: str | None = None) -> Operation | None:
    """Take a due, queued operation by one conditional UPDATE; None when somebody else was quicker."""
    moment = clock.now()
    operation = (
        Operation.objects.all_orgs().filter(id=operation_id, status=Status.QUEUED, not_before__lte=moment).first()
    )
    if operation is None:
        return None
    executor = registry.find(operation.kind)
    if executor is None:
        words = f"This server does not know how to do {operation.kind!r}."
        services.finish(operation, Status.FAILED, error_code="no_executor", error=words, tell_executor=False)
        return None
    lease = executor.lease_seconds
    won = (
        Operation.objects.all_orgs()
        .filter(id=operation.id, status=Status.QUEUED, fence=operation.fence)
        .update(
            status=Status.RUNNING,
            fence=F("fence") + 1,
            lease_owner=owner or owner_name(),
            lease_expires_at=moment + timedelta(seconds=lease),
            started_at=operation.started_at or moment,
        )
    )
    if not won:
        return None
    operation.refresh_from_db()
    return operation


def run_operation(operation_id: UUID | str) -> str:
    """Claim and run one operation. Returns what happened, for logs: `not_claimed`, a final status, `again`, `retry`, `lost`."""
    operation = claim(operation_id)
    if operation is None:
        return "not_claimed"
    token = request_context.request_id.set(operation.request_id)
    try:
        outcome = _run_claimed(operation)
    finally:
        request_context.request_id.reset(token)
    log.info("operation_run", extra={"operation_id": str(operation.id), "kind": operation.kind, "outcome": outcome})
    return outcome


def _run_claimed(operation: Operation) -> str:
    executor = registry.executor_for(operation.kind)
    lease = Lease(operation, executor.lease_seconds)
    keeper = _LeaseKeeper(operation, executor.lease_seconds)
    publish(operation.organization_id, "operations", [operation.id, operation.resource_id])
    keeper.start()
    try:
        if operation.deadline and clock.now() > operation.deadline:
            raise registry.OperationFailed(
                "It did not end in the time allowed.",
                code="timeout",
                next_step="Retry, or look at the provider's console.",
            )
        lease.check_cancel()
        result = executor.run(lease)
    except registry.RunAgain as wait:
        return _again(operation, wait.seconds, "again")
    except registry.Cancelled:
        return _ended(operation, Status.CANCELLED, error_code="cancelled", error="Cancelled on request.")
    except registry.LostLease:
        return "lost"
    except (ProviderError, registry.OperationFailed) as failure:
        return _failed(operation, failure)
    except CurfewError as failure:
        return _ended(operation, Status.FAILED, error_code=failure.code, error=failure.message)
    except Exception as crash:  # the edge of the worker: nothing may escape without an outcome
        log.exception("operation_crashed", extra={"operation_id": str(operation.id), "kind": operation.kind})
        surprise = registry.OperationFailed(
            f"An unexpected error ({type(crash).__name__}) was recorded.", code="internal", transient=True
        )
        return _failed(operation, surprise)
    finally:
        keeper.stop()
    return _ended(operation, Status.SUCCEEDED, result=result)


def _ended(operation: Operation, status: Status, **facts: Any) -> str:
    """End it. When the executor cannot bring the resource in line, try again later, and in the end say so."""
    try:
        return status.value if services.finish(operation, status, **facts) else "lost"
    except Exception:  # the edge of the worker: an operation must not stay held for ever
        log.exception("operation_not_ended", extra={"operation_id": str(operation.id), "kind": operation.kind})
    operation.refresh_from_db()
    attempt = operation.attempt + 1
    if attempt < operation.max_attempts:
        return _again(operation, backoff(attempt), "retry", attempt=attempt)
    words = "The work was done as far as possible, but its result could not be recorded."
    ended = services.finish(operation, Status.FAILED, error_code="internal", error=words, tell_executor=False)
    return Status.FAILED.value if ended else "lost"


def _failed(operation: Operation, failure: ProviderError | registry.OperationFailed) -> str:
    attempt = operation.attempt + 1
    if failure.transient and attempt < operation.max_attempts and operation.cancel_requested_at is None:
        delay = getattr(failure, "retry_after", None) or backoff(attempt)
        return _again(
            operation,
            delay,
            "retry",
            attempt=attempt,
            error_code=failure.code,
            error=redact_text(failure.message)[:1000],
        )
    words = redact_text(getattr(failure, "detail", ""))
    result = {"provider_words": words} if words else {}
    return _ended(
        operation,
        Status.FAILED,
        result=result,
        error_code=failure.code,
        error=redact_text(failure.message),
        next_step=f"{failure.next_step} It was tried {attempt} times.".strip() if attempt > 1 else failure.next_step,
    )


def backoff(attempt: int) -> float:
    """Exponential with full jitter, in seconds."""
    return random.uniform(0.5, 1.0) * min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** (attempt - 1))  # noqa: S311


def _again(operation: Operation, seconds: float, outcome: str, **fields: Any) -> str:
    held = Operation.objects.all_orgs().filter(id=operation.id, fence=operation.fence, status=Status.RUNNING)
    moved = held.update(
        status=Status.QUEUED,
        not_before=clock.now() + timedelta(seconds=seconds),
        lease_owner="",
        lease_expires_at=None,
        **fields,
    )
    if moved:
        publish(operation.organization_id, "operations", [operation.id, operation.resource_id])
    return outcome if moved else "lost"


class _LeaseKeeper(threading.Thread):
    """Renews the lease while the executor is inside a slow call. Dies with the process, which is the point."""

    def __init__(self, operation: Operation, seconds: int) -> None:
        super().__init__(name=f"lease-{operation.id}", daemon=True)
        self._key = (operation.id, operation.fence)
        self._seconds = seconds
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._seconds / 3):
            operation_id, fence = self._key
            try:
                Operation.objects.all_orgs().filter(id=operation_id, fence=fence, status=Status.RUNNING).update(
                    lease_expires_at=clock.now() + timedelta(seconds=self._seconds)
                )
            except Exception:  # a database hiccup must not end the keeper; the next beat tries again
                log.exception("lease_renewal_failed", extra={"operation_id": str(operation_id)})
            finally:
                connection.close()

    def stop(self) -> None:
        self._stopped.set()


def due(limit: int = 500) -> list[Operation]:
    """Queued operations whose time has come, oldest first, with their ids, queues and fences alone."""
    rows = Operation.objects.all_orgs().filter(status=Status.QUEUED, not_before__lte=clock.now())
    return list(rows.order_by("not_before").only("id", "queue", "fence")[:limit])


def due_ids(limit: int = 500) -> list[UUID]:
    return [operation.id for operation in due(limit)]


def reap_expired(limit: int = 500) -> int:
    """Give operations whose worker died back to the queue; the successor resumes from the checkpoint.

    One that has cost MOST_LOST_LEASES workers ends as failed instead.
    """
    moment = clock.now()
    expired = Operation.objects.all_orgs().filter(status=Status.RUNNING, lease_expires_at__lt=moment)
    count = 0
    for operation_id, fence, lost in list(expired.values_list("id", "fence", "lost_leases")[:limit]):
        if lost + 1 >= MOST_LOST_LEASES:
            count += _give_up(operation_id, fence)
            continue
        count += (
            Operation.objects.all_orgs()
            .filter(id=operation_id, fence=fence, status=Status.RUNNING, lease_expires_at__lt=moment)
            .update(
                status=Status.QUEUED,
                fence=F("fence") + 1,
                lost_leases=F("lost_leases") + 1,
                lease_owner="",
                lease_expires_at=None,
                not_before=moment,
            )
        )
    return count


def _give_up(operation_id: UUID, fence: int) -> bool:
    operation = Operation.objects.all_orgs().filter(id=operation_id, fence=fence, status=Status.RUNNING).first()
    words = f"Its worker was lost {MOST_LOST_LEASES} times."
    return operation is not None and _ended(operation, Status.FAILED, error_code="worker_lost", error=words) != "lost"


def release_dead_process() -> int:
    """At the start of an embedded server no other worker can exist, as it locks its data folder: every held lease is a
    dead one, and its operation need not wait for the lease to run out.
    """
    held = Operation.objects.all_orgs().filter(status=Status.RUNNING).exclude(lease_owner__startswith=_process)
    Operation.objects.all_orgs().filter(id__in=held.values("id")).update(
        lease_expires_at=clock.now() - timedelta(seconds=1)
    )
    return reap_expired()
