"""Lets a transactional test empty its database: the flush between tests passes the append-only triggers, and only it.

Truncating two hundred tables makes PostgreSQL write as many new files, and dropping triggers changes the schema: both
take longer than most tests. So only the tables that have rows are emptied, row by row. Asking every app again for its
rows takes longer, too: what they wrote the first time is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management.commands import flush
from django.db import connection, transaction

from audit import triggers

# `flush` writes these anew from the models, and no test changes them.
MADE_FROM_MODELS = {"django_content_type", "auth_permission"}


def filled_tables() -> list[str]:
    """The tables of our models that have rows, but for what is made from the models."""
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False))
    questions = (
        f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {connection.ops.quote_name(table)})"
        for table in sorted(tables - MADE_FROM_MODELS)
    )
    with connection.cursor() as cursor:
        found: list[str] = []
        for some in _batches(list(questions), 100):  # SQLite takes no more than 500 in one statement
            cursor.execute(" UNION ALL ".join(some))
            found += [row[0] for row in cursor.fetchall()]
    return found


def _batches(rows: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def empty() -> None:
    """Delete every row of every filled table, in one transaction, whatever the triggers say."""
    tables = filled_tables()
    postgres = connection.vendor == "postgresql"
    with transaction.atomic(), connection.cursor() as cursor:
        if postgres:
            cursor.execute("SET LOCAL session_replication_role = replica")  # no triggers, no foreign keys
        else:
            triggers.remove(connection)
        for table in tables:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
        if not postgres:
            triggers.install(connection)


def _rows(table: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
        return [column[0] for column in cursor.description], cursor.fetchall()


def _write(table: str, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    name = connection.ops.quote_name
    places = ", ".join(["%s"] * len(columns))
    into = f"INSERT INTO {name(table)} ({', '.join(map(name, columns))}) VALUES ({places})"
    with connection.cursor() as cursor:
        cursor.executemany(into, rows)


def remembering(ask: Callable[..., None]) -> Callable[..., None]:
    """What the apps write after a migration when `ask` is called, asked once and then written from memory."""
    made: dict[str, tuple[list[str], list[tuple[Any, ...]]]] = {}

    def write(*arguments: Any, **options: Any) -> None:
        if not made:
            ask(*arguments, **options)
            made.update({table: _rows(table) for table in filled_tables()})
            return
        with transaction.atomic():
            for table, (columns, rows) in made.items():
                _write(table, columns, rows)

    return write


@pytest.fixture(scope="session", autouse=True)
def flush_may_empty_the_audit_log() -> Iterator[None]:
    """What `manage.py flush` runs is `empty`; what a migrated database has is then written again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connection.ops), "execute_sql_flush", lambda operations, statements: empty())
        patch.setattr(flush, "emit_post_migrate_signal", remembering(flush.emit_post_migrate_signal))
        yield
