"""Lets a transactional test empty its database: the flush between tests passes the append-only triggers, and only it.

Truncating two hundred tables makes PostgreSQL write as many new files, and dropping triggers changes the schema: both
take longer than most tests. So only the tables that have rows are emptied, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
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


@pytest.fixture(scope="session", autouse=True)
def flush_may_empty_the_audit_log() -> Iterator[None]:
    """What `manage.py flush` runs is `empty`; Django then writes again what a migrated database has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connection.ops), "execute_sql_flush", lambda operations, statements: empty())
        yield
