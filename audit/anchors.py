"""Anchors: signed checkpoints kept outside the database, so that a chain that was cut or removed does not go unseen.

One file per organization in `CURFEW_AUDIT_ANCHORS` (default `<data>/audit-anchors`), a JSON line per checkpoint, only
ever appended to. Put the folder on a disk that the database's administrators cannot write to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from django.conf import settings

from audit import signing


@dataclass(frozen=True, slots=True)
class Anchor:
    """One signed checkpoint as it stands outside: times as ISO 8601 UTC with milliseconds."""

    organization: str
    line: int
    hash: str
    at: str
    key_id: str
    signature: str

    def is_signed(self) -> bool:
        """Whether a key of this installation made the signature."""
        message = signing.statement("checkpoint", self.organization, self.line, self.hash, self.at)
        return signing.ring().is_signed(message, self.key_id, self.signature)


def folder() -> Path:
    return Path(settings.CURFEW_AUDIT_ANCHORS or Path(settings.CURFEW_DATA) / "audit-anchors")


def append(anchor: Anchor) -> None:
    """Add the checkpoint to the file of its organization, on disk when this returns. Raises OSError."""
    path = folder() / f"{UUID(anchor.organization)}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, (json.dumps(asdict(anchor), sort_keys=True) + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read(organization_id: UUID) -> tuple[list[Anchor], int]:
    """The anchors of an organization, oldest first, and the number of lines that are none (unsigned, damaged)."""
    path = folder() / f"{organization_id}.jsonl"
    found: list[Anchor] = []
    bad = 0
    for line in _lines(path):
        try:
            anchor = Anchor(**json.loads(line))
        except (ValueError, TypeError):
            bad += 1
            continue
        if anchor.organization == str(organization_id) and anchor.is_signed():
            found.append(anchor)
        else:
            bad += 1
    return found, bad


def organizations() -> set[UUID]:
    """Ids of the organizations that have anchors."""
    return {UUID(path.stem) for path in folder().glob("*.jsonl")}


def _lines(path: Path) -> Iterator[str]:
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from (line for line in file if line.strip())
