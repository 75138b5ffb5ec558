"""A machine's own repository, passed on to the organization's remote; restic's REST protocol. See docs/gpu-fleet.md."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from core import problems
from core.errors import Forbidden
from core.later import Handover, Headers, Receive, Send
from core.providers import ProviderError
from gpu_fleet import services
from gpu_fleet.providers import passing

PASSED = ("Accept", "Content-Type", "Range")


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST", "DELETE"])
def repository(request: HttpRequest, owner_id: UUID, name: str) -> HttpResponse:
    """One file of the repository, or a list of them. The pass stands in a basic `Authorization` header: 401 without one,
    403 when it is over or for another, and for what a machine may not do; 413 for what is too large."""
    try:
        way = services.admit(authorization=request.headers.get("Authorization", ""), owner_id=owner_id)
    except ProviderError as refused:
        return problems.from_provider_error(request, refused)
    method = str(request.method)
    if not passing.allowed(method, name):
        raise Forbidden(
            "A machine may read its repository, add to it, and remove locks; nothing else.", code="not_here"
        )
    length = 0
    if method == "POST":
        given = request.headers.get("Content-Length", "")
        if not given.isdecimal():
            return problems.problem(request, 411, "length_required", "Tell how long it is")
        length = int(given)
        if length > passing.largest(name):
            return problems.problem(request, 413, "too_large", detail=f"At most {passing.largest(name)} bytes.")
    asked = passing.Asked(
        way.who,
        method,
        f"{way.folder}/{name}",
        length,
        {header: request.headers[header] for header in PASSED if header in request.headers},
    )

    async def take(receive: Receive, send: Send, headers: Headers) -> None:
        await passing.pass_on(asked, way.serve, way.remove, receive, send, headers)

    return Handover(take)
