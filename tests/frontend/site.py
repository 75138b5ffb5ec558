"""A small site of its own for the front-end tests: every component on two pages, a live socket that obeys orders.

Run as `python -m tests.frontend.site PORT`. Its state is in memory and only what the tests set.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import django
from django import forms
from django.conf import settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSP = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; form-action 'self'; base-uri 'none'"


def csp(get_response: Any) -> Any:
    """The strict policy of the product, on every answer."""

    def middleware(request: Any) -> Any:
        response = get_response(request)
        response["Content-Security-Policy"] = CSP
        return response

    return middleware


settings.configure(
    DEBUG=False,
    DEBUG_PROPAGATE_EXCEPTIONS=True,
    SECRET_KEY="only-for-the-front-end-tests",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.staticfiles", "django.contrib.humanize", "core"],
    MIDDLEWARE=[f"{__name__}.csp", "django.middleware.csrf.CsrfViewMiddleware"],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [HERE / "templates", ROOT / "templates"],
            "APP_DIRS": False,
            "OPTIONS": {
                "context_processors": ["django.template.context_processors.request"],
                "libraries": {"curfew": "core.templatetags.curfew"},
            },
        }
    ],
    STATIC_URL="/static/",
    STATICFILES_DIRS=[ROOT / "static"],
    USE_TZ=True,
    TIME_ZONE="UTC",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.paginator import Paginator  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.shortcuts import render  # noqa: E402
from django.template.loader import render_to_string  # noqa: E402
from django.urls import include, path  # noqa: E402

STATE: dict[str, Any] = {"version": 0, "waking": False, "socket": "open", "hits": 0, "posted": [], "fail": 0}
SOCKETS: set[Any] = set()
STATES = ["awake", "asleep", "waking", "falling", "contested", "trouble", "lost", "unmanaged"]
NAMES = [
    "lark-stage-eu",
    "lark-dev-us",
    "render-a100-1",
    "FLUX Dev",
    "SDXL Turbo",
    "train-4090-2",
    "train-3090-5",
    "build-cache",
]
MENU = [
    ("Home", "home", 0),
    ("Cloud Nodes", "cloud-computing", 1),
    ("GPU Fleet", "cpu", 0),
    ("Tasks", "list-check", 0),
    ("Workers", "server-2", 0),
    ("Clusters", "hexagons", 0),
    ("Hibernation", "calendar-time", 1),
    ("Node Templates", "template", 0),
    ("Optimization Policies", "adjustments-horizontal", 0),
    ("Audit Logs", "history", 1),
    ("Settings", "settings", 0),
]


class ThingForm(forms.Form):
    """One field of each sort."""

    name = forms.CharField(max_length=20, help_text="Shown in every list.")
    email = forms.EmailField(required=False)
    budget = forms.DecimalField(min_value=0)
    kind = forms.ChoiceField(choices=[("a", "Container"), ("b", "Machine")])
    mode = forms.ChoiceField(
        choices=[("x", "Sleep at night"), ("y", "Stay awake")],
        widget=forms.RadioSelect,
        help_text="Changes at the next full minute.",
    )
    warn = forms.BooleanField(required=False, label="Warn people first")
    secret = forms.CharField(widget=forms.HiddenInput, initial="s", required=False)


def frame(request: HttpRequest) -> dict[str, Any]:
    """What the product's frame builder gives."""
    now = dt.datetime.now(dt.UTC)
    return {
        "user": {"name": "Mina Okafor", "email": "mina@larkspur.test", "initials": "MO"},
        "organization": {"name": "Larkspur Studio", "initials": "LS", "role_label": "Operator"},
        "organizations": [
            {"id": "1", "name": "Larkspur Studio", "current": True},
            {"id": "2", "name": "Harbour Lane Games", "current": False},
        ],
        "menu": [
            {
                "label": label,
                "url": f"/?m={label}" if label != "Home" else "/",
                "icon": i,
                "current": label == "Cloud Nodes",
                "gap": bool(g),
                "count": 3 if label == "Tasks" else 0,
            }
            for label, i, g in MENU
        ],
        "money": money(),
        "money_url": "/money",
        "next_curfew": {"at": now + dt.timedelta(hours=4), "label": "FLUX Dev", "saves_per_hour": Decimal("1.21")},
        "sandbox": True,
        "live_url": "/ws/live",
        "search_url": "/search",
        "theme": "",
    }


def money() -> dict[str, Any]:
    return {
        "burn_rate": Decimal("14.62") + STATE["version"],
        "spent_today": Decimal("96.40"),
        "budget": Decimal(180),
        "percent": Decimal("53.6"),
        "currency": "USD",
        "href": "/?intervals=1",
    }


def rows(request: HttpRequest) -> list[dict[str, Any]]:
    now = dt.datetime.now(dt.UTC)
    found = [
        {
            "id": f"n{i}",
            "name": n,
            "state": s,
            "cost": Decimal("1.21") * i or None,
            "since": now - dt.timedelta(minutes=7 * i + 1),
        }
        for i, (n, s) in enumerate(zip(NAMES, STATES, strict=True))
    ]
    words = request.GET.get("search", "").lower()
    found = [row for row in found if words in row["name"].lower()]
    asked = request.GET.get("sort", "name")
    return sorted(found, key=lambda row: row["name"].lower(), reverse=asked.startswith("-"))


def grid_context(request: HttpRequest) -> dict[str, Any]:
    page = Paginator(rows(request), int(request.GET.get("page_size", 5))).get_page(request.GET.get("page"))
    return {
        "page": page,
        "sizes": [5, 25],
        "size": int(request.GET.get("page_size", 5)),
        "version": STATE["version"],
        "waking": STATE["waking"],
        "currency": "USD",
        "grid": {
            "url": "/",
            "target": "#things-grid",
            "search": request.GET.get("search", ""),
            "search_label": "Search things",
            "noun": "things",
            "filters": [
                {
                    "label": "State",
                    "options": [
                        {"label": "Awake", "count": 1, "current": False, "url": "?state=awake"},
                        {"label": "All", "count": 8, "current": True, "url": "?"},
                    ],
                }
            ],
            "columns": [
                {"key": "name", "label": "Name", "shown": True},
                {"key": "cost", "label": "Cost", "shown": False},
            ],
        },
    }


def home(request: HttpRequest) -> HttpResponse:
    context = {
        "frame": frame(request),
        **grid_context(request),
        "form": ThingForm(),
        "bad_form": ThingForm({"email": "x"}, auto_id="bad_%s"),
        "page_title": "Kit",
    }
    if request.headers.get("HX-Request") and request.headers.get("HX-Target", "").endswith("#things-grid"):
        STATE["hits"] += 1
        if STATE["fail"]:
            return HttpResponse("<h1>boom</h1>", status=STATE["fail"])
        return render(request, "kit/grid.html", context)
    operation = {
        "id": "op1",
        "title": "Waking FLUX Dev",
        "status": "running",
        "seconds_left": 41,
        "seconds_total": 60,
        "elapsed_seconds": 19,
        "cancel_url": "/thing",
        "steps": [
            {"label": "Start", "state": "done"},
            {"label": "Load", "state": "doing"},
            {"label": "Check", "state": ""},
        ],
    }
    failed = {
        "id": "op2",
        "title": "Waking Wan Video",
        "status": "failed",
        "elapsed_seconds": 83,
        "retry_url": "/thing",
        "words": "ZONE_RESOURCE_POOL_EXHAUSTED",
    }
    extra = {
        "operation": operation if STATE["waking"] else {**operation, "status": "succeeded"},
        "failed": failed,
        "crumbs": [{"label": "Home", "url": "/"}, {"label": "Kit"}],
        "actions": [
            {"label": "Confirm", "url": "/confirm", "icon": "moon", "dialog": True, "primary": True},
            {"label": "Pictures", "url": "/pictures"},
        ],
        "changes": [
            {"field": "budget", "before": "100", "after": "180"},
            {"field": "owner", "before": None, "after": "Mina"},
        ],
        "spent": Decimal("96.40"),
        "tiny": Decimal("0.0042"),
        "soon": dt.datetime.now(dt.UTC) + dt.timedelta(minutes=9),
    }
    return render(request, "kit/home.html", {**context, **extra})


def pictures(request: HttpRequest) -> HttpResponse:
    hours = [f"{h:02d}" for h in range(24)]
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    stamps = [f"2031-06-12T{h:02d}:00:00Z" for h in range(24)]
    wave = [round(3 + 2 * ((h * 7) % 5) / 5, 2) for h in range(24)]
    table = {"head": ["Hour", "Spent"], "rows": [[h, w] for h, w in zip(hours, wave, strict=True)]}
    sets: dict[str, Any] = {
        "area": {
            "x": stamps,
            "series": [
                {"name": "Capacity", "data": [8] * 24},
                {"name": "Requested", "data": [w + 1 for w in wave]},
                {"name": "Used", "data": wave},
            ],
        },
        "lines": {
            "x": hours,
            "unit": "$",
            "series": [{"name": "AWS", "data": wave}, {"name": "GCP", "data": [w / 2 for w in wave]}],
        },
        "bars": {
            "x": hours,
            "unit": "$",
            "series": [
                {"name": "Spent", "data": wave, "role": "spent"},
                {"name": "Kept", "data": [8 - w for w in wave], "role": "kept"},
            ],
        },
        "burndown": {
            "x": days,
            "ideal": [70, 60, 50, 40, 30, 20, 10],
            "left": [70, 62, 55, 40, None, None, None],
            "forecast": [None, None, None, 40, 31, 22, 12],
        },
        "heatmap": {
            "hours": hours,
            "days": days,
            "unit": "%",
            "max": 100,
            "cells": [[h, d, (h * d * 7) % 100] for d in range(7) for h in range(24)],
        },
        "sunburst": {
            "unit": " nodes",
            "tree": [
                {
                    "name": "Spot",
                    "value": 6,
                    "role": "kept",
                    "children": [{"name": "m7", "value": 4}, {"name": "c7", "value": 2}],
                },
                {"name": "On-demand", "value": 3, "role": "spent", "children": [{"name": "m6", "value": 3}]},
            ],
        },
        "gauge": {"value": 82, "label": "Stability"},
        "spark": {"data": wave},
        "empty": {"x": [], "series": []},
    }
    charts = [
        {
            "id": f"c-{k}",
            "kind": "lines" if k == "empty" else k,
            "label": f"A picture of {k}",
            "data": d,
            "size": "m",
            "table": table if k == "bars" else None,
        }
        for k, d in sets.items()
    ]
    week = [("0" * 8 + "1" * 11 + "0" * 5) if d < 5 else "0" * 24 for d in range(7)]
    return render(
        request,
        "kit/pictures.html",
        {
            "frame": frame(request),
            "charts": charts,
            "week": [{"index": d, "name": days[d], "cells": list(w)} for d, w in enumerate(week)],
            "page_title": "Pictures",
            "loglines": range(1, 4),
        },
    )


def things(request: HttpRequest) -> HttpResponse:
    """The form: 422 with the same form and its errors, or a thank-you and a toast."""
    form = ThingForm(request.POST)
    STATE["posted"].append({key: request.POST.getlist(key) for key in request.POST if key != "csrfmiddlewaretoken"})
    if not form.is_valid():
        return render(request, "kit/form.html", {"form": form}, status=422)
    response = render(request, "kit/form.html", {"form": ThingForm(), "saved": True})
    response["HX-Trigger"] = json.dumps(
        {"toast": {"text": "Saved", "detail": "It works from the next minute.", "kind": "good"}}
    )
    return response


def confirm(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        STATE["posted"].append({"confirm": request.POST.get("which")})
        response = HttpResponse(status=204)
        response["HX-Trigger"] = json.dumps(
            {"dialog:close": {}, "toast": {"text": "Three things fall asleep", "kind": "moon"}}
        )
        return response
    context = {
        "title": "Put 3 things to sleep?",
        "text": "Two stop now, one keeps running.",
        "action": "/confirm",
        "verb": "Put to sleep",
        "currency": "USD",
        "saves_per_hour": Decimal("3.63"),
        "stops": [{"name": "FLUX Dev", "detail": "A10G on AWS", "amount": Decimal("1.21")}],
        "keeps": [{"name": "lark-dev-us", "reason": "pinned by Ada"}],
        "told": "Six people get a message.",
        "hidden": [("which", "n1")],
        "target": "#dialog-host",
    }
    return render(request, "components/confirm_dialog.html", context)


def problem(request: HttpRequest, status: int) -> HttpResponse:
    if status == 401:
        return JsonResponse(
            {"title": "Sign in first", "status": 401}, status=401, content_type="application/problem+json"
        )
    if status in {409, 503}:
        return JsonResponse(
            {"title": "Already under way", "detail": "FLUX Dev is waking.", "status": status, "request_id": "r-17"},
            status=status,
            content_type="application/problem+json",
        )
    return HttpResponse(
        render_to_string(f"errors/{status}.html", {"detail": "Your role is viewer.", "request": request}), status=status
    )


def control(request: HttpRequest) -> JsonResponse:
    """Orders from the tests; answers the state."""
    orders = request.GET.dict()
    if "waking" in orders:
        STATE["waking"] = orders["waking"] == "1"
    STATE["version"] += int(orders.get("bump", 0))
    STATE["fail"] = int(orders.get("fail", STATE["fail"]))
    STATE["socket"] = orders.get("socket", STATE["socket"])
    for queue in list(SOCKETS):
        if "send" in orders:
            queue.put_nowait({"type": "websocket.send", "text": json.dumps({"changes": {orders["send"]: ["n1"]}})})
        if "close" in orders:
            queue.put_nowait({"type": "websocket.close", "code": int(orders["close"])})
    return JsonResponse({**STATE, "sockets": len(SOCKETS)})


def named(request: HttpRequest, *args: Any) -> HttpResponse:
    return render(request, "kit/portal.html", {"form": ThingForm(), "page_title": "Log in"})


async def acontrol(request: HttpRequest) -> JsonResponse:
    return control(request)


accounts = (
    [
        path("login", named, name="login"),
        path("logout", named, name="logout"),
        path("security", named, name="security"),
        path("switch", named, name="switch-organization"),
    ],
    "accounts",
)
urlpatterns = [
    path("", home),
    path("pictures", pictures),
    path("thing", things),
    path("confirm", confirm),
    path("problem/<int:status>", problem),
    path("control", acontrol),
    path("search", home),
    path(
        "money",
        lambda request: render(request, "components/money_meter.html", {"money": money(), "money_url": "/money"}),
    ),
    path("slow", lambda request: HttpResponse("", status=504)),
    path("", include(accounts)),
]
web = ASGIStaticFilesHandler(get_asgi_application())


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """HTTP to Django; the socket says what `control` puts into its queue."""
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return
    if scope["type"] != "websocket":
        await web(scope, receive, send)
        return
    await receive()
    if STATE["socket"] != "open":
        await send({"type": "websocket.close", "code": 1013})
        return
    await send({"type": "websocket.accept"})
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    SOCKETS.add(queue)
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        while not gone.done():
            order = asyncio.ensure_future(queue.get())
            await asyncio.wait({order, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not order.done():
                order.cancel()
                return
            await send(order.result())
            if order.result()["type"] == "websocket.close":
                return
    finally:
        SOCKETS.discard(queue)
        gone.cancel()


async def _until_gone(receive: Any) -> None:
    while True:
        if (await receive())["type"] == "websocket.disconnect":
            return


if __name__ == "__main__":
    import uvicorn

    sys.modules["tests.frontend.site"] = sys.modules["__main__"]
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
