"""Who calls the API: bearer JWT, API key, agent token, or the browser's session (with CSRF)."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from accounts import selectors
from accounts.facts import facts_of_request


def facts_of(request: Request) -> dict[str, str]:
    return facts_of_request(request._request)


class _HeaderAuthentication(BaseAuthentication):
    """`Authorization: <keyword> <token>`; another keyword is left to the next class."""

    keyword = ""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        keyword, _, text = request.headers.get("Authorization", "").partition(" ")
        if keyword.lower() != self.keyword.lower() or not text.strip():
            return None
        found = self.resolve(text.strip(), request)
        if found is None:
            raise AuthenticationFailed(f"The {self.keyword} credential is not valid or has expired.")
        return found

    def resolve(self, text: str, request: Request) -> tuple[Any, Any] | None:
        raise AuthenticationFailed

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BearerAuthentication(_HeaderAuthentication):
    keyword = "Bearer"

    def resolve(self, text: str, request: Request) -> tuple[Any, Any] | None:
        actor = selectors.actor_of_access_token(text, **facts_of(request))
        return (actor, actor) if actor else None


class ApiKeyAuthentication(_HeaderAuthentication):
    keyword = "Api-Key"

    def resolve(self, text: str, request: Request) -> tuple[Any, Any] | None:
        actor = selectors.actor_of_api_key(text, **facts_of(request))
        return (actor, actor) if actor else None


class AgentAuthentication(_HeaderAuthentication):
    """Agents authenticate as kind `agent`; ordinary views refuse them."""

    keyword = "Agent"

    def resolve(self, text: str, request: Request) -> tuple[Any, Any] | None:
        row = selectors.agent_token(text)
        if row is None or row.enrolment:
            return None
        actor = selectors.actor_of_agent(row, **facts_of(request))
        request._request.agent_token = row  # type: ignore[attr-defined]
        return actor, actor


class SessionAuthentication(BaseAuthentication):
    """The browser's own session; unsafe methods need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        django_request = request._request
        actor = getattr(django_request, "actor", None)
        if actor is None:
            return None
        check = CSRFCheck(lambda _: None)  # type: ignore[arg-type]
        check.process_request(django_request)
        reason = check.process_view(django_request, lambda _: HttpResponse(), (), {})
        if reason:
            raise PermissionDenied(f"CSRF check failed: {reason}")
        return django_request.user, actor
