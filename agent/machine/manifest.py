"""Hashes of a tree, made on the machine: what a backup is checked against before anything is destroyed.

One line of JSON for each entry, sorted by path; the digest is SHA-256 over the lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as quoted
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from agent.machine.stamps import Known, Look, Stamp, look, stamps_of

BLOCK = 1024 * 1024
# Packed, as it travels both ways: what the platform takes, the machine takes back.
LARGEST = 64 * 1024 * 1024
THREADS = 4
# So many bytes are one thread's share, and no more than 64 files.
PIECE = 4 * 1024 * 1024


class Unreadable(Exception):
    """Something of the tree cannot be read; the text names it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or link. `kind` is f, d or l; `sha256` of a link is of its target; `mode` are permission bits."""

    path: str
    kind: str
    mode: int
    size: int
    sha256: str

    def line(self) -> str:
        """JSON with sorted keys and no spaces, all ASCII."""
        return (
            f'{{"kind":"{self.kind}","mode":{self.mode},"path":{quoted(self.path)},'
            f'"sha256":"{self.sha256}","size":{self.size}}}'
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """All entries by path, with sums. `text` is their lines, each with its end."""

    entries: tuple[Entry, ...]
    digest: str
    files: int
    size: int
    text: bytes = field(repr=False)

    def lines(self) -> Iterator[str]:
        return iter(self.text.decode("ascii").splitlines())


def build(paths: Iterable[str]) -> Manifest:
    """Hash everything below the paths. Sockets, pipes and devices are left out, as a backup leaves out their content.

    Raises Unreadable when a path is missing or a file cannot be read.
    """
    known = Known()
    seen = take_look(paths, known)
    return of_look(seen, hashes(seen, known))


def take_look(paths: Iterable[str], known: Known) -> Look:
    """Stamp the tree, before it is read. Raises Unreadable when a path is no folder or cannot be read."""
    return look(_folders(paths), known, _unreadable)


def look_again(paths: Iterable[str]) -> dict[str, Stamp]:
    """Stamp the tree, after it was read. Raises Unreadable."""
    return stamps_of(_folders(paths), _unreadable)


def _folders(paths: Iterable[str]) -> list[str]:
    found = list(paths)
    for path in found:
        if not Path(path).is_dir():
            raise Unreadable(f"{path} is not a folder")
    return found


def _unreadable(error: OSError) -> None:
    raise Unreadable(f"{error.filename}: {error.strerror}")


def hashes(seen: Look, known: Known, first: Mapping[str, str] | None = None) -> dict[str, str]:
    """SHA-256 of each file: as known where its stamp proves it or as given in `first`, else read now."""
    found, unread = dict(first or {}), []
    for path, stamp in seen.stamps.items():
        if stamp.kind != "f" or path in found:
            continue
        had = known.sha256(path, stamp)
        if had is None:
            unread.append(path)
        else:
            found[path] = had
    found.update(_each(_read, sorted((path, seen.stamps[path].size) for path in unread)))
    return found


def read(paths: Iterable[str]) -> dict[str, str]:
    """Read files and hash them. Raises Unreadable."""
    return dict(_each(_read, ((path, 0) for path in sorted(paths))))


def of_look(seen: Look, sums: Mapping[str, str]) -> Manifest:
    """The manifest of a tree whose files' hashes are given."""
    entries = []
    for path, stamp in seen.stamps.items():
        if stamp.kind == "f":
            entries.append(Entry(path, "f", stamp.mode, stamp.size, sums[path]))
        elif stamp.kind == "d":
            entries.append(Entry(path, "d", stamp.mode, 0, ""))
        elif stamp.kind == "l":
            entries.append(_of_link(path))
    return of(entries)


def of(entries: Iterable[Entry]) -> Manifest:
    """A manifest of entries that are known."""
    ordered = tuple(sorted(entries, key=attrgetter("path")))
    text = "".join(f"{entry.line()}\n" for entry in ordered).encode("ascii")
    files = [entry.size for entry in ordered if entry.kind == "f"]
    return Manifest(ordered, hashlib.sha256(text).hexdigest(), len(files), sum(files), text)


def parse(lines: Iterable[str]) -> Manifest:
    """A manifest from its lines. Raises ValueError for a line that is none."""
    entries = []
    for line in lines:
        if line.strip():
            told = json.loads(line)
            entries.append(
                Entry(str(told["path"]), str(told["kind"]), int(told["mode"]), int(told["size"]), str(told["sha256"]))
            )
    return of(entries)


def again(entries: Iterable[Entry]) -> tuple[list[Entry], list[str]]:
    """Hash the same paths again; the second value names those that are missing."""
    wanted = [(entry.path, entry.size) for entry in entries]
    missing, found = [], []
    for path, entry in _each(_entry_or_none, wanted):
        if entry is None:
            missing.append(path)
        else:
            found.append(entry)
    return found, missing


T = TypeVar("T")


def _each(do: Callable[[str], T], wanted: Iterable[tuple[str, int]]) -> Iterator[tuple[str, T]]:
    """Path and result for each path, on some threads; small files are handed out many at a time."""

    def of_piece(piece: list[str]) -> list[tuple[str, T]]:
        return [(path, do(path)) for path in piece]

    pieces: list[list[str]] = []
    left = 0
    for path, size in wanted:
        if left <= 0:
            pieces.append([])
            left = PIECE
        pieces[-1].append(path)
        left -= size + PIECE // 64
    with ThreadPoolExecutor(THREADS) as pool:
        for done in pool.map(of_piece, pieces):
            yield from done


def _entry_or_none(path: str) -> Entry | None:
    try:
        facts = os.lstat(path)
        mode = stat.S_IMODE(facts.st_mode)
        if stat.S_ISLNK(facts.st_mode):
            return _of_link(path)
        if stat.S_ISDIR(facts.st_mode):
            return Entry(path, "d", mode, 0, "")
        if not stat.S_ISREG(facts.st_mode):
            return None
        return Entry(path, "f", mode, facts.st_size, _hash(path))
    except (OSError, Unreadable):
        return None


def _of_link(path: str) -> Entry:
    try:
        target = os.readlink(path)  # noqa: PTH115
    except OSError as bad:
        raise Unreadable(f"{path}: {bad.strerror}") from bad
    return Entry(path, "l", 0, 0, hashlib.sha256(os.fsencode(target)).hexdigest())


def _read(path: str) -> str:
    try:
        return _hash(path)
    except OSError as bad:
        raise Unreadable(f"{path}: {bad.strerror}") from bad


def _hash(path: str) -> str:
    summed = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  a path as the system spells it
        while block := file.read(BLOCK):
            summed.update(block)
    return summed.hexdigest()
