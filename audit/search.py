"""Indexes of the text search over `words`: trigrams on PostgreSQL, FTS5 with trigrams on SQLite.

Both find any piece of three characters or more. Where the database lacks them (no right to create the extension, a
SQLite without FTS5) the search still works, by reading line after line. A migration that remakes the entries' table on
SQLite must call `remove` before and `install` after, as with the triggers.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models.expressions import RawSQL

log = logging.getLogger(__name__)
TABLE = "audit_auditentry"
COMMON = 20_000
_POSTGRES = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    f"CREATE INDEX IF NOT EXISTS audit_entry_words ON {TABLE} USING gin (words gin_trgm_ops)",
)
_FOUND = "INSERT INTO audit_words (rowid, words) VALUES (NEW.seq, NEW.words)"
_LOST = "INSERT INTO audit_words (audit_words, rowid, words) VALUES ('delete', OLD.seq, OLD.words)"
_SQLITE = (  # without content of its own: the number of an entry there is its `seq`
    "CREATE VIRTUAL TABLE IF NOT EXISTS audit_words USING fts5(words, content='', tokenize='trigram')",
    f"CREATE INDEX IF NOT EXISTS audit_entry_seq ON {TABLE} (seq)",
    f"CREATE TRIGGER IF NOT EXISTS {TABLE}_found AFTER INSERT ON {TABLE} BEGIN {_FOUND}; END",
    f"CREATE TRIGGER IF NOT EXISTS {TABLE}_lost AFTER DELETE ON {TABLE} BEGIN {_LOST}; END",
)
_FILL = f"INSERT INTO audit_words (rowid, words) SELECT seq, words FROM {TABLE}"  # noqa: S608  constants of this module


def install(database: Any) -> bool:
    """Create the indexes and take in what is there; False, with a warning, when the database has no means for it."""
    statements = {"postgresql": _POSTGRES, "sqlite": (*_SQLITE, _FILL)}[database.vendor]
    try:
        with transaction.atomic(using=database.alias), database.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    except DatabaseError as refused:
        log.warning("audit_search_not_indexed", extra={"reason": str(refused)})
        return False
    return True


def remove(database: Any) -> None:
    """Drop them."""
    statements = {
        "postgresql": ["DROP INDEX IF EXISTS audit_entry_words"],
        "sqlite": [
            f"DROP TRIGGER IF EXISTS {TABLE}_found",
            f"DROP TRIGGER IF EXISTS {TABLE}_lost",
            "DROP INDEX IF EXISTS audit_entry_seq",
            "DROP TABLE IF EXISTS audit_words",
        ],
    }[database.vendor]
    with database.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def narrow(rows: Any, asked: str) -> Any:
    """The rows in whose words every word of `asked` stands, upper and lower case alike."""
    words = [word.lower() for word in asked.split()]
    for word in words:
        rows = rows.filter(words__contains=word)
    long = [f'"{word.replace(chr(34), chr(34) * 2)}"' for word in words if len(word) >= 3]
    if long and connection.vendor == "sqlite" and _has_fts(str(connection.settings_dict["NAME"])):
        match = " AND ".join(long)
        if _matches(match) <= COMMON:  # otherwise the newest lines hold enough of them
            found = "SELECT rowid FROM audit_words WHERE audit_words MATCH %s"
            rows = rows.filter(seq__in=RawSQL(found, [match]))  # noqa: S611  the match is a parameter
    return rows


def _matches(match: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT 1 FROM audit_words WHERE audit_words MATCH %s LIMIT %s)", [match, COMMON + 1]
        )
        return int(cursor.fetchone()[0])


@lru_cache(maxsize=4)
def _has_fts(database: str) -> bool:
    del database  # the key of the cache
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sqlite_master WHERE name = 'audit_words'")
        return bool(cursor.fetchone()[0])
