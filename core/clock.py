"""The one place that tells the time, so that simulators and tests can move it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_fixed: ContextVar[datetime | None] = ContextVar("clock_fixed", default=None)


def now() -> datetime:
    """Aware UTC time: the wall clock, or the moment set by `at()`."""
    return _fixed.get() or datetime.now(UTC)


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Within the block, `now()` is `moment`: used to replay history through the ordinary services."""
    token = _fixed.set(moment)
    try:
        yield
    finally:
        _fixed.reset(token)
