"""Brings a container's log to the platform: each stream by offset, once, to its last byte."""

from __future__ import annotations

import gzip
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from agent.transport import Backoff, Transport, Unreachable
from agent.worker.frames import Demultiplexer, joined

log = logging.getLogger("curfew.agent")
FRAMED = {"Content-Type": "application/vnd.docker.multiplexed-stream"}
LARGEST = 1024 * 1024
MOST_RUNS = 256  # in one request
MANY, CLOSE = 64, 0.01
OFTEN = 0.25
HELD = 1.0  # seconds that the beginning of a line waits for its end, so that lines stay whole where they can
LONGEST_HELD = 64 * 1024
BUFFER = 8 * 1024 * 1024  # how far reading may run ahead of sending: then Docker's own file holds the rest
Content = TypeVar("Content", bytes, bytearray)


class Stale(Exception):
    """The platform gave the task to another worker, or it has ended there."""


class _Run:
    """Neighbouring bytes of one stream."""

    __slots__ = ("began", "content", "stream")

    def __init__(self, stream: str, content: bytes | bytearray, began: float) -> None:
        self.stream, self.content, self.began = stream, bytearray(content), began


class _Buffer:
    """Runs between the thread that reads and the one that sends; the reader waits while it is full.

    The order between the streams is Docker's while there are few runs; of many, those within a hundredth of a second
    are put together, so that two streams in quick turns cost no more than one.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._size = 0
        self._closed = False
        self._held: dict[str, float] = {}  # since when a stream's unfinished line waits
        self._changed = threading.Condition()

    def put(self, pieces: Iterable[tuple[str, bytes]]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._size < BUFFER or self._closed)
            now = time.monotonic()
            for stream, content in pieces:
                self._size += len(content)
                self._add(stream, self._complete(stream, content) if self._held else content, now)
            self._changed.notify_all()

    def _add(self, stream: str, content: bytes, now: float) -> None:
        runs = self._runs
        if not content:
            return
        if runs and runs[-1].stream == stream:
            runs[-1].content += content
        elif len(runs) > MANY and runs[-2].stream == stream and now - runs[-2].began < CLOSE:
            runs[-2].content += content
        else:
            runs.append(_Run(stream, content, now))

    def _complete(self, stream: str, content: bytes) -> bytes:
        """Give the line that waits what belongs to it; what is left of the content."""
        waiting = next((run for run in self._runs if run.stream == stream), None)
        if waiting is None or stream not in self._held:
            return content
        end = content.find(b"\n") + 1
        if end:
            del self._held[stream]
        else:
            end = len(content)
        waiting.content += content[:end]
        return content[end:]

    def close(self) -> None:
        """Nothing more comes, or nobody takes any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> list[tuple[str, bytearray]] | None:
        """What has come together in a short while, in its order; None when nothing more comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._runs or self._closed)
            if not self._runs:
                return None
            if not self._closed:
                self._changed.wait_for(lambda: self._size >= LARGEST or self._closed, timeout=OFTEN)
            taken, self._runs = self._runs, []
            if not self._closed:
                self._hold(taken)
            self._size = sum(len(run.content) for run in self._runs)
            self._changed.notify_all()
            return [(run.stream, run.content) for run in taken if run.content]

    def _hold(self, taken: list[_Run]) -> None:
        """Put back the unfinished last line of each stream, for a while."""
        now = time.monotonic()
        for stream in {run.stream for run in taken}:
            content = next(run.content for run in reversed(taken) if run.stream == stream)
            rest = content[content.rfind(b"\n") + 1 :]
            whole = len(rest) < len(content)
            since = now if whole else self._held.get(stream, now)
            if not rest or len(rest) > LONGEST_HELD or now - since >= HELD:
                self._held.pop(stream, None)
                continue
            self._held[stream] = since
            del content[len(content) - len(rest) :]
            self._runs.append(_Run(stream, rest, now))


def _batches(runs: Iterable[tuple[str, bytearray]]) -> Iterator[list[tuple[str, bytearray]]]:
    """What goes in one request: neither too many bytes nor too many runs."""
    batch: list[tuple[str, bytearray]] = []
    size = 0
    for stream, content in runs:
        at = 0
        while at < len(content):
            part = content[at : at + LARGEST - size]
            batch.append((stream, part))
            at, size = at + len(part), size + len(part)
            if size == LARGEST or len(batch) == MOST_RUNS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _fresh(
    pieces: Iterable[tuple[str, Content]], seen: dict[str, int], begun: Mapping[str, int]
) -> list[tuple[str, Content]]:
    """The pieces without what lies before `begun` in each stream; `seen` is where they start, and goes on with them."""
    kept = []
    for stream, piece in pieces:
        start = seen[stream]
        seen[stream] += len(piece)
        if seen[stream] > begun[stream]:
            kept.append((stream, piece[max(0, begun[stream] - start) :]))
    return kept


class Shipper:
    """One attempt's log. `read(follow)` gives the framed log from its first byte.

    The platform's offsets are the truth: what it has is passed over, whoever was killed in between.
    """

    def __init__(
        self, transport: Transport, task: str, fence: int, read: Callable[[bool], Iterator[bytes]], sent: dict[str, int]
    ) -> None:
        self.transport, self.task, self.fence, self.read = transport, task, fence, read
        self.sent = {"stdout": sent.get("stdout", 0), "stderr": sent.get("stderr", 0)}
        self.stopped = threading.Event()

    def follow(self) -> None:
        """Ship until the container ends or `stopped` is set. Raises Stale; returns when the log was cut off."""
        self._ship(follow=True)

    def finish(self) -> None:
        """Ship what is left after the end: a following reader can miss a last piece without a newline."""
        self._ship(follow=False)

    def _ship(self, *, follow: bool) -> None:
        buffer, broken = _Buffer(), []

        def read() -> None:
            try:
                self._read(buffer, follow=follow)
            except Exception as cut:  # noqa: BLE001 - handed to the thread that ships
                broken.append(cut)
            finally:
                buffer.close()

        reader = threading.Thread(target=read, name=f"read-{self.task[:8]}", daemon=True)
        reader.start()
        try:
            while (runs := buffer.take()) is not None:
                for batch in _batches(runs):
                    self._send(batch)
        finally:
            buffer.close()
        if broken:
            raise broken[0]

    def _read(self, buffer: _Buffer, *, follow: bool) -> None:
        begun = dict(self.sent)  # what the platform had when this reading began
        seen = {"stdout": 0, "stderr": 0}
        frames = Demultiplexer()
        for data in self.read(follow):
            pieces = frames.feed(data)
            if seen["stdout"] < begun["stdout"] or seen["stderr"] < begun["stderr"]:
                pieces = _fresh(pieces, seen, begun)
            if pieces:
                buffer.put(pieces)
            if follow and self.stopped.is_set():
                return

    def _send(self, batch: list[tuple[str, bytearray]]) -> None:
        backoff, start = Backoff(0.2, 10.0), dict(self.sent)
        end = {
            name: at + sum(len(content) for stream, content in batch if stream == name) for name, at in start.items()
        }
        while any(self.sent[name] < to for name, to in end.items()):
            body = joined(_fresh(batch, dict(start), self.sent))
            offsets = "&".join(f"{name}={at}" for name, at in self.sent.items())
            packed = len(body) > 2048
            try:
                reply = self.transport.request(
                    "POST", f"/api/agent/tasks/{self.task}/logs?fence={self.fence}&{offsets}",
                    body=gzip.compress(body, 1) if packed else body, packed=packed, headers=FRAMED,
                )  # fmt: skip
            except Unreachable as lost:
                self._wait(backoff.failed(), str(lost))
                continue
            if reply.status in (202, 416):
                self.sent = {name: int(reply.json()["offsets"][name]) for name in start}
                if any(self.sent[name] < at for name, at in start.items()):
                    raise Stale("the platform lost a part of the log")
                backoff.succeeded()
            elif reply.status in (401, 403, 404, 409):
                raise Stale(f"refused with {reply.status}")
            else:
                self._wait(backoff.failed(reply.retry_after), f"answer {reply.status}")

    def _wait(self, seconds: float, why: str) -> None:
        log.info("the log of %s waits %.1f s: %s", self.task, seconds, why)
        if self.stopped.wait(seconds):
            time.sleep(min(seconds, 0.2))
