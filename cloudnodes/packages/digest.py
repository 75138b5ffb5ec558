"""Hashing beside the work: OpenSSL lets go of the interpreter while it hashes a large piece."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor


class StreamDigest:
    """SHA-256 of a stream, reckoned in a thread of its own while the stream is written."""

    def __init__(self, depth: int = 8) -> None:
        self._digest = hashlib.sha256()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="package-digest")
        self._waiting: deque[Future[None]] = deque()
        self._depth = depth

    def update(self, data: bytes) -> None:
        if len(self._waiting) >= self._depth:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._digest.update, data))

    def finish(self) -> str:
        while self._waiting:
            self._waiting.popleft().result()
        return self._digest.hexdigest()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
