"""The agent's picture of the cluster: each record as its canonical text, nothing as an object.

10,000 pods take some ten megabytes this way. Pod specs are counted by their users and leave with the last one. What
changed since the last message was cut is kept as keys; their texts are read when the next message is cut.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.wire.codec import iso
from agent.wire.delta import canonical, digest_text, record_digest
from agent.wire.model import COLLECTIONS
from agent.wire.resources import Built, Resource

SPECS, EVENTS = "specs", "events"
MOST_EVENTS = 2_000
EVENT_LIFE = timedelta(hours=1)


@dataclass(slots=True)
class Cut:
    """Texts for one message: all records (`full`) or those that changed, and the digest afterwards."""

    full: bool
    set: dict[str, list[tuple[str, bytes]]]
    gone: dict[str, list[str]]
    digest: str

    def __len__(self) -> int:
        return sum(map(len, self.set.values())) + sum(map(len, self.gone.values()))


@dataclass(slots=True)
class Health:
    """How one source is doing; `since` is when the present state began."""

    state: str = "waiting"
    detail: str = ""
    since: float = field(default_factory=time.time)
    synced_at: float = 0.0
    relists: int = 0

    def wire(self) -> dict[str, str]:
        made = {"state": self.state, "since": iso(datetime.fromtimestamp(self.since, UTC))}
        if self.detail:
            made["detail"] = self.detail
        if self.synced_at:
            made["synced_at"] = iso(datetime.fromtimestamp(self.synced_at, UTC))
        return made


class Store:
    """Thread-safe. Writers are the watchers, the reader is the outbox."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tables: dict[str, dict[str, bytes]] = {name: {} for name in COLLECTIONS}
        self._owned: dict[str, set[str]] = {}
        self._spec_of: dict[str, dict[str, str]] = {}
        self._spec_users: Counter[str] = Counter()
        self._changed: dict[str, set[str]] = {}
        self._total = 0
        self.skipped = 0
        self._health: dict[str, Health] = {}

    def put(self, resource: Resource, obj: dict[str, Any]) -> str:
        """Take over an API object; returns its key, "" for an object that cannot be read (it is counted)."""
        try:
            built = resource.built(obj)
        except (KeyError, TypeError):
            with self._lock:
                self.skipped += 1
            return ""
        if built.record is None:
            self._drop(resource, built.key)
            return ""
        text = canonical(built.record)
        with self._lock:
            self._use_spec(resource.name, built)
            self._set(resource.collection, built.key, text)
            self._owned.setdefault(resource.name, set()).add(built.key)
        return built.key

    def remove(self, resource: Resource, obj: dict[str, Any]) -> None:
        """Forget an API object."""
        try:
            key = resource.built(obj).key
        except (KeyError, TypeError):
            return
        self._drop(resource, key)

    def retain(self, resource: Resource, seen: set[str]) -> None:
        """After a whole list: forget what this source told of before and the list no longer holds."""
        with self._lock:
            for key in self._owned.get(resource.name, set()) - seen:
                self._drop(resource, key)

    def _drop(self, resource: Resource, key: str) -> None:
        with self._lock:
            self._owned.get(resource.name, set()).discard(key)
            self._unset(resource.collection, key)
            self._release(self._spec_of.get(resource.name, {}).pop(key, ""))

    def _use_spec(self, source: str, built: Built) -> None:
        if built.spec is None:
            return
        users = self._spec_of.setdefault(source, {})
        old = users.get(built.key, "")
        if old == built.spec_key:
            return
        users[built.key] = built.spec_key
        self._spec_users[built.spec_key] += 1
        if self._spec_users[built.spec_key] == 1:
            self._set(SPECS, built.spec_key, canonical(built.spec))
        self._release(old)

    def _release(self, spec: str) -> None:
        if not spec:
            return
        self._spec_users[spec] -= 1
        if self._spec_users[spec] <= 0:
            del self._spec_users[spec]
            self._unset(SPECS, spec)

    def _set(self, collection: str, key: str, text: bytes) -> None:
        table = self._tables[collection]
        old = table.get(key)
        if old == text:
            return
        if old is not None:
            self._total -= record_digest(collection, key, old)
        self._total += record_digest(collection, key, text)
        table[key] = text
        self._changed.setdefault(collection, set()).add(key)

    def _unset(self, collection: str, key: str) -> None:
        old = self._tables[collection].pop(key, None)
        if old is not None:
            self._total -= record_digest(collection, key, old)
            self._changed.setdefault(collection, set()).add(key)

    def prune_events(self, resource: Resource, now: datetime) -> None:
        """Forget events older than an hour, and the oldest above the limit."""
        oldest = iso(now - EVENT_LIFE)
        with self._lock:
            stamped = sorted((_last_at(text), key) for key, text in self._tables[EVENTS].items())
            late = [key for stamp, key in stamped if stamp < oldest]
            for key in late + [key for _, key in stamped[len(late) :][:-MOST_EVENTS]]:
                self._drop(resource, key)

    def cut(self, *, full: bool) -> Cut:
        """Return what the next message says and start collecting changes anew."""
        with self._lock:
            changed, self._changed = self._changed, {}
            if full:
                texts = {name: list(table.items()) for name, table in self._tables.items() if table}
                return Cut(True, texts, {}, self.digest)
            put: dict[str, list[tuple[str, bytes]]] = {}
            gone: dict[str, list[str]] = {}
            for name, keys in changed.items():
                table = self._tables[name]
                there = [(key, table[key]) for key in keys if key in table]
                missing = [key for key in keys if key not in table]
                if there:
                    put[name] = there
                if missing:
                    gone[name] = missing
            return Cut(False, put, gone, self.digest)

    @property
    def digest(self) -> str:
        return digest_text(self._total)

    @property
    def has_changes(self) -> bool:
        with self._lock:
            return any(self._changed.values())

    def counts(self) -> dict[str, int]:
        """Return the number of records of each collection that has any."""
        with self._lock:
            return {name: len(table) for name, table in self._tables.items() if table}

    def report(self, source: str, state: str, detail: str = "") -> None:
        """Note how a source is doing."""
        with self._lock:
            health = self._health.setdefault(source, Health())
            if (health.state, health.detail) != (state, detail):
                health.state, health.detail, health.since = state, detail[:300], time.time()
            if state == "ok":
                health.synced_at = time.time()

    def relisted(self, source: str) -> None:
        """Count a whole list of a source."""
        with self._lock:
            self._health.setdefault(source, Health()).relists += 1

    def health(self, source: str) -> Health:
        with self._lock:
            return self._health.setdefault(source, Health())

    def sources(self) -> dict[str, dict[str, str]]:
        """Return the state of every source as the wire has it."""
        with self._lock:
            return {name: health.wire() for name, health in sorted(self._health.items())}

    def settled(self, wanted: Callable[[str], bool]) -> bool:
        """Return whether each source has answered at least once, well or badly."""
        with self._lock:
            return all(health.state != "waiting" for name, health in self._health.items() if wanted(name))


def _last_at(text: bytes) -> str:
    """Return the event's last time from its canonical text, which is where ISO times compare as texts."""
    _, found, rest = text.partition(b'"last_at":"')
    return rest.partition(b'"')[0].decode() if found else ""
