"""Reading logs by byte or by line, and searching them whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import re2
import zstandard

from core.errors import InvalidInput, NotFound, Unavailable
from core.providers import ProviderError
from taskrunner.enums import Stream
from taskrunner.models import Attempt, LogPiece, LogStream, Task
from taskrunner.storage import bucket

MOST_LINES = 10_000
MOST_HITS = 500
LONGEST_LINE = 8192
MOST_TEXT = 4 * 1024 * 1024  # characters of one answer; lines that are left are asked for next
_NAMES = {Stream.STDOUT.value: "stdout", Stream.STDERR.value: "stderr"}
_EMPTY = LogStream()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One displayed line: its number from 0 over both streams, the stream, when it was stored."""

    number: int
    stream: str
    at: datetime
    text: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class LogView:
    """Some lines of a log and how long it is: lines over both streams, bytes of each."""

    lines: list[LogLine]
    total: int
    stdout: int
    stderr: int
    truncated: bool
    removed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that matches, with the lines around it."""

    line: LogLine
    before: list[LogLine]
    after: list[LogLine]


def attempt_of(task: Task, number: int | None = None) -> Attempt | None:
    """The attempt with this number, or the newest; None before the first claim. NotFound for an unknown number."""
    rows = Attempt.objects.filter(task=task)
    found = rows.filter(number=number).first() if number is not None else rows.order_by("-number").first()
    if found is None and number is not None:
        raise NotFound("There is no such attempt.")
    return found


def _log(attempt: Attempt | None) -> LogStream:
    return (LogStream.objects.filter(attempt=attempt).first() if attempt else None) or _EMPTY


class _Shelf:
    """Objects of the bucket by ranges; what is read on is fetched once for many pieces."""

    AHEAD = 1024 * 1024

    def __init__(self) -> None:
        self.place = bucket()
        self.held: tuple[int, int, bytes] = (0, 0, b"")  # the object, where the bytes begin, the bytes

    def packed(self, piece: LogPiece) -> bytes:
        if piece.kept_in is None:
            return bytes(piece.data)
        known, start, data = self.held
        at = piece.kept_at - start
        if known != piece.kept_in.id or at < 0 or at + piece.kept_length > len(data):
            if self.place is None:
                raise Unavailable("This log is in a bucket that is not set up here (CURFEW_TASK_LOG_BUCKET).")
            length = min(max(piece.kept_length, self.AHEAD), piece.kept_in.size - piece.kept_at)
            try:
                data = self.place.get(piece.kept_in.name, piece.kept_at, length)
            except ProviderError as refused:
                raise Unavailable(refused.message) from None
            self.held, at = (piece.kept_in.id, piece.kept_at, data), 0
        return data[at : at + piece.kept_length]


def _unpacked(piece: LogPiece, shelf: _Shelf) -> bytes:
    return zstandard.ZstdDecompressor().decompress(shelf.packed(piece), max_output_size=piece.size)


def _split(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def log_lines(*, attempt: Attempt | None, first: int = 0, count: int = 500, stream: str = "") -> LogView:
    """`count` lines from number `first` on, of both streams or of one; fewer of a log with very long lines.

    A negative `first` counts from the end.
    """
    log = _log(attempt)
    count = max(1, min(count, MOST_LINES))
    start = max(0, log.lines + first if first < 0 else first)
    lines: list[LogLine] = []
    size = 0
    shelf = _Shelf()
    rows = LogPiece.objects.filter(attempt=attempt, number__gte=_piece_at(attempt, start))
    if stream:
        rows = rows.filter(stream=_number(stream))
    for piece in rows.select_related("kept_in").order_by("number").iterator(chunk_size=16):
        for offset, text in enumerate(_split(_unpacked(piece, shelf))):
            if piece.first_line + offset >= start:
                lines.append(_line(piece, offset, text))
                size += len(lines[-1].text)
                if len(lines) == count or size >= MOST_TEXT:
                    return _view(log, lines)
    return _view(log, lines)


def _view(log: LogStream, lines: list[LogLine]) -> LogView:
    return LogView(lines, log.lines, log.stdout, log.stderr, log.truncated_at is not None, log.removed_at)


def _piece_at(attempt: Attempt | None, line: int) -> int:
    rows = LogPiece.objects.filter(attempt=attempt, first_line__lte=line).order_by("-first_line", "-number")
    return rows.values_list("number", flat=True).first() or 0


def _line(piece: LogPiece, offset: int, text: bytes) -> LogLine:
    return LogLine(
        piece.first_line + offset,
        _NAMES[piece.stream],
        piece.at,
        text[:LONGEST_LINE].decode("utf-8", "replace"),
        len(text) > LONGEST_LINE,
    )


def _number(stream: str) -> int:
    try:
        return Stream[stream.upper()].value
    except KeyError:
        raise InvalidInput(errors={"stream": ["stdout or stderr."]}) from None


def log_bytes(*, attempt: Attempt | None, stream: str) -> Iterator[bytes]:
    """All bytes of one stream exactly as the container wrote them; with "" both, as they arrived."""
    rows, shelf = LogPiece.objects.filter(attempt=attempt).select_related("kept_in"), _Shelf()
    if stream:
        rows = rows.filter(stream=_number(stream))
    for piece in rows.order_by("number").iterator(chunk_size=8):
        yield _unpacked(piece, shelf)


def read_bytes(*, attempt: Attempt | None, stream: str, offset: int, most: int = 1024 * 1024) -> bytes:
    """At most `most` bytes of one stream from `offset` on."""
    number = _number(stream)
    rows = LogPiece.objects.filter(attempt=attempt, stream=number)
    before = rows.filter(offset__lte=offset).order_by("-offset").values_list("offset", flat=True).first() or 0
    parts, size = [], 0
    shelf = _Shelf()
    for piece in rows.select_related("kept_in").filter(offset__gte=before).order_by("offset").iterator(chunk_size=4):
        part = _unpacked(piece, shelf)[max(0, offset - piece.offset) :]
        parts.append(part[: most - size])
        size += len(parts[-1])
        if size >= most:
            break
    return b"".join(parts)


def search_log(
    *, attempt: Attempt | None, wanted: str, regex: bool = False, stream: str = "", context: int = 2, most: int = 200
) -> tuple[list[Hit], int, bool]:
    """Lines that hold a text, whatever its case, or match a regular expression (RE2: time linear in the log).

    The first `most` hits with `context` lines around each, how many lines match in all, and whether counting stopped
    early. Raises InvalidInput for a bad expression.
    """
    if not 0 < len(wanted) <= 500:
        raise InvalidInput(errors={"search": ["1 to 500 characters."]})
    pattern = _compiled(wanted if regex else re2.escape(wanted), ignore_case=not regex)
    rows = LogPiece.objects.filter(attempt=attempt)
    if stream:
        rows = rows.filter(stream=_number(stream))
    around = max(0, min(context, 10))
    hits: list[Hit] = []
    open_hits: list[Hit] = []  # whose lines afterwards are in the pieces that follow
    before: list[LogLine] = []  # the last lines of the pieces that went before
    count = 0
    shelf = _Shelf()
    for piece in rows.select_related("kept_in").order_by("number").iterator(chunk_size=16):
        data = _unpacked(piece, shelf)
        numbers = _matches(pattern, data)
        count += len(numbers)
        room = min(most, MOST_HITS) - len(hits)
        if open_hits or (numbers and room > 0):
            lines = _split(data)
            for hit in open_hits:
                hit.after.extend(_line(piece, n, text) for n, text in enumerate(lines[: around - len(hit.after)]))
            found = [_hit(piece, lines, number, before, around) for number in numbers[: max(0, room)]]
            hits.extend(found)
            open_hits = [hit for hit in (*open_hits, *found) if len(hit.after) < around]
        if around:
            before = [*before, *_last(piece, data, around)][-around:]
    return hits, count, count > len(hits)


def _compiled(pattern: str, *, ignore_case: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    options.never_nl = True
    options.encoding = re2.Options.Encoding.LATIN1
    try:
        return re2.compile(f"(?m){pattern}".encode(), options)
    except re2.error as bad:
        raise InvalidInput(errors={"search": [f"This is not a regular expression: {str(bad)[:200]}"]}) from None


def _matches(pattern: Any, data: bytes) -> list[int]:
    """Numbers of the lines within a piece that match, each once."""
    numbers, line, looked = [], 0, 0
    position = 0
    while position <= len(data):
        found = pattern.search(data, position)
        if found is None:
            break
        line += data.count(b"\n", looked, found.start())
        looked = found.start()
        if looked < len(data) or not data.endswith(b"\n"):
            numbers.append(line)
        end = data.find(b"\n", max(found.end() - 1, found.start()))
        if end < 0:
            break
        position = end + 1
    return numbers


def _hit(piece: LogPiece, lines: list[bytes], number: int, before: list[LogLine], around: int) -> Hit:
    """A matching line; lines before it from earlier pieces where this one does not hold enough."""
    own = [_line(piece, n, lines[n]) for n in range(max(0, number - around), number)]
    missing = around - len(own)
    return Hit(
        _line(piece, number, lines[number]),
        [*(before[-missing:] if missing else []), *own],
        [_line(piece, n, lines[n]) for n in range(number + 1, min(len(lines), number + 1 + around))],
    )


def _last(piece: LogPiece, data: bytes, most: int) -> list[LogLine]:
    """The last lines of a piece, without parting all of it."""
    texts = (data[:-1] if data.endswith(b"\n") else data).rsplit(b"\n", most)
    texts = texts[-most:]
    return [_line(piece, piece.lines - len(texts) + n, text) for n, text in enumerate(texts)]
