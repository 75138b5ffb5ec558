"""The canonical form of an audit entry and the hashes that chain entries. Pure Python.

`digest` covers the content of one entry and is made when it is written. `link` covers the place of that entry in the
chain of its organization and is made when it is sealed. The stand-alone verifier repeats both definitions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

GENESIS = "0" * 64
FIELDS = [
    "id",
    "organization",
    "seq",
    "at",
    "actor_kind",
    "actor_id",
    "actor_label",
    "verb",
    "target_kind",
    "target_id",
    "target_label",
    "outcome",
    "changes",
    "detail",
    "ip",
    "user_agent",
    "request_id",
    "operation_id",
]
_SEARCHED = ("actor_label", "verb", "target_label", "target_id", "detail", "request_id")
_MAX_DEPTH = 12


def canonical(entry: Mapping[str, Any]) -> bytes:
    """JSON of FIELDS with sorted keys, no spaces, UTF-8; times as ISO 8601 UTC with milliseconds; ids as text."""
    return json.dumps(
        {name: entry[name] for name in FIELDS}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def digest(entry: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical content, in hexadecimal."""
    return digest_of(canonical(entry))


def digest_of(content: bytes) -> str:
    """The same of a canonical form that is at hand."""
    return hashlib.sha256(content).hexdigest()


def words(entry: Mapping[str, Any]) -> str:
    """What the text search looks through: who, what and which, in lower case, a line each."""
    return "\n".join(str(entry[name]) for name in _SEARCHED if entry[name]).lower()


def link(organization: str, line: int, previous: str, content: str) -> str:
    """Hash of line `line` whose content has the digest `content` and that follows the line with the hash `previous`."""
    return hashlib.sha256(f"curfew-audit-1\n{organization}\n{line}\n{previous}\n{content}".encode()).hexdigest()


def text(value: str) -> str:
    """The text as every database and UTF-8 can keep it: NUL and lone surrogates become U+FFFD."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode() if _is_odd(value) else value


def _is_odd(value: str) -> bool:
    return "\0" in value or (not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value))


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON that reads back the same from SQLite and PostgreSQL.

    Numbers that a database may write differently (very large, very small, not finite) become text, and so does
    whatever JSON has no form for; what is nested deeper than twelve levels is cut to text.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return (
            value
            if repr(value).lstrip("-").replace(".", "", 1).isdigit() and value != 0
            else (0 if value == 0 else repr(value))
        )
    if depth >= _MAX_DEPTH:
        return text(str(value))[:200]
    if isinstance(value, Mapping):
        return {text(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth + 1) for item in value]
    return text(str(value))
