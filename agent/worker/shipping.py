"""Brings a container's log to the platform: each stream by offset, once, to its last byte."""

from __future__ import annotations

import gzip
import logging
import threading
import time
from collections.abc import Callable, Iterator

from agent.transport import Backoff, Transport, Unreachable
from agent.worker.frames import Demultiplexer

log = logging.getLogger("curfew.agent")
LARGEST = 1024 * 1024
OFTEN = 0.25
HELD = 1.0  # seconds that the beginning of a line waits for its end, so that lines stay whole where they can
LONGEST_HELD = 64 * 1024
BUFFER = 8 * 1024 * 1024  # how far reading may run ahead of sending: then Docker's own file holds the rest


class Stale(Exception):
    """The platform gave the task to another worker, or it has ended there."""


class _Buffer:
    """Pieces between the thread that reads and the one that sends; the reader waits while it is full."""

    def __init__(self) -> None:
        self._pieces: list[tuple[str, bytearray]] = []
        self._size = 0
        self._closed = False
        self._held: dict[str, float] = {}  # since when a stream's unfinished line waits
        self._changed = threading.Condition()

    def put(self, stream: str, content: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._size < BUFFER or self._closed)
            self._size += len(content)
            content = self._complete(stream, content)
            if not content:
                self._changed.notify_all()
                return
            if self._pieces and self._pieces[-1][0] == stream:
                self._pieces[-1][1].extend(content)
            else:
                self._pieces.append((stream, bytearray(content)))
            self._changed.notify_all()

    def _complete(self, stream: str, content: bytes) -> bytes:
        """Give the line that waits what belongs to it; what is left of the content."""
        waiting = next((piece for name, piece in self._pieces if name == stream), None)
        if waiting is None or stream not in self._held:
            return content
        end = content.find(b"\n") + 1
        if end:
            del self._held[stream]
        else:
            end = len(content)
        waiting.extend(content[:end])
        return content[end:]

    def close(self) -> None:
        """Nothing more comes, or nobody takes any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> list[tuple[str, bytearray]] | None:
        """What has come together in a short while, in its order; None when nothing more comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._closed)
            if not self._pieces:
                return None
            if not self._closed:
                self._changed.wait_for(lambda: self._size >= LARGEST or self._closed, timeout=OFTEN)
            taken, self._pieces = self._pieces, []
            if not self._closed:
                self._hold(taken)
            self._size = sum(len(content) for _, content in self._pieces)
            self._changed.notify_all()
            return [(stream, content) for stream, content in taken if content]

    def _hold(self, taken: list[tuple[str, bytearray]]) -> None:
        """Put back the unfinished last line of each stream, for a while."""
        now = time.monotonic()
        for stream in {name for name, _ in taken}:
            content = next(content for name, content in reversed(taken) if name == stream)
            rest = content[content.rfind(b"\n") + 1 :]
            whole = len(rest) < len(content)
            since = now if whole else self._held.get(stream, now)
            if not rest or len(rest) > LONGEST_HELD or now - since >= HELD:
                self._held.pop(stream, None)
                continue
            self._held[stream] = since
            del content[len(content) - len(rest) :]
            self._pieces.append((stream, rest))


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
            while (pieces := buffer.take()) is not None:
                for stream, content in pieces:
                    for at in range(0, len(content), LARGEST):
                        self._send_piece(stream, bytes(content[at : at + LARGEST]))
        finally:
            buffer.close()
        if broken:
            raise broken[0]

    def _read(self, buffer: _Buffer, *, follow: bool) -> None:
        begun = dict(self.sent)  # what the platform had when this reading began
        seen = {"stdout": 0, "stderr": 0}
        frames = Demultiplexer()
        for data in self.read(follow):
            for stream, piece in frames.feed(data):
                start = seen[stream]
                seen[stream] += len(piece)
                if seen[stream] > begun[stream]:
                    buffer.put(stream, piece[max(0, begun[stream] - start) :])
            if follow and self.stopped.is_set():
                return

    def _send_piece(self, stream: str, piece: bytes) -> None:
        backoff, start = Backoff(0.2, 10.0), self.sent[stream]
        end = start + len(piece)
        while self.sent[stream] < end:
            rest = piece[self.sent[stream] - start :]
            path = f"/api/agent/tasks/{self.task}/logs?stream={stream}&offset={self.sent[stream]}&fence={self.fence}"
            packed = len(rest) > 2048
            body = gzip.compress(rest, 1) if packed else rest
            try:
                reply = self.transport.request(
                    "POST", path, body=body, packed=packed, headers={"Content-Type": "application/octet-stream"}
                )
            except Unreachable as lost:
                self._wait(backoff.failed(), str(lost))
                continue
            if reply.status == 202:
                self.sent[stream] = int(reply.json()["offset"])
                backoff.succeeded()
            elif reply.status == 416:
                true = int(reply.json()["offset"])
                if true < start:
                    raise Stale("the platform lost a part of the log")
                self.sent[stream] = true
            elif reply.status in (401, 403, 404, 409):
                raise Stale(f"refused with {reply.status}")
            else:
                self._wait(backoff.failed(reply.retry_after), f"answer {reply.status}")

    def _wait(self, seconds: float, why: str) -> None:
        log.info("the log of %s waits %.1f s: %s", self.task, seconds, why)
        if self.stopped.wait(seconds):
            time.sleep(min(seconds, 0.2))
