"""Reading a million lines at the speed of the database: whole pieces of text, put together by set-based SQL.

No piece holds a transaction open, so a slow reader keeps nothing waiting, and memory is that of one piece.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db import connection

from audit import chain
from audit.models import AuditEntry, AuditSeal
from core.errors import InvalidInput

PIECE = 1000
COLUMNS = ["line", *chain.FIELDS, "prev_hash", "hash"]
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_LINE = """'{"line":' || s.line || ',"prev_hash":"' || s.prev_hash || '","hash":"' || s.hash || '","entry":' || e.canonical || E'}\\n'"""
_FROM = f"""FROM {AuditSeal._meta.db_table} s LEFT JOIN {AuditEntry._meta.db_table} e
 ON e.id = s.entry_id AND e.organization_id = s.organization_id
 WHERE s.organization_id = %s AND s.line BETWEEN %s AND %s"""
_AT = """to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
_BARE = frozenset(
    {"id", "organization", "seq", "at", "operation_id"}
)  # neither quoted nor a formula: numbers, ids, times
_QUOTED = [name for name in chain.FIELDS if name not in _BARE]
_STARTS = ", ".join(str(ord(start)) for start in FORMULA)
# Cut out of the canonical text, a third of what parsing its JSON costs. Inside a JSON text every quote has a backslash
# before it, so `,"changes":` stands first where the changes begin; what follows them holds the id of the entry.
_AFTER = """CASE e.detail WHEN '' THEN ',"detail":""' ELSE ',"detail":' || to_json(e.detail) END || ',"id":"' || e.id"""
_CHANGES = f"""substr(split_part(e.canonical, {_AFTER}, 1), strpos(e.canonical, ',"changes":') + 11)"""


def _cell(name: str) -> str:
    """SQL of one cell of a CSV, with an apostrophe before what a spreadsheet would take for a formula."""
    if name in _BARE:
        return _AT if name == "at" else f"e.{name}_id" if name == "organization" else f"e.{name}"
    if name == "changes":  # as it was hashed; an object, so never a formula
        return _CHANGES
    return f"CASE WHEN ascii(e.{name}) IN ({_STARTS}) THEN '''' || e.{name} ELSE e.{name} END"


_ROWS = f"""COPY (SELECT s.line, {", ".join(f"{_cell(name)} AS {name}" for name in chain.FIELDS)}, s.prev_hash, s.hash
 {_FROM} AND e.id IS NOT NULL ORDER BY s.line) TO STDOUT (FORMAT csv, FORCE_QUOTE ({", ".join(_QUOTED)}))"""


def _aggregate(text: str) -> str:
    joined = "string_agg"
    if connection.vendor == "sqlite":
        joined, text = "group_concat", text.replace("E'}\\n'", "'}' || char(10)")
    ordered = f"SELECT e.id AS id, {text} AS text {_FROM} ORDER BY s.line"
    return f"SELECT count(*), count(id), {joined}(text, '') FROM ({ordered}) AS pieces"  # noqa: S608  our own names


def json_lines(organization_id: UUID, first: int, last: int) -> Iterator[bytes]:
    """The sealed lines from `first` to `last` as JSON Lines, a thousand in each piece.

    A line is `{"line":n,"prev_hash":"…","hash":"…","entry":{canonical content}}`. Raises InvalidInput when a line or
    its entry is gone.
    """
    for start, end in _ranges(first, last):
        with connection.cursor() as cursor:
            cursor.execute(_aggregate(_LINE), [_owner(organization_id), start, end])
            lines, whole, piece = cursor.fetchone()
        if not lines == whole == end - start + 1:
            raise _gap(start, end)
        yield piece.encode()


def csv_rows(organization_id: UUID, first: int, last: int) -> Iterator[bytes]:
    """The same lines as CSV under COLUMNS, without the head, each ended by LF; safe to open in a spreadsheet.

    PostgreSQL writes the rows itself (COPY); elsewhere they are made here, byte for byte the same.
    """
    if connection.vendor != "postgresql":
        yield from map(_as_csv, json_lines(organization_id, first, last))
        return
    for start, end in _ranges(first, last):
        with connection.cursor() as cursor, connection.wrap_database_errors:
            with cursor.copy(_ROWS, [organization_id, start, end]) as rows:
                piece = b"".join(rows)
            if cursor.rowcount != end - start + 1:
                raise _gap(start, end)
        yield piece


def _ranges(first: int, last: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + PIECE - 1, last)) for start in range(first, last + 1, PIECE))


def _owner(organization_id: UUID) -> Any:
    return organization_id.hex if connection.vendor == "sqlite" else organization_id


def _gap(start: int, end: int) -> InvalidInput:
    return InvalidInput(f"Between line {start} and {end} the log has lost entries; verify the chain.")


def _as_csv(lines: bytes) -> bytes:
    out = []
    for line in lines.split(b"\n")[:-1]:
        row = json.loads(line)
        cells = [_written(name, row["entry"][name]) for name in chain.FIELDS]
        out.append(",".join([str(row["line"]), *cells, row["prev_hash"], row["hash"]]) + "\n")
    return "".join(out).encode()


def _written(name: str, value: Any) -> str:
    """One cell as COPY writes it: texts in quotes, numbers, ids and times bare, nothing for null."""
    if name in _BARE:
        return "" if value is None else str(value)
    if name == "changes":
        value = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return '"' + safe_cell(value).replace('"', '""') + '"'


def safe_cell(value: str) -> str:
    """Text that no spreadsheet takes for a formula: a leading = + - @, tab or line break gets an apostrophe before it."""
    return f"'{value}" if value.startswith(FORMULA) else value
