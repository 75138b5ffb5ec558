"""Reading a container's log on through an API that knows no offsets. Pure.

A kubelet answers with every entry whose time is not before a whole second, in the order of its file. For one such
second the answer therefore only grows: how many bytes of it were taken is an exact place. The second moves on with the
log, two behind the newest entry, because entries of the two streams may stand slightly out of order; and never into
a line that was written over several seconds, because the rest of such a line would come with a time of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
LONGEST_STAMP = 40
LAG_SECONDS = 2
PARTED = 16 * 1024  # a runtime parts longer lines into entries with times of their own


class NotALog(Exception):
    """The answer does not begin with a time: it is an error in words, not the log."""


@dataclass(slots=True)
class Cursor:
    """The place up to which a log was read. `state()` can be kept as JSON and given to `of` again.

    `taken` maps each second from `since` on to what was read of its lines: bytes, and the first line's time and rank.
    """

    since: int | None = None
    taken: dict[int, list[Any]] = field(default_factory=dict)
    line: int | None = None
    long: list[list[int]] = field(default_factory=list)
    size: int = 0
    rank: int = 0
    last: str = ""
    gap: bool = False
    _skip: int = 0
    _buffer: bytes = b""
    _checked: bool = False
    _passing: bool = False
    _dropping: bool = False

    @classmethod
    def of(cls, state: dict[str, Any]) -> Cursor:
        made = cls()
        if state:
            made.since, made.line, made.size = state["since"], state["line"], state["size"]
            made.rank, made.last, made.gap = state["rank"], state["last"], state["gap"]
            made.taken = {int(second): list(known) for second, known in state["taken"].items()}
            made.long = [list(span) for span in state["long"]]
        return made

    def state(self) -> dict[str, Any]:
        return {
            "since": self.since,
            "line": self.line,
            "size": self.size,
            "rank": self.rank,
            "last": self.last,
            "gap": self.gap,
            "taken": {str(second): known for second, known in self.taken.items()},
            "long": self.long,
        }

    def begin(self) -> int | None:
        """A new answer follows; the second to ask from, None for the whole log."""
        self._advance()
        self._buffer, self._checked, self._passing, self._dropping = b"", not self.taken, False, False
        self._skip = sum(known[0] for known in self.taken.values())
        return self.since

    def feed(self, data: bytes) -> bytes:
        """The log's own bytes in the next part of the answer, without times and without what was read before.

        Raises NotALog.
        """
        data = self._buffer + data
        self._buffer = b""
        if not self._checked:
            if len(data) < LONGEST_STAMP and b" " not in data:
                self._buffer = data
                return b""
            self._check(data)
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        return self._read(data)

    def _check(self, data: bytes) -> None:
        """Whether the answer begins where it did before: a file that was rotated away begins elsewhere."""
        self._checked = True
        stamp = _stamp(data)
        head = min(self.taken.values(), key=lambda known: known[2])[1]
        if stamp is not None and stamp.decode() != head:
            self._skip, self._passing, self.gap, self.line = 0, True, True, None
            self.taken.clear()
            self.long.clear()

    def _read(self, data: bytes) -> bytes:
        out = []
        at = 0
        while at < len(data):
            if self.line is None:
                end = data.find(b" ", at, at + LONGEST_STAMP)
                if end < 0:
                    if len(data) - at >= LONGEST_STAMP:
                        raise NotALog(data[at : at + 200].decode("utf-8", "replace"))
                    self._buffer = data[at:]
                    break
                stamp = _stamp(data[at : end + 1])
                if stamp is None or len(stamp) != end - at:
                    raise NotALog(data[at : at + 200].decode("utf-8", "replace"))
                self._begin_line(stamp.decode(), end + 1 - at)
                at = end + 1
                continue
            newline = data.find(b"\n", at)
            end = newline + 1 if newline >= 0 else len(data)
            if not self._dropping:
                out.append(data[at:end])
            self.taken[self.line][0] += end - at
            self.size += end - at
            if newline >= 0:
                self._end_line()
            at = end
        return b"".join(out)

    def _begin_line(self, stamp: str, prefix: int) -> None:
        second = _second(stamp)
        if self._passing:  # after a gap: what is not newer than the last line that was read was read
            self._dropping = _key(stamp) <= _key(self.last)
            self._passing = self._dropping
        for span in self.long:
            if span[1] < 0:
                span[1] = second
        self.line = second
        self.rank += 1
        self.size = 0
        known = self.taken.setdefault(second, [0, stamp, self.rank])
        known[0] += prefix
        if _key(stamp) > _key(self.last):
            self.last = stamp

    def _end_line(self) -> None:
        if self.size > PARTED and self.line is not None:
            self.long.append([self.line, -1])
        self.line, self._dropping = None, False

    def _advance(self) -> None:
        """Move `since` as far as can be done without losing the place."""
        if not self.taken:
            return
        to = max(self.taken) - LAG_SECONDS
        if self.line is not None:
            to = min(to, self.line)
        moved = True
        while moved:
            moved = False
            for began, ended in self.long:
                if began < to and (ended < 0 or to <= ended):
                    to, moved = began, True
        kept = {second: known for second, known in self.taken.items() if second >= to}
        if (self.since is None or to > self.since) and kept:
            self.since, self.taken = to, kept
            self.long = [span for span in self.long if span[1] < 0 or span[1] >= to]


def _stamp(data: bytes) -> bytes | None:
    found = _STAMP.match(data)
    return found[0] if found else None


def _second(stamp: str) -> int:
    return int(datetime.fromisoformat(f"{stamp[:19]}{_zone(stamp)}").timestamp())


def _zone(stamp: str) -> str:
    zone = stamp[19:].lstrip(".0123456789")
    return "+00:00" if zone == "Z" else zone


def _key(stamp: str) -> tuple[int, int]:
    """Second and nanosecond, for comparing."""
    if not stamp:
        return (-1, 0)
    fraction = re.sub(r"(Z|[+-]\d\d:\d\d)$", "", stamp[19:]).lstrip(".")
    return _second(stamp), int(fraction.ljust(9, "0") or 0)
