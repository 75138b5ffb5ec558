"""DRF glue: problems for every error, one pagination, the actor on every view."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from core import problems
from core.actor import Actor
from core.errors import CurfewError, NotSignedIn
from core.providers import ProviderError


class Pages(PageNumberPagination):
    """`?page=&page_size=` with at most 200 rows; `{count, next, previous, results}`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class SignedIn(BasePermission):
    """Any authenticated caller that acts in an organization; agents are refused here and use their own views."""

    def has_permission(self, request: Request, view: Any) -> bool:
        actor = getattr(request, "auth", None)
        found = actor if isinstance(actor, Actor) else getattr(request._request, "actor", None)
        return found is not None and found.kind != "agent"


class CurfewAPIView(APIView):
    """Base of every API view: `self.actor` is who calls."""

    permission_classes = (SignedIn,)

    @property
    def actor(self) -> Actor:
        """The authenticated actor; raises NotSignedIn for an anonymous caller."""
        found = self.request.auth if isinstance(self.request.auth, Actor) else getattr(self.request._request, "actor", None)
        if not isinstance(found, Actor):
            raise NotSignedIn("Send a session cookie, a bearer token or an API key.")
        return found


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Turn anything expected into problem+json; unexpected errors are left to the middleware, which logs them."""
    request = context["request"]._request
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
