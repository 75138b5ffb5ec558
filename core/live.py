"""Live updates: after commit, tell the organization's open pages which ids of a topic changed.

Only ids travel. The page re-fetches its fragment through the ordinary, permission-checked view. Each change also gives
the topic a new version, by which views know whether what they made for one viewer is still right for the next
(`core.fragments`). A process sends what it gathered every quarter of a second; each socket then puts together what
came from all processes (`operations.consumers`), so that a burst costs every page two looks, not ten.
"""

from __future__ import annotations

import atexit
import json
import logging
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.core.cache import cache
from django.db import transaction

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.05
APART_SECONDS = 0.25
Message = dict[str, object]


def group_name(organization_id: UUID | str) -> str:
    return f"org.{organization_id}"


def publish(organization_id: UUID | str, topic: str, ids: Iterable[UUID | str] = ()) -> None:
    """Tell everyone looking at the organization which ids of a topic changed, once the transaction has committed.

    They hear `{"changes": {topic: [ids]}}`, with whatever else changed meanwhile.
    """
    message: Message = {"type": "changed", "topic": topic, "ids": sorted({str(i) for i in ids})}

    def committed() -> None:
        _renew(organization_id, topic)
        _send(group_name(organization_id), message)

    transaction.on_commit(committed)


def versions(organization_id: UUID | str, topics: Sequence[str]) -> tuple[str, ...]:
    """The present version of each topic; one that changes with every committed change."""
    names = [_version_key(organization_id, topic) for topic in topics]
    known = cache.get_many(names)
    return tuple(known.get(name, "") for name in names)


def _version_key(organization_id: UUID | str, topic: str) -> str:
    return f"live:{organization_id}:{topic}"


def _renew(organization_id: UUID | str, topic: str) -> None:
    cache.set(_version_key(organization_id, topic), secrets.token_hex(8), None)


@lru_cache(maxsize=256)
def merged(texts: tuple[str, ...]) -> str:
    """Several messages to a page as one; the same for every page of an organization that heard them together."""
    if len(texts) == 1:
        return texts[0]
    changes: dict[str, set[str]] = {}
    for text in texts:
        for topic, ids in json.loads(text)["changes"].items():
            changes.setdefault(topic, set()).update(ids)
    return json.dumps({"changes": {topic: sorted(ids) for topic, ids in changes.items()}})


def _send(group: str, message: Message) -> None:
    _notices.add(group, message)


def _deliver(waiting: dict[str, dict[str, set[str]]]) -> None:
    """Hand the gathered notices to the channel layer: one message a group, with all of its topics."""

    async def all_of_them() -> None:
        layer = get_channel_layer()
        for group, topics in waiting.items():
            changes = {topic: sorted(ids) for topic, ids in topics.items()}
            await layer.group_send(group, {"type": "changed", "text": json.dumps({"changes": changes})})

    try:
        async_to_sync(all_of_them)()
    except (OSError, RuntimeError) as lost:  # the pages poll anyway: a lost hint costs seconds, never truth
        log.warning("live_update_lost", extra={"groups": len(waiting), "reason": str(lost)})


class _Notices:
    """Notices that wait for the end of the window; one thread of this process sends them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[str, set[str]]] = {}
        self._any = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, group: str, message: Message) -> None:
        ids = message["ids"]
        assert isinstance(ids, list)
        with self._lock:
            self._waiting.setdefault(group, {}).setdefault(str(message["topic"]), set()).update(ids)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="curfew-live", daemon=True)
                self._thread.start()
        self._any.set()

    def flush(self) -> None:
        """Send what waits, now."""
        with self._lock:
            self._any.clear()
            waiting, self._waiting = self._waiting, {}
        if waiting:
            _deliver(waiting)

    def _run(self) -> None:
        sent = float("-inf")
        while True:
            self._any.wait()
            time.sleep(max(FIRST_SECONDS, sent + APART_SECONDS - time.monotonic()))
            sent = time.monotonic()
            self.flush()


_notices = _Notices()
atexit.register(_notices.flush)
