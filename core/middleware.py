"""Request ids, the caller's address behind trusted proxies, and errors as HTML or problem+json."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from core import denials, problems, request_context
from core.errors import CurfewError, NotSignedIn
from core.htmx import is_fragment

log = logging.getLogger(__name__)
_SAFE_ID = re.compile(r"^[A-Za-z0-9._-]{8,64}$")
GetResponse = Callable[[HttpRequest], HttpResponse]


def client_ip(request: HttpRequest) -> str:
    """The address of the caller: REMOTE_ADDR, or the last hop not ours in X-Forwarded-For when a trusted proxy spoke."""
    return address_behind(request.META.get("REMOTE_ADDR", ""), request.headers.get("X-Forwarded-For", ""))


def address_behind(remote: str, forwarded: str) -> str:
    """The same from the peer's address and the header, for sockets."""
    trusted = [ipaddress.ip_network(n) for n in settings.CURFEW_TRUSTED_PROXIES]

    def ours(text: str) -> bool:
        try:
            return any(ipaddress.ip_address(text) in n for n in trusted)
        except ValueError:
            return False

    if not ours(remote):
        return remote
    for hop in reversed([h.strip() for h in forwarded.split(",") if h.strip()]):
        if not ours(hop):
            try:
                return str(ipaddress.ip_address(hop))
            except ValueError:
                return remote
    return remote


class RequestIdMiddleware:
    """Gives each request an id (accepts a well-formed one from the caller), returns it, binds it to the log."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _SAFE_ID.match(given) else request_context.new_request_id()
        request.request_id = request_id  # type: ignore[attr-defined]
        token = request_context.request_id.set(request_id)
        reads = request_context.reads.set({} if request.method in {"GET", "HEAD"} else None)
        try:
            response = self.get_response(request)
        finally:
            request_context.reads.reset(reads)
            request_context.request_id.reset(token)
        response["X-Request-ID"] = request_id
        return response


class ErrorMiddleware:
    """Translates CurfewError raised by any view: problem+json under the API paths, a page or a short message elsewhere."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with denials.told(request):
            response = self.get_response(request)
        if problems.is_api_path(request.path) and response.status_code >= 400:
            return problems.ensure_problem(request, response)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, CurfewError):
            return error_response(request, exception)
        if isinstance(exception, SuspiciousOperation):
            return self._refuse(request, exception)
        if problems.is_api_path(request.path) or is_fragment(request):
            log.error("unhandled_error", extra={"path": request.path}, exc_info=exception)
            return problems.problem(
                request, 500, "internal", "Something broke on our side", "The error was recorded under the request id."
            )
        return None

    @staticmethod
    def _refuse(request: HttpRequest, exception: SuspiciousOperation) -> HttpResponse | None:
        """A body too large, too many fields: a problem for programs; Django's own 400 page for people."""
        if not (problems.is_api_path(request.path) or is_fragment(request)):
            return None
        if isinstance(exception, RequestDataTooBig):
            return problems.problem(request, 413, "too_large", detail="The body is larger than this server reads.")
        return problems.problem(request, 400, "bad_request")


def error_response(request: HttpRequest, error: CurfewError) -> HttpResponse:
    """One expected error as the caller can read it."""
    denials.note(error, getattr(request, "actor", None))
    if problems.is_api_path(request.path) or is_fragment(request):
        return problems.from_error(request, error)
    if isinstance(error, NotSignedIn):
        return redirect_to_login(request.get_full_path() if request.method == "GET" else "/")
    status = error.status if error.status in (400, 401, 403, 404, 409, 429, 503) else 400
    response = render(
        request, f"errors/{status}.html", {"reason": error.message, "page_title": error.title}, status=status
    )
    retry_after = getattr(error, "retry_after", None)
    if retry_after:
        response["Retry-After"] = str(retry_after)
    return response
