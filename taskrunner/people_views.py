"""Pages for admins: people with what they run, and what happened to tasks and workers."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET

from core import htmx
from taskrunner import selectors
from taskrunner.enums import WORKERS_MANAGE
from taskrunner.models import Quota
from taskrunner.views import actor_of


def limit_words(quota: Quota | None) -> str:
    """The limits of one person in a line; empty when there is none."""
    if quota is None:
        return ""
    said = (
        (quota.most_queued, "{} not ended"),
        (quota.most_running, "{} running"),
        (None if quota.most_cpu is None else quota.most_cpu / 1000, "{:g} cores"),
        (quota.most_memory, "{} MiB"),
        (quota.most_gpus, "{} GPUs"),
    )
    return ", ".join(words.format(most) for most, words in said if most is not None)


def _person(row: dict[str, Any]) -> dict[str, Any]:
    sums = row["sums"]
    return {
        "user": row["member"].user,
        "role": row["member"].get_role_display(),
        "running": sums.get("running", 0),
        "waiting": sums.get("waiting", 0),
        "succeeded": sums.get("succeeded", 0),
        "failed": sums.get("failed", 0),
        "cancelled": sums.get("cancelled", 0),
        "ran": sums.get("ran"),
        "limits": limit_words(row["quota"]),
    }


@require_GET
def people(request: HttpRequest) -> HttpResponse:
    """Every member with role, limits and what their tasks come to."""
    actor = actor_of(request)
    context = {
        "page_title": "People and their tasks",
        "rows": [_person(row) for row in selectors.list_people(actor=actor)],
        "may_limit": actor.can(WORKERS_MANAGE),
    }
    return htmx.render_page(request, "taskrunner/people.html", context, fragment="people")


@require_GET
def events(request: HttpRequest) -> HttpResponse:
    """What happened to tasks and workers, newest first: lines of the audit log."""
    actor = actor_of(request)
    search = request.GET.get("q", "").strip()[:200]
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    context = {
        "page_title": "Events of tasks and workers",
        "window": selectors.events(actor=actor, search=search, before=before, after=after),
        "grid": {
            "url": reverse("taskrunner:events"),
            "target": "#events-grid",
            "search": search,
            "param": "q",
            "search_label": "Search events",
        },
        "narrowed": bool(search),
    }
    return htmx.render_page(request, "taskrunner/events.html", context, fragment="grid")
