"""Sending a package: large, so it is streamed in pieces, can be resumed, and is never held in memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from cloudnodes import package_selectors as selectors
from cloudnodes import package_services as services
from core.actor import Actor
from core.errors import NotFound

PIECE = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def package_file(request: HttpRequest, actor: Actor, package_id: UUID) -> HttpResponse | StreamingHttpResponse:
    """The file of a finished package; its beginning is written into the audit log, its continuations are not."""
    actor.require(services.DOWNLOAD_PERMISSION, "download install packages")
    found = selectors.get_package(actor=actor, package_id=package_id)
    if found.path is None:
        raise NotFound("There is no file: the package is not finished, or it was deleted.")
    response = send_file(request, found.path, name=found.file_name, etag=found.etag)
    if response.status_code == 200:
        services.record_download(actor=actor, package=found)
    return response


def send_file(request: HttpRequest, path: Path, *, name: str, etag: str) -> HttpResponse | StreamingHttpResponse:
    """The file as a download. One byte range is honoured (206), so that a broken download can go on; a range that the
    file does not have is 416; `If-Range` with another etag gets the whole."""
    size = path.stat().st_size
    tag = f'"{etag}"'
    asked = request.headers.get("Range", "")
    if not _RANGE.fullmatch(asked.strip()) or request.headers.get("If-Range", tag) != tag:
        asked = ""
    span = _span(asked, size)
    if span is None:
        refused = HttpResponse(status=416)
        refused["Content-Range"] = f"bytes */{size}"
        return refused
    start, end = span
    file = path.open("rb")
    file.seek(start)
    pieces = _async_pieces(file, end - start) if isinstance(request, ASGIRequest) else _pieces(file, end - start)
    response = StreamingHttpResponse(pieces, status=206 if asked else 200, content_type="application/zip")
    response["Content-Length"] = str(end - start)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = tag
    response["Cache-Control"] = "private, no-store"
    if asked:
        response["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return response


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None for a range outside the file. What is not understood gets the whole."""
    match = _RANGE.fullmatch(asked.strip())
    if not match or match.groups() == ("", ""):
        return (0, size)
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) else None
    start, end = int(first), min(size, int(last) + 1 if last else size)
    return (start, end) if start < end else None


def _pieces(file: IO[bytes], left: int) -> Iterator[bytes]:
    with file:
        while left and (piece := file.read(min(PIECE, left))):
            left -= len(piece)
            yield piece


async def _async_pieces(file: IO[bytes], left: int) -> AsyncIterator[bytes]:
    read = sync_to_async(file.read, thread_sensitive=False)
    try:
        while left and (piece := await read(min(PIECE, left))):
            left -= len(piece)
            yield piece
    finally:
        file.close()
