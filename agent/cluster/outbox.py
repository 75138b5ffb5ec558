"""What is to be sent, and what became of it.

There is at most one message on its way. It is repeated byte for byte until the platform has judged it, so a lost
answer does no harm; when it has grown old, or the platform lost its footing, a full snapshot takes its place. Only
usage samples can be lost: the state is always there to be sent anew, samples wait in a bounded buffer.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent import __version__
from agent.cluster.store import Cut, Store
from agent.transport import Bounded
from agent.wire.codec import iso
from agent.wire.model import FORMAT

STALE_SECONDS = 300.0
MOST_SAMPLES = 60
SAMPLE_BYTES = 8 * 1024 * 1024
SAMPLES_A_MESSAGE = 10
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Sample:
    number: int
    packed: bytes

    def text(self) -> bytes:
        """Return the sample as a JSON object."""
        return b'{"n":%d,%s}' % (self.number, zlib.decompress(self.packed))


class Samples:
    """Usage samples that wait for the platform; the oldest are dropped when there are too many."""

    def __init__(self, *, most: int = MOST_SAMPLES, size: int = SAMPLE_BYTES) -> None:
        self._lock = threading.Lock()
        self._queue: Bounded[Sample] = Bounded(items=most, size=size)
        self._number = 0

    def push(self, packed: bytes) -> None:
        """Take a packed sample and give it the next number of this session."""
        with self._lock:
            self._number += 1
            self._queue.push(Sample(self._number, packed), len(packed))

    def first(self, count: int) -> list[Sample]:
        """Return the oldest samples."""
        with self._lock:
            return list(self._queue)[:count]

    def taken(self, up_to: int) -> None:
        """The platform has these."""
        with self._lock:
            self._queue.discard(lambda sample: sample.number <= up_to)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def dropped(self) -> int:
        return self._queue.dropped


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message, packed, with what the platform's word on it will mean."""

    sequence: int
    full: bool
    body: bytes
    digest: str
    last_sample: int
    records: int
    made_at: float


class Outbox:
    """Cuts messages from the store. Belongs to the sender's thread; `ask_full` and the figures may be used by others."""

    def __init__(
        self,
        store: Store,
        samples: Samples,
        head: Callable[[], dict[str, Any]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._samples, self._head, self._clock = store, samples, head, clock
        self.session = uuid.uuid4().hex
        self.sequence = 0
        self.acknowledged = (0, "")
        self.pending: Parcel | None = None
        self._full = True
        self._head_sent = ""

    def ask_full(self) -> None:
        """Let the next message be a full snapshot."""
        self._full = True

    def next(self) -> Parcel | None:
        """Return the message on its way, or cut a new one; None when there is nothing to say."""
        if self.pending is not None and (self._full or self._clock() - self.pending.made_at > STALE_SECONDS):
            self.pending = None
            self._full = True
        if self.pending is None:
            head = self._head()
            samples = self._samples.first(SAMPLES_A_MESSAGE)
            if self._full or samples or self._store.has_changes or _dump(head.get("cluster")) != self._head_sent:
                self.pending = self._cut(head, samples)
        return self.pending

    def _cut(self, head: dict[str, Any], samples: list[Sample]) -> Parcel:
        full, self._full = self._full, False
        cut = self._store.cut(full=full)
        self.sequence += 1
        self._head_sent = _dump(head.get("cluster"))
        header: dict[str, Any] = {
            "format": FORMAT,
            "kind": "full" if full else "delta",
            "session": self.session,
            "sequence": self.sequence,
            "digest": cut.digest,
            "at": iso(datetime.now(UTC)),
            "agent": {"version": __version__, **head.pop("agent", {})},
            **head,
        }
        if not full:
            header["base"] = {"sequence": self.acknowledged[0], "digest": self.acknowledged[1]}
        return Parcel(
            sequence=self.sequence,
            full=full,
            body=pack_message(header, cut, (sample.text() for sample in samples)),
            digest=cut.digest,
            last_sample=samples[-1].number if samples else 0,
            records=len(cut),
            made_at=self._clock(),
        )

    def accepted(self) -> None:
        """The platform has the message on its way."""
        if self.pending is not None:
            self.acknowledged = (self.pending.sequence, self.pending.digest)
            self._samples.taken(self.pending.last_sample)
            self.pending = None

    def refused(self) -> None:
        """The platform cannot use it: a full snapshot takes its place, with the same samples."""
        self.pending = None
        self._full = True

    def without_samples(self) -> None:
        """It was too large: let the samples in it go and send the rest again."""
        if self.pending is not None:
            self._samples.taken(self.pending.last_sample)
        self.refused()


def pack_message(header: dict[str, Any], cut: Cut, samples: Iterable[bytes]) -> bytes:
    """Return the gzip body, made piece by piece; `agent.wire.message.decode` reads it."""
    packer = zlib.compressobj(5, wbits=31)
    parts = [packer.compress(_dump(header)[:-1].encode("utf-8", "replace"))]

    def write(piece: bytes) -> None:
        parts.append(packer.compress(piece))

    write(b',"records":{' if cut.full else b',"set":{')
    for place, (collection, table) in enumerate(cut.set.items()):
        write(b'%s"%s":{' % (b"," if place else b"", collection.encode()))
        for row, (key, record) in enumerate(table):
            write(b"%s%s:%s" % (b"," if row else b"", _dump(key).encode("utf-8", "replace"), record))
        write(b"}")
    write(b"}")
    if not cut.full:
        write(b',"gone":%s' % _dump(cut.gone).encode("utf-8", "replace"))
    write(b',"usage":[')
    for place, sample in enumerate(samples):
        write((b"," if place else b"") + sample)
    write(b"]}")
    parts.append(packer.flush())
    return b"".join(parts)
