"""Logs of ended attempts move from the database to a bucket, byte for byte, and out of it when nobody keeps them.

A row names the object before it is written; the pieces are emptied only after it was; what a kill left behind is found
by its row and deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

from django.db import transaction
from django.db.models import Exists, OuterRef

from core import clock
from core.providers import ProviderError
from taskrunner.models import Attempt, LogObject, LogPiece
from taskrunner.storage import Store, bucket

log = logging.getLogger(__name__)
OBJECT_BYTES = 8 * 1024 * 1024
QUIET = timedelta(minutes=2)  # after the end, until nothing more can be on its way
LEFT_OVER = timedelta(hours=1)


def move_logs(limit: int = 50) -> int:
    """Move the logs of attempts that have ended; how many attempts. Stops at the first that the bucket refuses."""
    place = bucket()
    if place is None:
        return 0
    here = LogPiece.objects.filter(attempt=OuterRef("pk"), kept_in=None)
    ended = Attempt.objects.filter(Exists(here), finished_at__lt=clock.now() - QUIET).select_related("task")
    moved = 0
    try:
        for attempt in ended.order_by("finished_at")[:limit]:
            for numbers in _groups(attempt):
                _move(place, attempt, numbers)
            moved += 1
    except ProviderError as refused:
        log.warning("task_log_not_moved", extra={"reason": refused.message})
    return moved


def _groups(attempt: Attempt) -> Iterator[list[int]]:
    """Numbers of pieces that go into one object."""
    group: list[int] = []
    size = 0
    for number, length in _lengths(attempt):
        if group and size + length > OBJECT_BYTES:
            yield group
            group, size = [], 0
        group.append(number)
        size += length
    if group:
        yield group


def _lengths(attempt: Attempt) -> list[tuple[int, int]]:
    from django.db.models.functions import Length

    rows = LogPiece.objects.filter(attempt=attempt, kept_in=None).order_by("number")
    return list(rows.annotate(packed=Length("data")).values_list("number", "packed"))


def _move(place: Store, attempt: Attempt, numbers: list[int]) -> None:
    made = LogObject.objects.create(
        attempt=attempt, name=f"{attempt.task.organization_id}/{attempt.task_id}/{uuid4().hex}", created_at=clock.now()
    )
    rows = LogPiece.objects.filter(attempt=attempt, kept_in=None, number__in=numbers).order_by("number")
    pieces = list(rows)
    body = b"".join(bytes(piece.data) for piece in pieces)
    place.put(made.name, body)
    start = 0
    for piece in pieces:
        length = len(piece.data)
        piece.kept_in, piece.kept_at, piece.kept_length, piece.data = made, start, length, b""
        start += length
    with transaction.atomic():
        # An attempt that was deleted meanwhile has no row to lock: the object is then left over.
        if not Attempt.objects.select_for_update().filter(id=attempt.id).exists():
            return
        LogPiece.objects.bulk_update(pieces, ["kept_in", "kept_at", "kept_length", "data"], batch_size=200)
        LogObject.objects.filter(id=made.id).update(size=len(body), stored_at=clock.now())


def drop_objects(limit: int = 500) -> int:
    """Delete from the bucket what no piece of a log is in any more; how many objects."""
    place = bucket()
    if place is None:
        return 0
    used = LogPiece.objects.filter(kept_in=OuterRef("pk"))
    rows = LogObject.objects.filter(~Exists(used), created_at__lt=clock.now() - LEFT_OVER).order_by("id")
    dropped = 0
    try:
        for row in rows[:limit]:
            place.delete(row.name)
            row.delete()
            dropped += 1
    except ProviderError as refused:
        log.warning("task_log_not_deleted", extra={"reason": refused.message})
    return dropped
