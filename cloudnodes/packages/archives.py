"""Writing the ZIP of a package, in the one form that the installer accepts.

The file grows in the work folder of the build, layer after layer as they come from the engine, so that most packages are
written once and never copied, and every byte is hashed once. What a killed build has written whole is kept and gone on from.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from cloudnodes.packages.digest import Sums
from cloudnodes.packages.direct import DirectFile, read_direct
from cloudnodes.packages.format import PackageProblem
from cloudnodes.packages.installer.archive import CHUNK, Entry, central_header, check_path, end_records, local_header
from cloudnodes.packages.installer.contents import read_ahead
from cloudnodes.packages.spool import Spooled


class ArchiveWriter:
    """Writes `path` as `partial`, and gives it its own name in one step at the end."""

    def __init__(self, path: Path, partial: Path) -> None:
        self._path = path
        self._partial = partial
        self._earlier: _Earlier | None = None
        self.entries: list[Entry] = []
        self.size = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = DirectFile(self._partial)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._earlier is not None:
            self._earlier.close()
        self._file.__exit__(kind, error, trace)

    def go_on(self, noted: Sequence[Entry]) -> None:
        """Keep the files that an earlier run has written whole, as far as they are there; drop what follows them. Whether
        they are still what they were is known at the end: `finish` raises Damaged."""
        length = os.fstat(self._file.fileno()).st_size
        for entry in noted:
            if entry.offset != self.size or entry.data_offset + entry.size > length:
                break
            self._add(entry)
        self._file.start_at(self.size)
        if self.entries:
            self._earlier = _Earlier(self._partial, list(self.entries))

    def add_bytes(self, path: str, data: bytes) -> None:
        header = local_header(check_path(path), len(data), zlib.crc32(data))
        self._file.write(header + data)
        self._add(Entry(path, len(data), zlib.crc32(data), self.size))

    def add_file(self, path: str, found: Spooled, progress: Callable[[int], None]) -> None:
        """Copy a file of the spool; PackageProblem when it is not what it was."""
        with closing(read_ahead(read_direct(found.path))) as pieces:
            _, crc32 = self._stream(path, found.size, _counted(pieces, progress), Sums(sha256=False))
        if crc32 != found.crc32:
            raise PackageProblem("spool_damaged", f"{found.path} was damaged after it had been saved.", "Build again.")
        self._close(path, found.size, crc32)

    def place(self, path: str, size: int, pieces: Iterator[bytes], sha256: str) -> None:
        """Write one file as it comes; PackageProblem when it is not `size` bytes with that digest, and the archive must be
        given up then."""
        found, crc32 = self._stream(path, size, pieces, Sums())
        if found != sha256:
            raise PackageProblem("bad_save", f"{path} is not what its name says.", "Build again.")
        self._close(path, size, crc32)

    def _stream(self, path: str, size: int, pieces: Iterator[bytes], sums: Sums) -> tuple[str, int]:
        header = local_header(check_path(path), size, 0)
        self._file.make_room(len(header) + size)
        self._file.write(header)
        try:
            for piece in pieces:
                sums.update(piece)
                self._file.write(piece)
            found = sums.finish()
        finally:
            sums.close()
        if sums.size != size:
            raise PackageProblem("bad_save", f"{path} is not what its name says.", "Build again.")
        return found

    def _close(self, path: str, size: int, crc32: int) -> None:
        self._file.patch(self.size, local_header(path, size, crc32))
        self._file.settle()
        self._add(Entry(path, size, crc32, self.size))

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.size = entry.data_offset + entry.size

    def finish(self) -> None:
        """Write the directory, bring everything to the disk, and give the file its name. Raises Damaged when what an
        earlier run has left is not what it wrote."""
        directory = b"".join(central_header(e) for e in self.entries)
        closing = directory + end_records(len(self.entries), len(directory), self.size)
        self._file.write(closing)
        self._file.settle()
        self.size += len(closing)
        if self._earlier is not None:
            self._earlier.finish()
        os.fsync(self._file.fileno())
        self._partial.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Damaged(PackageProblem):
    """A file of the archive has changed since it was written; `path` is the first."""

    def __init__(self, path: str) -> None:
        super().__init__("spool_damaged", f"{path} was damaged after it had been saved.", "Build again.")
        self.path = path


class _Earlier:
    """Reads what an earlier run has left, in a thread of its own while the build goes on: does it still have its CRC-32?"""

    def __init__(self, path: Path, entries: Sequence[Entry]) -> None:
        self._path = path
        self._entries = entries
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="package-earlier", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the end. Raises Damaged, OSError."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for entry in self._entries:
                self._check(entry)
        except BaseException as failure:  # noqa: BLE001  raised by `finish`
            self._failure = failure

    def _check(self, entry: Entry) -> None:
        with self._path.open("rb", buffering=0) as file:
            header = local_header(entry.path, entry.size, entry.crc32)
            file.seek(entry.offset)
            right, left, crc32 = file.read(len(header)) == header, entry.size, 0
            while left and not self._stopped.is_set():
                piece = file.read(min(CHUNK, left))
                if not piece:
                    raise Damaged(entry.path)
                crc32 = zlib.crc32(piece, crc32)
                left -= len(piece)
        if not left and (crc32 != entry.crc32 or not right):
            raise Damaged(entry.path)


def _counted(pieces: Iterator[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        progress(len(piece))
