"""Which files to take, to delete and to keep as copies, from three looks at a tree. Pure.

`base` is what both sides last had in common, `ours` what is here, `theirs` what the side that serves has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Node:
    """One file (f), folder (d) or link (l). `mtime` are nanoseconds; `mode` are permission bits."""

    kind: str
    size: int = 0
    mtime: int = 0
    mode: int = 0

    def same(self, other: Node | None) -> bool:
        """A folder's time changes with what is in it and says nothing; a link has no mode of its own."""
        if other is None or self.kind != other.kind:
            return False
        if self.kind == "d":
            return self.mode == other.mode
        if self.kind == "l":
            return self.mtime == other.mtime
        return (self.size, self.mtime, self.mode) == (other.size, other.mtime, other.mode)


Tree = Mapping[str, Node]


@dataclass(slots=True)
class Plan:
    """`copies` are made first (path to the copy's path), then `take`, then `delete`, deepest first."""

    take: list[str] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)


def plan(base: Tree, ours: Tree, theirs: Tree, *, mirror: bool, mark: str) -> Plan:
    """What to do so that `ours` becomes `theirs`.

    `mirror`: this side follows, so theirs holds everywhere. Otherwise what they left alone stays as it is here. Where
    both changed the same file, theirs takes its place and ours is kept beside it, marked.
    """
    found = Plan()
    for path in sorted({*base, *ours, *theirs}):
        was, mine, other = base.get(path), ours.get(path), theirs.get(path)
        if _equal(mine, other):
            continue
        edited = not _equal(mine, was)
        if edited and not mirror and _equal(other, was):
            continue
        if edited and was is None and other is None:
            continue  # new here and unknown there: it stays
        if edited and mine is not None and mine.kind != "d":
            found.copies[path] = copy_name(path, mark)
        if other is None:
            found.delete.append(path)
        else:
            found.take.append(path)
    found.delete.sort(key=lambda p: (-p.count("/"), p))
    return found


def _equal(one: Node | None, other: Node | None) -> bool:
    return one is other or (one is not None and one.same(other))


def copy_name(path: str, mark: str) -> str:
    """`/work/report.txt` becomes `/work/report.conflict-MARK.txt`."""
    whole = PurePosixPath(path)
    return str(whole.with_name(f"{whole.stem}.conflict-{mark}{whole.suffix}"))
