"""Database triggers of the audit log, the same promises on SQLite and PostgreSQL. The statements are idempotent.

Entries, seals, checkpoints and purges: UPDATE and TRUNCATE are refused for everybody. DELETE is refused too, except
for entries and seals up to the line of a purge row, which retention writes signed before it deletes. Each new entry
is queued for its seal by the database itself. Deleting an organization that has audit lines is refused with them.
"""

from __future__ import annotations

from typing import Any

MESSAGE = "the audit log is append-only"
ENTRY, SEAL, PURGE, PENDING = "audit_auditentry", "audit_auditseal", "audit_auditpurge", "audit_auditpending"
TABLES = (ENTRY, SEAL, "audit_auditcheckpoint", PURGE)

_SEAL_PURGED = f"EXISTS (SELECT 1 FROM {PURGE} p WHERE p.organization_id = OLD.organization_id AND p.line >= OLD.line)"  # noqa: S608
_ENTRY_PURGED = (  # constants of this module, no input
    f"EXISTS (SELECT 1 FROM {SEAL} s JOIN {PURGE} p ON p.organization_id = s.organization_id AND p.line >= s.line WHERE s.entry_id = OLD.id)"  # noqa: S608
)
_ALLOWED = {ENTRY: _ENTRY_PURGED, SEAL: _SEAL_PURGED}
_QUEUE = f"INSERT INTO {PENDING} (organization_id, entry_id, digest, since) VALUES (NEW.organization_id, NEW.id, NEW.digest, {{now}})"  # noqa: S608


def _sqlite(table: str) -> tuple[str, ...]:
    unless = f"WHEN NOT {_ALLOWED[table]} " if table in _ALLOWED else ""
    refuse = f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
    return (
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_update BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_delete BEFORE DELETE ON {table} {unless}{refuse}",
    )


_SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
_SQLITE_INSTALL = (
    *(statement for table in TABLES for statement in _sqlite(table)),
    f"CREATE TRIGGER IF NOT EXISTS {ENTRY}_queue AFTER INSERT ON {ENTRY} BEGIN {_QUEUE.format(now=_SQLITE_NOW)}; END",
)
_SQLITE_REMOVE = (
    *(f"DROP TRIGGER IF EXISTS {table}_no_{verb}" for table in TABLES for verb in ("update", "delete")),
    f"DROP TRIGGER IF EXISTS {ENTRY}_queue",
)


def _function(name: str, body: str) -> str:
    return f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$"


def _postgres(table: str) -> tuple[str, ...]:
    refuse = f"RAISE EXCEPTION '{MESSAGE}' USING ERRCODE = 'integrity_constraint_violation';"
    allowed = f"IF TG_OP = 'DELETE' AND {_ALLOWED[table]} THEN RETURN OLD; END IF; " if table in _ALLOWED else ""
    return (
        _function(f"{table}_refuse", allowed + refuse),
        _function(f"{table}_refuse_all", refuse),
        f"DROP TRIGGER IF EXISTS {table}_no_change ON {table}",
        f"DROP TRIGGER IF EXISTS {table}_no_truncate ON {table}",
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_refuse()",
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse_all()",
    )


_POSTGRES_INSTALL = (
    *(statement for table in TABLES for statement in _postgres(table)),
    _function(f"{ENTRY}_to_queue", _QUEUE.format(now="clock_timestamp()") + "; RETURN NULL;"),
    f"DROP TRIGGER IF EXISTS {ENTRY}_queue ON {ENTRY}",
    f"CREATE TRIGGER {ENTRY}_queue AFTER INSERT ON {ENTRY} FOR EACH ROW EXECUTE FUNCTION {ENTRY}_to_queue()",
)
_POSTGRES_REMOVE = (
    *(f"DROP TRIGGER IF EXISTS {table}_{what} ON {table}" for table in TABLES for what in ("no_change", "no_truncate")),
    f"DROP TRIGGER IF EXISTS {ENTRY}_queue ON {ENTRY}",
    *(f"DROP FUNCTION IF EXISTS {table}_{what}()" for table in TABLES for what in ("refuse", "refuse_all")),
    f"DROP FUNCTION IF EXISTS {ENTRY}_to_queue()",
)


def install(connection: Any) -> None:
    """Create the triggers. Raises NotImplementedError on a database that is neither SQLite nor PostgreSQL."""
    _run(connection, {"sqlite": _SQLITE_INSTALL, "postgresql": _POSTGRES_INSTALL})


def remove(connection: Any) -> None:
    """Drop the triggers: only for migrations and for emptying test databases."""
    _run(connection, {"sqlite": _SQLITE_REMOVE, "postgresql": _POSTGRES_REMOVE})


def _run(connection: Any, statements: dict[str, tuple[str, ...]]) -> None:
    if connection.vendor not in statements:
        raise NotImplementedError(f"no append-only triggers for {connection.vendor}")
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)
