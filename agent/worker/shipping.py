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
BUFFER = 8 * 1024 * 1024  # how far reading may run ahead of sending: then Docker's own file holds the rest


class Stale(Exception):
    """The platform gave the task to another worker, or it has ended there."""


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
        seen = {"stdout": 0, "stderr": 0}
        waiting: list[tuple[str, bytearray]] = []
        frames, size, last = Demultiplexer(), 0, time.monotonic()
        for data in self.read(follow):
            for stream, piece in frames.feed(data):
                start = seen[stream]
                seen[stream] += len(piece)
                fresh = piece[max(0, self.sent[stream] - start) :] if seen[stream] > self.sent[stream] else b""
                if fresh:
                    size += len(fresh)
                    if waiting and waiting[-1][0] == stream:
                        waiting[-1][1].extend(fresh)
                    else:
                        waiting.append((stream, bytearray(fresh)))
            now = time.monotonic()
            if size >= LARGEST or (size and now - last >= OFTEN) or self.stopped.is_set():
                self._send(waiting, seen)
                waiting, size, last = [], 0, now
            if self.stopped.is_set() and follow:
                return
        self._send(waiting, seen)

    def _send(self, waiting: list[tuple[str, bytearray]], seen: dict[str, int]) -> None:
        """Send pieces in their order; each begins where the platform's stream ends."""
        del seen
        for stream, content in waiting:
            at = 0
            while at < len(content):
                piece = bytes(content[at : at + LARGEST])
                self._send_piece(stream, piece)
                at += len(piece)

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
