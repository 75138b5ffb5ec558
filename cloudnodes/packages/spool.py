"""The work folder of a build: finished layers and configurations, named by their digests.

A file gets its name by a rename after its content was hashed, so whatever bears a digest is whole: a build that was killed
goes on with what is there. One build at a time: the folder is locked by a lock that dies with its process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from cloudnodes.packages.digest import Sums
from cloudnodes.packages.direct import DirectFile
from cloudnodes.packages.format import PackageProblem


@dataclass(frozen=True, slots=True)
class Spooled:
    """A file of the spool; `crc32` is the checksum that a ZIP wants."""

    path: Path
    size: int
    sha256: str
    crc32: int


class Spool:
    """`with Spool(folder) as spool:` creates and locks the folder; raises PackageProblem when another build has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise PackageProblem(
                "busy", f"Another build is writing {self.folder}.", "Wait until it has ended."
            ) from None
        for stale in self.folder.glob("incoming-*"):
            stale.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def add(self, pieces: Iterator[bytes], size: int = 0) -> Spooled:
        """Write the pieces to a file named by its digest; `size` is how many bytes they may be."""
        incoming = self.folder / f"incoming-{os.getpid()}"
        sums = Sums()
        try:
            incoming.unlink(missing_ok=True)
            with DirectFile(incoming) as file:
                file.make_room(size)
                for piece in pieces:
                    sums.update(piece)
                    file.write(piece)
                file.settle()
            sha256, crc32 = sums.finish()
        finally:
            sums.close()
        found = Spooled(self.folder / f"blob-{sha256}", sums.size, sha256, crc32)
        self._note(found)
        incoming.replace(found.path)
        return found

    def get(self, digest: str) -> Spooled | None:
        """A finished file, None when there is none or its size is not what was noted."""
        path = self.folder / f"blob-{digest}"
        noted = self.read(f"note-{digest}")
        if noted is None or not path.is_file() or path.stat().st_size != noted["size"]:
            return None
        return Spooled(path, noted["size"], digest, noted["crc32"])

    def _note(self, found: Spooled) -> None:
        self.write(f"note-{found.sha256}", {"size": found.size, "crc32": found.crc32})

    def write(self, name: str, facts: Any) -> None:
        """Keep a small fact, whole or not at all."""
        fresh = self.folder / f"incoming-fact-{os.getpid()}"
        fresh.write_text(json.dumps(facts), encoding="utf-8")
        fresh.replace(self.folder / name)

    def read(self, name: str) -> Any:
        """A fact that was kept, None when there is none."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def forget(self, digest: str) -> None:
        """Drop a file whose content turned out to be wrong."""
        for name in (f"note-{digest}", f"blob-{digest}"):
            (self.folder / name).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the folder: the package is finished, or nobody wants it any more."""
        shutil.rmtree(self.folder, ignore_errors=True)
