"""What the settings pages share."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse

from accounts.access import caller_of
from core import menu
from core.htmx import redirect, render_page


def settings_page(
    request: HttpRequest, template: str, context: dict[str, Any], *, fragment: str = "", status: int = 200
) -> HttpResponse:
    """A page of Settings with its menu; the entry with the longest matching address is the current one."""
    entries = menu.settings_menu(caller_of(request).actor, request.path)
    nearest = max((str(e["url"]) for e in entries if request.path.startswith(str(e["url"]))), key=len, default="")
    shown = [{**entry, "current": entry["url"] == nearest} for entry in entries]
    return render_page(request, template, {"settings_menu": shown, **context}, fragment=fragment, status=status)


def done(request: HttpRequest, url: str, words: str) -> HttpResponse:
    """After a successful POST: say it on the next page, and go there."""
    messages.success(request, words)
    return redirect(request, url)
