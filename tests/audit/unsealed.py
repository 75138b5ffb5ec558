"""Lets a transactional test empty its database: the flush between tests lifts the append-only triggers, and only it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.backends.base.operations import BaseDatabaseOperations

from audit import triggers


@pytest.fixture(scope="session", autouse=True)
def flush_may_empty_the_audit_log() -> Iterator[None]:
    """Wraps what `manage.py flush` runs; the triggers are back before the next test begins."""
    patch = pytest.MonkeyPatch()
    original: Callable[..., Any] = BaseDatabaseOperations.execute_sql_flush

    def execute_sql_flush(self: Any, sql_list: Any) -> Any:
        triggers.remove(self.connection)
        try:
            return original(self, sql_list)
        finally:
            triggers.install(self.connection)

    patch.setattr(type(connection.ops), "execute_sql_flush", execute_sql_flush)
    yield
    patch.undo()
