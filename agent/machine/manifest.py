"""Hashes of a tree, made on the machine: what a backup is checked against before anything is destroyed.

One line of JSON for each entry, sorted by path; the digest is SHA-256 over the lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

BLOCK = 1024 * 1024
THREADS = 4


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
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All entries by path, with sums."""

    entries: tuple[Entry, ...]
    digest: str
    files: int
    size: int

    def lines(self) -> Iterator[str]:
        return (entry.line() for entry in self.entries)


def build(paths: Iterable[str]) -> Manifest:
    """Hash everything below the paths. Sockets, pipes and devices are left out, as a backup leaves out their content.

    Raises Unreadable when a path is missing or a file cannot be read.
    """
    found: list[str] = []
    for path in paths:
        if not Path(path).is_dir():
            raise Unreadable(f"{path} is not a folder")
        found.extend(_walk(path))
    with ThreadPoolExecutor(THREADS) as pool:
        entries = [entry for entry in pool.map(_entry, sorted(set(found))) if entry is not None]
    return of(entries)


def of(entries: Iterable[Entry]) -> Manifest:
    """A manifest of entries that are known."""
    ordered = tuple(sorted(entries, key=lambda entry: entry.path))
    summed = hashlib.sha256()
    for entry in ordered:
        summed.update(entry.line().encode() + b"\n")
    files = [entry for entry in ordered if entry.kind == "f"]
    return Manifest(ordered, summed.hexdigest(), len(files), sum(entry.size for entry in files))


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


def rebuild(manifest: Manifest) -> tuple[Manifest, list[str]]:
    """Hash the same paths again; the second value names those that are missing."""
    missing, again = [], []
    with ThreadPoolExecutor(THREADS) as pool:
        for wanted, entry in zip(
            manifest.entries, pool.map(_entry_or_none, [e.path for e in manifest.entries]), strict=True
        ):
            if entry is None:
                missing.append(wanted.path)
            else:
                again.append(entry)
    return of(again), missing


def _walk(top: str) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise Unreadable(f"{error.filename}: {error.strerror}")

    for folder, folders, files in os.walk(top, onerror=fail):
        yield folder
        for name in files:
            yield os.path.join(folder, name)  # noqa: PTH118  many paths: no object for each
        for name in folders:
            path = os.path.join(folder, name)  # noqa: PTH118
            if os.path.islink(path):  # noqa: PTH114
                yield path


def _entry_or_none(path: str) -> Entry | None:
    try:
        return _entry(path)
    except Unreadable:
        return None


def _entry(path: str) -> Entry | None:
    try:
        facts = os.lstat(path)
        mode = stat.S_IMODE(facts.st_mode)
        if stat.S_ISLNK(facts.st_mode):
            target = os.readlink(path)  # noqa: PTH115
            return Entry(path, "l", 0, 0, hashlib.sha256(os.fsencode(target)).hexdigest())
        if stat.S_ISDIR(facts.st_mode):
            return Entry(path, "d", mode, 0, "")
        if not stat.S_ISREG(facts.st_mode):
            return None
        return Entry(path, "f", mode, facts.st_size, _hash(path))
    except OSError as bad:
        raise Unreadable(f"{path}: {bad.strerror}") from bad


def _hash(path: str) -> str:
    summed = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123  a path as the system spells it
        while block := file.read(BLOCK):
            summed.update(block)
    return summed.hexdigest()
