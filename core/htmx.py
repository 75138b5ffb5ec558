"""One template for a page and its htmx fragment."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.cache import patch_vary_headers

_frame_builder: Callable[[HttpRequest], dict[str, Any]] | None = None


def set_frame_builder(builder: Callable[[HttpRequest], dict[str, Any]]) -> None:
    """The dashboard app provides what the page frame shows (menu, money, person); registered once at start."""
    global _frame_builder
    _frame_builder = builder


def is_fragment(request: HttpRequest) -> bool:
    """True for an htmx request that wants a part of the page."""
    details = getattr(request, "htmx", None)
    return (
        bool(details)
        and not getattr(details, "history_restore_request", False)
        and request.headers.get("HX-Request-Type") != "full"
    )


def render_page(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    *,
    fragment: str = "",
    status: int = 200,
    trigger: dict[str, Any] | None = None,
) -> HttpResponse:
    """Render `template`, or only its partial `fragment` when htmx asks for a part.

    The context must hold evaluated data: templates never query. `trigger` becomes the HX-Trigger header.
    """
    if fragment and is_fragment(request):
        response = TemplateResponse(request, f"{template}#{fragment}", context, status=status)
    else:
        frame = _frame_builder(request) if _frame_builder and request.user.is_authenticated else {}
        response = TemplateResponse(request, template, {"frame": frame, **context}, status=status)
    patch_vary_headers(response, ["HX-Request"])
    if trigger:
        response["HX-Trigger"] = json.dumps(trigger)
    response.render()
    return response


def redirect(request: HttpRequest, url: str) -> HttpResponse:
    """After a successful POST: an ordinary redirect, or HX-Redirect when htmx sent the form."""
    if is_fragment(request):
        response = HttpResponse(status=204)
        response["HX-Redirect"] = url
        return response
    return HttpResponseRedirect(url)


def toast(text: str, kind: str = "info") -> dict[str, Any]:
    """An HX-Trigger payload that shows a toast; kind is info, good, warn or bad."""
    return {"toast": {"text": text, "kind": kind}}
