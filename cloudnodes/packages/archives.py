"""Writing the ZIP of a package, in the one form that the installer accepts.

The file grows in the work folder of the build, layer after layer as they come from the engine, so that most packages are
written once and never copied. What a killed build has written whole is kept and gone on from.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from cloudnodes.packages.digest import StreamDigest
from cloudnodes.packages.format import PackageProblem
from cloudnodes.packages.installer.archive import CHUNK, Entry, central_header, check_path, end_records, local_header
from cloudnodes.packages.spool import Spooled, write_all

# How much may wait to be brought to the disk: at the end only this much is left to wait for.
_FLUSH = 64 * 1024 * 1024


class ArchiveWriter:
    """Writes `path` as `partial`, and gives it its own name in one step at the end."""

    def __init__(self, path: Path, partial: Path) -> None:
        self._path = path
        self._partial = partial
        self.entries: list[Entry] = []
        self.size = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(self._partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        self._follower = _Follower(self._partial)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._follower.close()
        self._file.close()

    def go_on(self, noted: Sequence[Entry]) -> None:
        """Keep the files that an earlier run has written whole, as far as they are there; drop what follows them."""
        length = os.fstat(self._file.fileno()).st_size
        for entry in noted:
            header = local_header(entry.path, entry.size, entry.crc32)
            if entry.offset != self.size or entry.data_offset + entry.size > length:
                break
            self.entries.append(entry)
            self._follower.follow(len(header))
            self._follower.follow(entry.size, entry)
            self.size = entry.data_offset + entry.size
        self._file.truncate(self.size)
        self._file.seek(self.size)

    def add_bytes(self, path: str, data: bytes) -> None:
        self.place(path, len(data), iter([data]))

    def add_file(self, path: str, found: Spooled, progress: Callable[[int], None]) -> None:
        """Copy a file of the spool; PackageProblem when it is not what it was."""
        crc32 = self.place(path, found.size, _counted(_pieces(found.path), progress))
        if crc32 != found.crc32:
            raise PackageProblem("spool_damaged", f"{found.path} was damaged after it had been saved.", "Build again.")

    def place(self, path: str, size: int, pieces: Iterator[bytes], sha256: str = "") -> int:
        """Write one file of `size` bytes; its CRC-32. PackageProblem when there are not as many, or when a digest is
        given and the content has another; the archive must be given up then."""
        offset = self.size
        header = local_header(check_path(path), size, 0)
        write_all(self._file, header)
        crc32 = written = 0
        digest = StreamDigest() if sha256 else None
        try:
            for piece in pieces:
                if digest is not None:
                    digest.update(piece)
                crc32 = zlib.crc32(piece, crc32)
                written += len(piece)
                write_all(self._file, piece)
            found = digest.finish() if digest is not None else ""
        finally:
            if digest is not None:
                digest.close()
        if (written, found) != (size, sha256):
            raise PackageProblem("bad_save", f"{path} is not what its name says.", "Build again.")
        os.pwrite(self._file.fileno(), local_header(path, size, crc32), offset)
        self.entries.append(Entry(path, size, crc32, offset))
        self._follower.follow(len(header) + size)
        self.size += len(header) + size
        return crc32

    def finish(self) -> str:
        """Write the directory, bring everything to the disk, and give the file its name; the SHA-256 of the whole.
        Raises Damaged when what is on the disk is not what was written."""
        directory = b"".join(central_header(e) for e in self.entries)
        closing = directory + end_records(len(self.entries), len(directory), self.size)
        write_all(self._file, closing)
        self._follower.follow(len(closing))
        self.size += len(closing)
        digest = self._follower.finish()
        os.fsync(self._file.fileno())
        self._partial.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return digest


class Damaged(PackageProblem):
    """A file of the archive has changed since it was written; `path` is the first."""

    def __init__(self, path: str) -> None:
        super().__init__("spool_damaged", f"{path} was damaged after it had been saved.", "Build again.")
        self.path = path


class _Part(NamedTuple):
    """So many bytes, and the file that they must be when an earlier run has written them."""

    length: int
    entry: Entry | None


class _Follower:
    """Reads the growing archive in a thread of its own, a file behind the writer: the SHA-256 of the whole, whether what an
    earlier run has left still has its CRC-32, and bringing it to the disk meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: queue.SimpleQueue[_Part | None] = queue.SimpleQueue()
        self._digest = hashlib.sha256()
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="package-follower", daemon=True)
        self._thread.start()

    def follow(self, length: int, entry: Entry | None = None) -> None:
        """The next so many bytes are as they will stay; with `entry`, they are to be that file."""
        self._parts.put(_Part(length, entry))

    def finish(self) -> str:
        """Wait for the end; the digest as hex. Raises Damaged, OSError."""
        self._parts.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._digest.hexdigest()

    def close(self) -> None:
        self._stopped.set()
        self._parts.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._path.open("rb", buffering=0) as file:
                while (part := self._parts.get()) is not None and not self._stopped.is_set():
                    self._read(file, part)
        except BaseException as failure:  # noqa: BLE001  raised by `finish`
            self._failure = failure

    def _read(self, file: FileIO, part: _Part) -> None:
        left, crc32, unflushed = part.length, 0, 0
        while left and not self._stopped.is_set():
            piece = file.read(min(CHUNK, left))
            if not piece:
                raise Damaged(part.entry.path if part.entry else self._path.name)
            self._digest.update(piece)
            if part.entry is not None:
                crc32 = zlib.crc32(piece, crc32)
            left -= len(piece)
            unflushed += len(piece)
            if unflushed >= _FLUSH:
                os.fdatasync(file.fileno())
                unflushed = 0
        if part.entry is not None and not left and crc32 != part.entry.crc32:
            raise Damaged(part.entry.path)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            yield piece


def _counted(pieces: Iterator[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        progress(len(piece))
