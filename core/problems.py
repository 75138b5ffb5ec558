"""application/problem+json (RFC 9457): the one error shape of the API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse

from core import request_context
from core.errors import CurfewError, InvalidInput
from core.providers import ProviderError

CONTENT_TYPE = "application/problem+json"
_API_PREFIXES = ("/api/", "/budgetguard/api/", "/kube/")
_TITLES = {
    400: "The request cannot be read",
    401: "Sign in first",
    403: "Not allowed",
    404: "There is nothing here",
    405: "This method is not offered here",
    406: "This format is not offered",
    409: "Conflict",
    413: "Too large",
    415: "This content type is not read here",
    422: "Some fields need another look",
    429: "Too many requests",
    500: "Something broke on our side",
    503: "A part that this needs is not answering",
}


def is_api_path(path: str) -> bool:
    return path.startswith(_API_PREFIXES)


def problem(
    request: HttpRequest,
    status: int,
    code: str,
    title: str = "",
    detail: str = "",
    errors: Mapping[str, Any] | None = None,
    **extra: Any,
) -> HttpResponse:
    """Build the response; `errors` maps fields to messages for bad input."""
    request_id = getattr(request, "request_id", "") or request_context.request_id.get()
    body: dict[str, Any] = {
        "type": f"about:blank#{code}",
        "title": title or _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        **({"errors": errors} if errors else {}),
        **{k: v if isinstance(v, (int, float, bool, type(None), dict, list)) else str(v) for k, v in extra.items()},
    }
    return HttpResponse(json.dumps(body), status=status, content_type=CONTENT_TYPE)


def from_error(request: HttpRequest, error: CurfewError) -> HttpResponse:
    """Translate an expected error."""
    errors = error.errors if isinstance(error, InvalidInput) else None
    response = problem(request, error.status, error.code, error.title, error.message, errors, **error.extra)
    retry_after = getattr(error, "retry_after", None)
    if retry_after:
        response["Retry-After"] = str(retry_after)
    return response


UNANSWERED = frozenset({"unreachable", "timed_out"})


def from_provider_error(request: HttpRequest, error: ProviderError) -> HttpResponse:
    """A cloud said no: 422 for what the caller can mend, 503 with Retry-After for what time mends."""
    response = problem(
        request,
        503 if error.transient else 422,
        error.code,
        "The cloud does not answer" if error.code in UNANSWERED else "The cloud said no",
        error.message,
        next_step=error.next_step,
    )
    if error.transient:
        response["Retry-After"] = str(int(getattr(error, "retry_after", None) or 10))
    return response


def ensure_problem(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Replace an HTML error page under an API path (Django's own 400, 404, CSRF failure) with a problem."""
    kind = response.headers.get("Content-Type", "")
    if kind.startswith((CONTENT_TYPE, "application/json", "text/plain")) or response.streaming:
        return response
    codes = {404: "not_found", 403: "forbidden", 400: "bad_request", 405: "method_not_allowed"}
    return problem(request, response.status_code, codes.get(response.status_code, "error"))
