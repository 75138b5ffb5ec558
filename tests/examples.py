"""How many examples a property of what is in the database is tried with."""

from __future__ import annotations

from django.db import connection


def on_each_database(number: int) -> int:
    """All of them on SQLite, a third on PostgreSQL, where the same code runs and only the SQL is another one."""
    return max(10, number // 3) if connection.vendor == "postgresql" else number
