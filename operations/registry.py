"""Executors: what an operation of a kind does. Apps register theirs in `AppConfig.ready()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from core.errors import CurfewError

if TYPE_CHECKING:
    from operations.models import Operation


class RunAgain(Exception):
    """Raised by an executor that has to wait for the far side: the row goes back to the queue, no thread is held.

    It is not a retry: the attempt counter is left as it is.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds} s")
        self.seconds = seconds


class Cancelled(Exception):
    """Raised by `context.check_cancel()` when somebody asked the operation to stop."""


class LostLease(Exception):
    """Another worker holds the operation now; whatever this one still does must have no effect."""


class OperationFailed(CurfewError):
    """A final failure with words for a person; `transient` ones are tried again with back-off."""

    def __init__(self, message: str, *, code: str = "failed", transient: bool = False, next_step: str = "") -> None:
        super().__init__(message, code=code)
        self.transient = transient
        self.next_step = next_step


class RunContext(Protocol):
    """What the runner gives an executor. Every method may raise LostLease."""

    operation: Operation

    @property
    def state(self) -> dict[str, Any]: ...

    def checkpoint(self, **changes: Any) -> None:
        """Merge into `state`, commit, renew the lease. Call before and after each step that must not run twice."""

    def progress(
        self, percent: int | None = None, step: str = "", done: int | None = None, total: int | None = None
    ) -> None: ...

    def check_cancel(self) -> None: ...

    def renew(self) -> None: ...


class Executor(Protocol):
    """One kind of operation. `run` is called outside any transaction, may be killed at any instruction, and may be
    called again with the state it last checkpointed: every step must be safe to repeat."""

    kind: str
    label: str
    queue: str
    permission: str
    max_attempts: int
    lease_seconds: int

    def run(self, context: RunContext) -> Mapping[str, Any] | None: ...

    def finished(self, operation: Operation) -> None:
        """Called in the transaction that ends the operation, whatever the outcome: bring the resource's row in line."""

    def subject(self, operation: Operation) -> str:
        """What the learned duration is kept for (`t4/aws`), or "" when it is not learned."""


_executors: dict[str, Executor] = {}


def register(executor: Executor) -> None:
    _executors[executor.kind] = executor


def executor_for(kind: str) -> Executor:
    try:
        return _executors[kind]
    except KeyError:
        raise OperationFailed(f"No executor is registered for {kind!r}.", code="no_executor") from None


def find(kind: str) -> Executor | None:
    return _executors.get(kind)


def all_executors() -> list[Executor]:
    return list(_executors.values())


class BaseExecutor:
    """Sensible defaults to inherit from."""

    kind = ""
    label = ""
    queue = "cloud"
    permission = "operations.operate"
    max_attempts = 4
    lease_seconds = 60
    announces_failure = True  # people are told when it fails
    puts_to_sleep = False  # people are told when a schedule ordered it

    def finished(self, operation: Operation) -> None:
        return None

    def subject(self, operation: Operation) -> str:
        return ""


ResourceKey = tuple[str, UUID]
