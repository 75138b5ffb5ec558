"""Doors of the pages: signed in, and a member of some organization."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.cache import never_cache

from accounts.selectors import Caller
from core.errors import Forbidden
from core.htmx import is_fragment

View = Callable[..., HttpResponse]


def login_url(request: HttpRequest) -> str:
    """The log-in, coming back to the page that was asked for."""
    back = request.get_full_path() if request.method == "GET" and not is_fragment(request) else ""
    return reverse("accounts:login") + (f"?{urlencode({'next': back})}" if back and back != "/" else "")


def signed_in(view: View) -> View:
    """Send strangers to the log-in (a fragment is told to, by HX-Redirect), and refuse who belongs to no organization."""

    @wraps(view)
    @never_cache
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            if is_fragment(request):
                answer = HttpResponse(status=401)
                answer["HX-Redirect"] = login_url(request)
                return answer
            return HttpResponseRedirect(login_url(request))
        if getattr(request, "actor", None) is None:
            raise Forbidden(
                "You are not a member of any organization. Ask somebody to add you, or sign up with another address."
            )
        return view(request, *args, **kwargs)

    return guarded


def caller_of(request: HttpRequest) -> Caller:
    """Who is behind a request that passed `signed_in`."""
    caller: Caller = request.caller  # type: ignore[attr-defined]
    return caller
