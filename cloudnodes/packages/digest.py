"""Sums beside the work: OpenSSL and zlib let go of the interpreter while they are at a large piece."""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Sums:
    """CRC-32 and, unless it is not wanted, SHA-256 of a stream, each reckoned in a thread of its own while the stream is
    read and written."""

    def __init__(self, *, sha256: bool = True, depth: int = 8) -> None:
        self._digest = hashlib.sha256()
        self._crc32 = 0
        self._lines = [_Line(self._check, depth, "package-crc32")]
        if sha256:
            self._lines.append(_Line(self._digest.update, depth, "package-sha256"))
        self.size = 0

    def update(self, data: bytes) -> None:
        self.size += len(data)
        for line in self._lines:
            line.put(data)

    def finish(self) -> tuple[str, int]:
        """SHA-256 as hex, and CRC-32."""
        for line in self._lines:
            line.wait()
        return self._digest.hexdigest(), self._crc32

    def close(self) -> None:
        for line in self._lines:
            line.close()

    def _check(self, data: bytes) -> None:
        self._crc32 = zlib.crc32(data, self._crc32)


class _Line:
    """Pieces that wait for one thread; whoever puts too many waits as well."""

    def __init__(self, work: Callable[[bytes], None], depth: int, name: str) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._waiting: deque[Future[None]] = deque()
        self._depth = depth

    def put(self, data: bytes) -> None:
        if len(self._waiting) >= self._depth:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._work, data))

    def wait(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
