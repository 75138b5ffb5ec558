"""Reading a million lines at the speed of the database: whole pieces of text, put together by set-based SQL.

No piece holds a transaction open, so a slow reader keeps nothing waiting, and memory is that of one piece.
"""

from __future__ import annotations

import csv
import io
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


def _cell(name: str) -> str:
    """SQL of one cell of a CSV: quoted, and with an apostrophe before what a spreadsheet would take for a formula."""
    if name == "at":
        return _AT
    if name in {"id", "seq", "organization"}:
        return f"e.{name}_id" if name == "organization" else f"e.{name}"
    if name == "operation_id":
        return "coalesce(e.operation_id::text, '')"
    text = f"e.{name}::text"
    safe = f"CASE WHEN left({text}, 1) = ANY(%s) THEN '''' || {text} ELSE {text} END"
    return f"""'"' || replace({safe}, '"', '""') || '"'"""


_CELLS = [_cell(name) for name in chain.FIELDS]
_ROW = " || ',' || ".join(["s.line", *_CELLS, "s.prev_hash", "s.hash"]) + " || E'\\r\\n'"
_MARKS = [list(FORMULA)] * _ROW.count("%s")


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
    return _pieces(_LINE, [], organization_id, first, last)


def csv_rows(organization_id: UUID, first: int, last: int) -> Iterator[bytes]:
    """The same lines as CSV under COLUMNS, without the head, each ended by CR LF; safe to open in a spreadsheet."""
    if connection.vendor == "sqlite":
        return map(_as_csv, json_lines(organization_id, first, last))
    return _pieces(_ROW, _MARKS, organization_id, first, last)


def _pieces(text: str, values: list[Any], organization_id: UUID, first: int, last: int) -> Iterator[bytes]:
    owner = organization_id.hex if connection.vendor == "sqlite" else organization_id
    query = _aggregate(text)
    for start in range(first, last + 1, PIECE):
        end = min(start + PIECE - 1, last)
        with connection.cursor() as cursor:
            cursor.execute(query, [*values, owner, start, end])
            lines, whole, piece = cursor.fetchone()
        if not lines == whole == end - start + 1:
            raise InvalidInput(f"Between line {start} and {end} the log has lost entries; verify the chain.")
        yield piece.encode()


def _as_csv(lines: bytes) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    for line in lines.split(b"\n")[:-1]:
        row = json.loads(line)
        content = row["entry"]
        content["changes"] = json.dumps(content["changes"], ensure_ascii=False, sort_keys=True)
        writer.writerow([row["line"], *map(safe_cell, map(content.get, chain.FIELDS)), row["prev_hash"], row["hash"]])
    return out.getvalue().encode()


def safe_cell(value: Any) -> str:
    """Text that no spreadsheet takes for a formula: a leading = + - @, tab or line break gets an apostrophe before it."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
