"""Sending a download piece by piece, whichever server asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from audit.services import Download


def stream(request: HttpRequest, download: Download, sidecar_url: str) -> StreamingHttpResponse:
    """The file as an attachment; memory stays constant under ASGI too. `Link` and `X-Export-Id` name the sidecar."""
    pieces = _one_by_one(download.chunks) if isinstance(request, ASGIRequest) else download.chunks
    response = StreamingHttpResponse(pieces, content_type=download.content_type)
    response["Content-Disposition"] = f'attachment; filename="{download.file_name}"'
    response["X-Export-Id"] = str(download.export.id)
    response["Link"] = f'<{sidecar_url}>; rel="describedby"'
    response["Cache-Control"] = "no-store"
    return response


async def _one_by_one(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece is made when the last one was sent, in a thread, so that nothing piles up."""
    take = sync_to_async(lambda: next(chunks, None), thread_sensitive=True)
    while (piece := await take()) is not None:
        yield piece
