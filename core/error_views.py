"""Django's own error handlers: problem+json under the API paths, pages elsewhere."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from core import denials, problems


def _answer(request: HttpRequest, status: int, code: str) -> HttpResponse:
    if problems.is_api_path(request.path):
        return problems.problem(request, status, code)
    return render(request, f"errors/{status}.html", {"request_id": getattr(request, "request_id", "")}, status=status)


def bad_request(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return _answer(request, 400, "bad_request")


def forbidden(request: HttpRequest, exception: Any = None) -> HttpResponse:
    denials.note(exception or PermissionDenied(), getattr(request, "actor", None))
    return _answer(request, 403, "forbidden")


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return _answer(request, 404, "not_found")


def server_error(request: HttpRequest) -> HttpResponse:
    return _answer(request, 500, "internal")
