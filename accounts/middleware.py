"""Puts `request.actor` and `request.organization` on every request of a signed-in person."""

from __future__ import annotations

from collections.abc import Callable

from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse

from accounts import selectors
from core import marks
from core.middleware import client_ip


class ActorMiddleware:
    """Resolves the session's person and organization once per request; anonymous requests get None."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.actor = request.caller = request.organization = None  # type: ignore[attr-defined]
        if request.user.is_authenticated:
            caller = selectors.caller_for(
                request.user,
                request.session.get(selectors.SESSION_ORG),
                request_id=getattr(request, "request_id", ""),
                ip=client_ip(request),
                user_agent=request.headers.get("User-Agent", "")[:300],
            )
            if caller:
                request.caller, request.actor, request.organization = caller, caller.actor, caller.organization  # type: ignore[attr-defined]
        return self.get_response(request)


class SessionActivityMiddleware:
    """Notes when a browser session was last seen, at most once a minute: not a write on every request."""

    every_seconds = 60

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.session.session_key and request.user.is_authenticated and self._due(request.session.session_key):
            UserSession.objects.create_from_request(request)
        return self.get_response(request)

    def _due(self, key: str) -> bool:
        name = f"session-seen:{key}"
        return marks.due(name, self.every_seconds) and cache.add(name, 1, self.every_seconds)
