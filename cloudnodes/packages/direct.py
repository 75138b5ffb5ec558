"""Large files past the page cache: with direct I/O the processor, which is busy with sums, hardly takes part in the writing.

Where the file system knows no direct I/O the same code goes through the cache.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import queue
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

BLOCK = 4096
BUFFER = 4 * 1024 * 1024
_BUFFERS = 4


class DirectFile:
    """A file that grows at its end. What was written is in the file after `settle`; only `os.fsync(fileno())` makes it
    outlive a power cut. Raises OSError also for an earlier piece."""

    def __init__(self, path: Path) -> None:
        self._plain = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = _open_direct(path, os.O_WRONLY)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="package-write")
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(memoryview(mmap.mmap(-1, BUFFER)))
        self._pending: deque[Future[None]] = deque()
        self._buffer = self._free.get()
        self._base = self._fill = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        os.close(self._file)
        os.close(self._plain)

    @property
    def size(self) -> int:
        return self._base + self._fill

    def fileno(self) -> int:
        return self._plain

    def start_at(self, size: int) -> None:
        """Keep so many bytes of what an earlier run has left, and go on behind them."""
        os.ftruncate(self._plain, size)
        self._base, self._fill = size - size % BLOCK, size % BLOCK
        self._buffer[: self._fill] = os.pread(self._plain, self._fill, self._base)

    def make_room(self, size: int) -> None:
        """Have room for so many bytes more at once. Raises OSError when the disk is full."""
        if size > 0:
            try:
                os.posix_fallocate(self._plain, self.size, size)
            except OSError as refused:
                if refused.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                    raise

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece = view[: BUFFER - self._fill]
            self._buffer[self._fill : self._fill + len(piece)] = piece
            self._fill += len(piece)
            view = view[len(piece) :]
            if self._fill == BUFFER:
                self._pending.append(self._pool.submit(self._put, self._buffer, self._base, BUFFER))
                self._base, self._fill = self._base + BUFFER, 0
                if len(self._pending) >= _BUFFERS - 1:
                    self._pending.popleft().result()
                self._buffer = self._free.get()

    def patch(self, offset: int, data: bytes) -> None:
        """Change bytes that were written before."""
        self._wait()
        below = data[: max(0, self._base - offset)]
        os.pwrite(self._plain, below, offset)
        at = offset + len(below) - self._base
        self._buffer[at : at + len(data) - len(below)] = data[len(below) :]

    def settle(self) -> None:
        """Everything is in the file when this returns, which is as long as what was written."""
        self._wait()
        whole = -(-self._fill // BLOCK) * BLOCK
        self._buffer[self._fill : whole] = bytes(whole - self._fill)
        self._write(self._buffer, self._base, whole)
        os.ftruncate(self._plain, self.size)
        done = self._fill - self._fill % BLOCK
        self._buffer[: self._fill - done] = bytes(self._buffer[done : self._fill])
        self._base, self._fill = self._base + done, self._fill - done

    def _wait(self) -> None:
        while self._pending:
            self._pending.popleft().result()

    def _put(self, buffer: memoryview, offset: int, size: int) -> None:
        try:
            self._write(buffer, offset, size)
        finally:
            self._free.put(buffer)

    def _write(self, buffer: memoryview, offset: int, size: int) -> None:
        done = 0
        while done < size:
            try:
                done += os.pwrite(self._file, buffer[done:size], offset + done)
            except OSError as refused:
                if refused.errno != errno.EINVAL or not _make_plain(self._file):
                    raise


def read_direct(path: Path) -> Iterator[bytes]:
    """The pieces of a file."""
    file = _open_direct(path, os.O_RDONLY)
    buffer = memoryview(mmap.mmap(-1, BUFFER))
    offset = 0
    try:
        while True:
            try:
                size = os.preadv(file, [buffer], offset)
            except OSError as refused:
                if refused.errno != errno.EINVAL or not _make_plain(file):
                    raise
                continue
            if not size:
                return
            offset += size
            yield bytes(buffer[:size])
    finally:
        os.close(file)


def _open_direct(path: Path, mode: int) -> int:
    try:
        return os.open(path, mode | getattr(os, "O_DIRECT", 0))
    except OSError as refused:
        if refused.errno != errno.EINVAL:
            raise
        return os.open(path, mode)


def _make_plain(file: int) -> bool:
    """Give up direct I/O for an open file; False when it had none."""
    flags, direct = fcntl.fcntl(file, fcntl.F_GETFL), getattr(os, "O_DIRECT", 0)
    if not flags & direct:
        return False
    fcntl.fcntl(file, fcntl.F_SETFL, flags & ~direct)
    return True
