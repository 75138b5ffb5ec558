"""Limits on calls that guess, create or reach out. Counted per caller, behind trusted proxies only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from core.actor import Actor
from core.middleware import client_ip


class _Throttle(SimpleRateThrottle):
    def get_ident(self, request: Request) -> str:
        return client_ip(request._request)

    def get_cache_key(self, request: Request, view: Any) -> str:
        caller = request.auth.id if isinstance(request.auth, Actor) else self.get_ident(request)
        return str(self.cache_format % {"scope": self.scope, "ident": caller})

    @classmethod
    def page_allows(cls, request: HttpRequest) -> bool:
        """The same limit for a page: counted together with the API, and the request is left as it is."""
        asked: Any = SimpleNamespace(auth=None, _request=request)
        return bool(cls().allow_request(asked, cast(Any, None)))


class LoginThrottle(_Throttle):
    """Log-ins and refreshes, per address."""

    scope = "login"


class SignupThrottle(_Throttle):
    """Sign-ups, per address."""

    scope = "signup"


class ConnectThrottle(_Throttle):
    """Calls that make us ask a cloud, per caller."""

    scope = "connect"
