"""Storing what a container prints: byte for byte, each stream by offset, once."""

from __future__ import annotations

import json
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
_packer = zstandard.ZstdCompressor(level=3)


class WrongOffset(CurfewError):
    """The piece does not begin where the stored stream ends; `offset` is where it does."""

    status = 416
    code = "wrong_offset"
    title = "The log goes on at another place"

    def __init__(self, offset: int) -> None:
        super().__init__(f"This stream goes on at byte {offset}.", offset=offset)
        self.offset = offset


def append_log(*, worker: Worker, task_id: UUID, fence: int, stream: str, offset: int, data: bytes) -> int:
    """Store bytes of one stream (`stdout` or `stderr`) and answer the next offset.

    What is stored already is passed over, so a repeat does no harm. Raises WrongOffset when bytes between are
    missing, Conflict `stale_lease` when the task went to another worker.
    """
    try:
        number = Stream[stream.upper()]
    except KeyError:
        raise InvalidInput(errors={"stream": ["stdout or stderr."]}) from None
    if offset < 0 or len(data) > LARGEST_BODY:
        raise InvalidInput(errors={"offset": [f"Not negative, with at most {LARGEST_BODY} bytes a call."]})
    with transaction.atomic():
        task = held_task(worker, task_id, fence)
        log = _locked(task_id, fence)
        have: int = getattr(log, stream)
        if offset > have:
            raise WrongOffset(have)
        fresh = data[have - offset :]
        if not fresh:
            return have
        if log.truncated_at is None and log.stored + len(fresh) > LARGEST_LOG:
            log.truncated_at = clock.now()
        first = log.lines
        if log.truncated_at is None:
            _store(log, number, have, fresh)
        setattr(log, stream, have + len(fresh))
        log.save()
        # Only the log beyond the limit is let go; its length is still counted, so that the worker goes on.
        hint: dict[str, object] = {
            "type": "log",
            "fence": fence,
            "stream": stream,
            "first_line": first,
            "lines": log.lines,
            "text": fresh.decode("utf-8", "replace") if len(fresh) <= TAIL_BYTES else None,
        }
        tell(task_id, {"type": "log", "encoded": json.dumps(hint)})  # once for all who watch
        said = progressing.read(fresh)
        if said:
            note_progress(task=task, percent=said[0], words=said[1])
    return have + len(fresh)


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


def _store(log: LogStream, stream: Stream, offset: int, data: bytes) -> None:
    now, rows = clock.now(), []
    for start, end in cuts(data):
        part = data[start:end]
        lines = part.count(b"\n") + (not part.endswith(b"\n"))
        rows.append(
            LogPiece(
                attempt_id=log.attempt_id,
                number=log.pieces,
                stream=stream,
                offset=offset + start,
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
    LogPiece.objects.bulk_create(rows)


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
