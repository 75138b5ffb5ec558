"""Writing the ZIP of a package, in the one form that the installer accepts."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from cloudnodes.packages.digest import StreamDigest
from cloudnodes.packages.format import PackageProblem
from cloudnodes.packages.installer.archive import CHUNK, Entry, central_header, check_path, end_records, local_header
from cloudnodes.packages.spool import Spooled


class ArchiveWriter:
    """Writes `path` under another name and gives it its own in one step at the end; nothing is left of a failure."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._entries: list[Entry] = []
        self._digest = StreamDigest()
        self.size = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial.open("wb", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._digest.close()
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def add_bytes(self, path: str, data: bytes) -> None:
        self._begin(path, len(data), zlib.crc32(data))
        self._put(data)

    def add_file(self, path: str, found: Spooled, progress: Callable[[int], None]) -> None:
        """Copy a file of the spool; PackageProblem when it is not what it was."""
        self._begin(path, found.size, found.crc32)
        checksum = size = 0
        for piece in _pieces(found.path):
            checksum = zlib.crc32(piece, checksum)
            size += len(piece)
            self._put(piece)
            progress(len(piece))
        if (checksum, size) != (found.crc32, found.size):
            raise PackageProblem("spool_damaged", f"{found.path} was damaged after it had been saved.", "Build again.")

    def finish(self) -> str:
        """Write the directory, bring everything to the disk, and give the file its name; the SHA-256 of the whole."""
        directory = b"".join(central_header(e) for e in self._entries)
        self._put(directory + end_records(len(self._entries), len(directory), self.size))
        digest = self._digest.finish()
        os.fsync(self._file.fileno())
        self._partial.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return digest

    def _begin(self, path: str, size: int, crc32: int) -> None:
        entry = Entry(check_path(path), size, crc32, self.size)
        self._entries.append(entry)
        self._put(local_header(path, size, crc32))

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(data)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            yield piece
