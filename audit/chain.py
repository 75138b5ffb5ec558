"""The canonical form and hash of an audit entry. Pure Python; the stand-alone verifier repeats this definition."""

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
    "prev_hash",
]


def canonical(entry: Mapping[str, Any]) -> bytes:
    """JSON of FIELDS with sorted keys, no spaces, UTF-8; times as ISO 8601 UTC with milliseconds; ids as text."""
    return json.dumps(
        {name: entry[name] for name in FIELDS}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def entry_hash(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(entry)).hexdigest()
