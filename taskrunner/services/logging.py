"""Storing what a container prints: byte for byte, each stream by offset, once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

import zstandard
from django.db import transaction

from core import clock
from core.errors import CurfewError, InvalidInput
from taskrunner import progressing
from taskrunner.enums import Stream
from taskrunner.models import Attempt, LogPiece, LogStream, Worker
from taskrunner.services.claiming import held_task, note_progress, tell

LARGEST_PIECE = 256 * 1024
LARGEST_BODY = 4 * 1024 * 1024
LARGEST_LOG = 2 * 1024**3
TAIL_BYTES = 16 * 1024
MOST_HINTS = 8
STREAMS = tuple(stream.name.lower() for stream in Stream)
_packer = zstandard.ZstdCompressor(level=3)


class WrongOffset(CurfewError):
    """A piece does not begin where its stored stream ends; `offsets` are where both streams do."""

    status = 416
    code = "wrong_offset"
    title = "The log goes on at another place"

    def __init__(self, offsets: Mapping[str, int]) -> None:
        super().__init__("The log goes on at another byte.", offsets=dict(offsets))
        self.offsets = offsets


def append_log(*, worker: Worker, task_id: UUID, fence: int, stream: str, offset: int, data: bytes) -> int:
    """Store bytes of one stream (`stdout` or `stderr`) and answer the next offset; as `append_pieces`."""
    if stream not in STREAMS:
        raise InvalidInput(errors={"stream": ["stdout or stderr."]})
    ends = append_pieces(worker=worker, task_id=task_id, fence=fence, offsets={stream: offset}, pieces=[(stream, data)])
    return ends[stream]


def append_pieces(
    *, worker: Worker, task_id: UUID, fence: int, offsets: Mapping[str, int], pieces: Sequence[tuple[str, bytes]]
) -> dict[str, int]:
    """Store pieces of both streams in their order, each stream from its offset on, and answer the next offsets.

    What is stored already is passed over, so a repeat does no harm. Raises WrongOffset when bytes between are
    missing, Conflict `stale_lease` when the task went to another worker.
    """
    if any(at < 0 for at in offsets.values()) or sum(len(data) for _, data in pieces) > LARGEST_BODY:
        raise InvalidInput(errors={"offset": [f"Not negative, with at most {LARGEST_BODY} bytes a call."]})
    with transaction.atomic():
        task = held_task(worker, task_id, fence)
        log = _locked(task_id, fence)
        if any(at > getattr(log, name) for name, at in offsets.items()):
            raise WrongOffset(_ends(log))
        fresh = _fresh(log, offsets, pieces)
        if not fresh:
            return _ends(log)
        size = sum(len(data) for _, data in fresh)
        if log.truncated_at is None and log.stored + size > LARGEST_LOG:
            log.truncated_at = clock.now()
        hints = _store(log, fresh)
        log.save()
        small = size <= TAIL_BYTES and len(hints) <= MOST_HINTS
        for hint, (_, data) in zip(hints if small else hints[-1:], fresh, strict=False):
            text = data.decode("utf-8", "replace") if small else None
            told: dict[str, object] = {"type": "log", "fence": fence, **hint, "text": text}
            tell(task_id, {"type": "log", "encoded": json.dumps(told)})  # once for all who watch
        said = next((found for _, data in reversed(fresh[-MOST_HINTS:]) if (found := progressing.read(data))), None)
        if said:
            note_progress(task=task, percent=said[0], words=said[1])
    return _ends(log)


def _ends(log: LogStream) -> dict[str, int]:
    return {name: getattr(log, name) for name in STREAMS}


def _fresh(log: LogStream, offsets: Mapping[str, int], pieces: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The pieces without what is stored."""
    at, fresh = dict(offsets), []
    for stream, data in pieces:
        start = at[stream]
        at[stream] += len(data)
        if at[stream] > getattr(log, stream):
            fresh.append((stream, data[max(0, getattr(log, stream) - start) :]))
    return fresh


def log_end(*, worker: Worker, task_id: UUID, fence: int) -> dict[str, int]:
    """Where both streams go on, for an agent that starts again."""
    held_task(worker, task_id, fence)
    log = LogStream.objects.filter(attempt__task_id=task_id, attempt__number=fence).first()
    return {"stdout": log.stdout if log else 0, "stderr": log.stderr if log else 0}


def _locked(task_id: UUID, fence: int) -> LogStream:
    rows = LogStream.objects.select_for_update().filter(attempt__task_id=task_id, attempt__number=fence)
    log = rows.first()
    if log is None:
        attempt = Attempt.objects.get(task_id=task_id, number=fence)
        log, _ = LogStream.objects.select_for_update().get_or_create(attempt=attempt)
    return log


def _store(log: LogStream, pieces: Sequence[tuple[str, bytes]]) -> list[dict[str, object]]:
    """Write the pieces down and say of each which lines it is.

    Of what goes beyond the limit of a log only the length is counted, so that the worker goes on.
    """
    now, rows, hints = clock.now(), [], []
    for stream, data in pieces:
        first = log.lines
        for start, end in cuts(data) if log.truncated_at is None else ():
            part = data[start:end]
            lines = part.count(b"\n") + (not part.endswith(b"\n"))
            rows.append(
                LogPiece(
                    attempt_id=log.attempt_id,
                    number=log.pieces,
                    stream=Stream[stream.upper()],
                    offset=getattr(log, stream) + start,
                    size=len(part),
                    first_line=log.lines,
                    lines=lines,
                    data=_packer.compress(part),
                    at=now,
                )
            )
            log.pieces += 1
            log.lines += lines
            log.stored += len(part)
        setattr(log, stream, getattr(log, stream) + len(data))
        hints.append({"stream": stream, "first_line": first, "lines": log.lines})
    LogPiece.objects.bulk_create(rows)
    return hints


def cuts(data: bytes, most: int = LARGEST_PIECE) -> list[tuple[int, int]]:
    """Where to part bytes into pieces of at most `most`, after newlines where there are any."""
    parts, start = [], 0
    while start < len(data):
        end = min(start + most, len(data))
        if end < len(data):
            newline = data.rfind(b"\n", start, end)
            end = newline + 1 if newline >= start else end
        parts.append((start, end))
        start = end
    return parts
