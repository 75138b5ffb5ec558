"""Translation of every expected error of an API view to problem+json."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from rest_framework import exceptions

from core import denials, problems
from core.errors import CurfewError
from core.providers import ProviderError


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Turn anything expected into problem+json; unexpected errors are left to the middleware, which logs them."""
    request = context["request"]._request
    denials.note(error, getattr(context["request"], "_auth", None) or getattr(request, "actor", None))
    if isinstance(error, CurfewError):
        return problems.from_error(request, error)
    if isinstance(error, ProviderError):
        return problems.from_provider_error(request, error)
    if isinstance(error, Http404):
        return problems.problem(request, 404, "not_found")
    if isinstance(error, PermissionDenied):
        return problems.problem(request, 403, "forbidden", detail=str(error))
    if isinstance(error, exceptions.ValidationError):
        errors = error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
        return problems.problem(request, 422, "invalid", errors=_plain(errors))
    if isinstance(error, exceptions.APIException):
        return _from_drf(request, error)
    return None


def _from_drf(request: Any, error: exceptions.APIException) -> HttpResponse:
    code = error.get_codes() if isinstance(error.detail, str) else "error"
    response = problems.problem(request, error.status_code, str(code), detail=str(error.detail))
    wait = getattr(error, "wait", None)
    if wait:
        response["Retry-After"] = str(int(wait) + 1)
    header = getattr(error, "auth_header", None)
    if header:
        response["WWW-Authenticate"] = header
    return response


def _plain(errors: Any) -> Any:
    if isinstance(errors, dict):
        return {key: _plain(value) for key, value in errors.items()}
    if isinstance(errors, list):
        return [_plain(value) for value in errors]
    return str(errors)
