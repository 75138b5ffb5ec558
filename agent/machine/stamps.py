"""What of a tree is surely unchanged without being read, and the hashes that are known of it.

A stamp is size, both times, inode and device of an entry. The kernel sets ctime when a write begins and no program can
set it back, so an equal stamp means equal bytes, if the stamp was taken while nobody could write to the file. These
stamps prove nothing, and their files are always read, once before and once after the backup:

- of a file that some process has open or mapped for writing, which the kernel tells by refusing a read lease: a write
  may be under way, and stores into a mapped page do not set the times each time;
- of a file that changed within the last moments: two writes within one tick of the clock leave one stamp;
- on a file system that keeps its times elsewhere or late (network, FUSE, ZFS), or whose kernel gives no leases.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MOUNTS = Path("/proc/self/mountinfo")
TRUSTED = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "overlay"})
# Nanoseconds: a tick of the kernel's clock with much to spare, and of file systems that know whole seconds only.
TICK, COARSE, SECOND = 500_000_000, 3_000_000_000, 1_000_000_000
VERSION = 1
Fail = Callable[[OSError], None]


class Stamp(NamedTuple):
    """Times are nanoseconds; `kind` is f, d, l or ? (a socket, pipe or device); `mode` are permission bits."""

    kind: str
    mode: int
    size: int
    mtime: int
    ctime: int
    inode: int
    device: int


@dataclass(frozen=True, slots=True)
class Look:
    """Every entry below some folders at one moment, and the files whose stamps prove nothing."""

    stamps: dict[str, Stamp]
    doubtful: frozenset[str]

    def same(self, later: dict[str, Stamp]) -> bool:
        """Whether nothing changed. A folder's own size and times are those of the names in it, which are compared."""
        return _plain(self.stamps) == _plain(later)


def _plain(stamps: dict[str, Stamp]) -> dict[str, tuple[object, ...]]:
    return {path: s[:2] if s.kind == "d" else tuple(s) for path, s in stamps.items() if s.kind != "?"}


class Known:
    """Hashes by path and stamp, in a file of the agent's own. A file that is not there or not readable knows nothing."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._rows: dict[str, tuple[Stamp, str, bool]] = {}
        self._stored: dict[str, tuple[Stamp, str, bool]] | None = None
        if file is not None:
            self._read(file)

    def _read(self, file: Path) -> None:
        try:
            told = json.loads(file.read_text(encoding="ascii"))
            if told["version"] == VERSION:
                self._rows = {p: (Stamp(*r[0]), str(r[1]), bool(r[2])) for p, r in told["files"].items()}
                self._stored = self._rows
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            self._rows = {}

    def sha256(self, path: str, stamp: Stamp) -> str | None:
        """The hash of a file of this stamp, if it is beyond doubt."""
        row = self._rows.get(path)
        return row[1] if row is not None and row[2] and row[0] == stamp else None

    def last(self, path: str, stamp: Stamp) -> str | None:
        """What a file of this stamp had when it was last read, in doubt or not."""
        row = self._rows.get(path)
        return row[1] if row is not None and row[0] == stamp else None

    def learn(self, before: Look, after: dict[str, Stamp], hashes: dict[str, str]) -> None:
        """Keep what was hashed between two looks that show the same stamp, and forget all else."""
        rows = {}
        for path, sha256 in hashes.items():
            stamp = before.stamps[path]
            if after.get(path) == stamp:
                rows[path] = (stamp, sha256, path not in before.doubtful)
        self._rows = rows

    def save(self) -> None:
        """Replace the file in one step, if it does not say the same. Nothing depends on it: without it all is read."""
        if self._file is None or self._rows == self._stored:
            return
        part = self._file.with_suffix(".part")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as opened:
            opened.write(json.dumps({"version": VERSION, "files": self._rows}, separators=(",", ":")))
        part.replace(self._file)
        self._stored = self._rows


def look(paths: Iterable[str], known: Known, fail: Fail) -> Look:
    """Stamp everything below the folders, and ask the kernel about those files whose hash is not known.

    What is known needs no question: whoever writes to it now began after it was hashed, and that changed its ctime.
    """
    began = time.time_ns()
    stamps, mounts = {}, _mounts()
    doubtful = set()
    for path, found, kind in _all(paths, mounts, fail):
        stamps[path] = found
        if found.kind == "f" and known.sha256(path, found) is None:
            closer = _unwritten(path) if kind in TRUSTED else None
            if closer is None or closer.ctime > began - (COARSE if closer.ctime % SECOND == 0 else TICK):
                doubtful.add(path)
            else:
                stamps[path] = closer
    return Look(stamps, frozenset(doubtful))


def stamps_of(paths: Iterable[str], fail: Fail) -> dict[str, Stamp]:
    """Stamp everything below the folders, and these themselves. `fail` is called for a folder that cannot be read."""
    return {path: found for path, found, _ in _all(paths, {}, fail)}


def _unwritten(path: str) -> Stamp | None:
    """The stamp of a file that nobody has open or mapped for writing; None when somebody has, or it cannot be told.

    The kernel grants a lease on no other file. It is given back at once; whoever opens the file meanwhile waits for
    that, and the signal that goes with it is one that is ignored.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return stamp(os.fstat(handle))
    except OSError:
        return None
    finally:
        os.close(handle)


def _all(paths: Iterable[str], mounts: dict[str, str], fail: Fail) -> Iterator[tuple[str, Stamp, str]]:
    """Path, stamp and kind of file system."""
    for top in paths:
        kind = _kind_of(top, mounts)
        yield top, stamp(Path(top).stat()), kind
        waiting = [(top, kind)]
        while waiting:
            folder, kind = waiting.pop()
            try:
                for path, found in _of_folder(folder):
                    yield path, found, kind
                    if found.kind == "d":
                        waiting.append((path, mounts.get(path, kind)))
            except OSError as bad:
                fail(bad)


def _of_folder(folder: str) -> Iterator[tuple[str, Stamp]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                yield entry.path, stamp(entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue


_KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}


def stamp(facts: os.stat_result) -> Stamp:
    """As the file system tells it."""
    kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "?")
    mode = 0 if kind == "l" else stat.S_IMODE(facts.st_mode)
    return Stamp(kind, mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev)


def _mounts() -> dict[str, str]:
    """Mount point to kind of file system; empty when the kernel does not tell, so that nothing is trusted."""
    found = {}
    try:
        for line in MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            point = before.split()[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
            found[point] = after.split()[0]
    except (OSError, IndexError):
        return {}
    return found


def _kind_of(path: str, mounts: dict[str, str]) -> str:
    real = Path(path).resolve()
    return next((mounts[str(place)] for place in (real, *real.parents) if str(place) in mounts), "")
