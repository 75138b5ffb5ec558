"""Records compared, changed and summed up.

The digest of a set of records is the sum, modulo 2^128, of a hash of each record: it does not depend on order and is
kept up to date by subtracting the old record and adding the new one. It finds divergence, not forgery; forgery is the
token's and TLS's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

_BYTES = 16
_MODULUS = 1 << (8 * _BYTES)
Table = dict[str, dict[str, Any]]
_dump = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def canonical(record: Any) -> bytes:
    """Return the one JSON text of a record: sorted keys, no blanks, UTF-8 (lone surrogates replaced)."""
    return _dump(record).encode("utf-8", "replace")


def record_digest(collection: str, key: str, text: bytes) -> int:
    """Return the number that one record adds to the digest of its snapshot."""
    name = f"{collection}\0{key}\0".encode("utf-8", "replace")
    return int.from_bytes(blake2b(name + text, digest_size=_BYTES).digest(), "big")


def digest_text(total: int) -> str:
    """Return a digest as the wire carries it: 32 hexadecimal digits."""
    return f"{total % _MODULUS:0{_BYTES * 2}x}"


def digest_of(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of whole records, computed from nothing."""
    return digest_text(
        sum(record_digest(c, key, canonical(r)) for c, table in records.items() for key, r in table.items())
    )


@dataclass(slots=True)
class Changes:
    """What a delta does: records set (new or altered) and keys gone, by collection."""

    set: dict[str, Table] = field(default_factory=dict)
    gone: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.set.values())) + sum(map(len, self.gone.values()))

    def touched(self, collection: str) -> Iterator[str]:
        """Yield the keys of a collection that the delta sets or removes."""
        yield from self.set.get(collection, ())
        yield from self.gone.get(collection, ())


@dataclass(slots=True)
class State:
    """Records with their digest, as the platform holds them between messages."""

    records: dict[str, Table] = field(default_factory=dict)
    total: int = 0

    @classmethod
    def of(cls, records: dict[str, Table]) -> State:
        """Take over whole records."""
        return cls(records, int(digest_of(records), 16))

    @property
    def digest(self) -> str:
        return digest_text(self.total)

    def apply(self, changes: Changes) -> None:
        """Carry out a delta. What is gone already may be gone again."""
        for collection, table in changes.set.items():
            held = self.records.setdefault(collection, {})
            for key, record in table.items():
                self._forget(collection, held, key)
                held[key] = record
                self.total += record_digest(collection, key, canonical(record))
        for collection, keys in changes.gone.items():
            held = self.records.get(collection, {})
            for key in keys:
                self._forget(collection, held, key)
            if not held:
                self.records.pop(collection, None)
        self.total %= _MODULUS

    def _forget(self, collection: str, held: Table, key: str) -> None:
        old = held.pop(key, None)
        if old is not None:
            self.total -= record_digest(collection, key, canonical(old))


def diff(old: Mapping[str, Table], new: Mapping[str, Table]) -> Changes:
    """Return the delta that turns the old records into the new ones."""
    changes = Changes()
    for collection in {**old, **new}:
        before, after = old.get(collection, {}), new.get(collection, {})
        altered = {key: record for key, record in after.items() if before.get(key) != record}
        gone = [key for key in before if key not in after]
        if altered:
            changes.set[collection] = altered
        if gone:
            changes.gone[collection] = gone
    return changes
