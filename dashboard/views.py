"""Home, search, and the confirmation that puts any sleepable to sleep or wakes it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods

from accounts import selectors as accounts
from core import htmx, sleepable
from core.actor import Actor
from core.errors import NotFound, NotSignedIn
from core.sleepable import SleepableView
from dashboard import home as homes
from dashboard import search as searching

CURRENCY = "USD"
VERBS = {"sleep": ("Put to sleep", "falls asleep"), "wake": ("Wake", "wakes up")}


def _actor(request: HttpRequest) -> Actor:
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None:
        raise NotSignedIn("Log in first.")
    return actor


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """What is awake, what it costs, what needs a person. A visitor is sent to the portal."""
    if not request.user.is_authenticated:
        return htmx.redirect(request, f"{reverse('accounts:login')}?next=/")
    shown = homes.build(actor=_actor(request), organization=request.organization)  # type: ignore[attr-defined]
    first_time = shown.empty is not None and shown.empty.may_connect and accounts.needs_wizard(request.caller)  # type: ignore[attr-defined]
    context = {"page_title": "Home", "home": shown, "currency": CURRENCY, "first_time": first_time}
    return htmx.render_page(request, "dashboard/home.html", context, fragment="home")


@require_GET
def search(request: HttpRequest) -> HttpResponse:
    """Everything that the words name: a page, or the drop-down under the search box."""
    words = request.GET.get("q", "")[:200]
    groups = searching.find(actor=_actor(request), words=words)
    context = {"page_title": "Search", "words": words, "groups": groups, "count": sum(len(g.hits) for g in groups)}
    return htmx.render_page(request, "dashboard/search.html", context, fragment="results")


@require_http_methods(["GET", "POST"])
def sleepable_action(request: HttpRequest, kind: str, resource_id: UUID, verb: str) -> HttpResponse:
    """GET asks with the blast radius, POST orders it. The order is an operation; nothing waits here for a cloud."""
    actor = _actor(request)
    if verb not in VERBS:
        raise NotFound
    view = sleepable.get(actor, kind, resource_id)
    if request.method == "GET":
        actor.require(sleepable.kind_named(kind).operate, f"{VERBS[verb][0].lower()} {view.name}")
        context = _confirmation(request, view, verb)
        return htmx.render_page(request, "dashboard/confirm.html", context, fragment="dialog")
    registered = sleepable.kind_named(kind)
    request_change = registered.request_sleep if verb == "sleep" else registered.request_wake
    operation_id = request_change(actor, resource_id, reason=f"{VERBS[verb][0]} by hand", options={"cause": "hand"})
    words = (
        f"{view.name} {VERBS[verb][1]}"
        if operation_id
        else f"{view.name} is {'asleep' if verb == 'sleep' else 'awake'} already"
    )
    if htmx.is_fragment(request):
        response = HttpResponse(status=204)
        response["HX-Trigger"] = json.dumps(
            {**htmx.toast(words, "moon" if verb == "sleep" else "info"), "dialog:close": {}, "live:home": {}}
        )
        return response
    messages.info(request, words)
    return htmx.redirect(request, _next(request))


def _next(request: HttpRequest) -> str:
    asked = request.POST.get("next", "")
    return (
        asked
        if url_has_allowed_host_and_scheme(asked, {request.get_host()}, require_https=request.is_secure())
        else "/"
    )


def _confirmation(request: HttpRequest, view: SleepableView, verb: str) -> dict[str, Any]:
    """What stops, what keeps running and why, what it saves; for a wake, what it will cost."""
    sleeping = verb == "sleep"
    protected = sleeping and view.protections
    item = {"name": view.name, "detail": view.detail, "amount": view.hourly_cost}
    saves = None
    if sleeping and not protected and view.hourly_cost is not None:
        saves = view.hourly_cost - view.asleep_hourly_cost
    return {
        "page_title": f"{VERBS[verb][0]} {view.name}",
        "title": f"Put {view.name} to sleep?" if sleeping else f"Wake {view.name}?",
        "text": _text(view, verb),
        "action": request.path,
        "verb": VERBS[verb][0],
        "stops": [item] if sleeping and not protected else [],
        "keeps": [{"name": view.name, "reason": reason} for reason in view.protections] if protected else [],
        "saves_per_hour": saves,
        "currency": CURRENCY,
        "hidden": [("next", request.GET.get("next", ""))],
        "target": "#dialog-host",
    }


def _text(view: SleepableView, verb: str) -> str:
    if verb == "sleep":
        return (
            "It is protected; the order may be refused."
            if view.protections
            else "Whoever uses it now loses the connection. It can be woken at any time."
        )
    words = ["It begins to cost money as soon as it starts."]
    if view.hourly_cost is not None:
        words = [f"It costs ${view.hourly_cost:,.2f} an hour while it is awake."]
    if view.wake_seconds:
        words.append(f"Waking usually takes about {round(view.wake_seconds)} seconds.")
    return " ".join(words)
