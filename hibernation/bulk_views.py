"""Putting many resources on one schedule: those that are ticked, or everything that matches."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts.access import signed_in
from core.actor import Actor
from core.errors import Conflict, InvalidInput
from core.htmx import redirect, render_page
from hibernation import selectors, services
from hibernation.enums import PERMISSION_MANAGE
from hibernation.forms import read_resources

OFF = "off"
MOST = 1000


def _filters(request: HttpRequest) -> selectors.BulkFilters:
    given = request.GET
    return selectors.BulkFilters(
        given.get("search", "")[:100],
        given.get("kind", "")[:40],
        given.get("tag", "")[:200],
        given.get("follows", "")[:40],
    )


@signed_in
@require_http_methods(["GET", "POST"])
def assign(request: HttpRequest) -> HttpResponse:
    """GET lists what can follow a schedule; POST puts what was chosen on one, or takes it off."""
    actor: Actor = request.actor  # type: ignore[attr-defined]
    given = request.GET
    size = int(given["page_size"]) if given.get("page_size", "").isdigit() else 50
    filters = _filters(request)
    found = selectors.bulk(actor=actor, filters=filters, number=given.get("page", 1), size=size)
    if request.method == "POST":
        actor.require(PERMISSION_MANAGE, "put resources on schedules")
        try:
            messages.success(request, _apply(actor, request, found))
        except (Conflict, InvalidInput) as refused:
            words = [word for each in getattr(refused, "errors", {}).values() for word in each]
            messages.warning(request, " ".join(words) or refused.message)
        return redirect(request, request.get_full_path())
    context = {
        "page_title": "Put on schedules",
        "bulk": found,
        "page": found.page,
        "sizes": [50, 100, 200],
        "size": size,
        "filters": filters,
        "narrowed": filters != selectors.BulkFilters(),
        "may_manage": actor.can(PERMISSION_MANAGE),
        "off": OFF,
        "url": reverse("hibernation:assign"),
    }
    return render_page(request, "hibernation/assign.html", context, fragment="grid")


def _apply(actor: Actor, request: HttpRequest, found: selectors.Bulk) -> str:
    """Do what the form says; the words for a person."""
    chosen = found.matching if request.POST.get("all") else read_resources(request.POST, "resources")
    if not chosen:
        raise InvalidInput(errors={"resources": ["Tick something first, or choose everything that matches."]})
    if len(chosen) > MOST:
        raise InvalidInput(errors={"resources": [f"At most {MOST:,} at once; narrow the list, by a tag for example."]})
    to = request.POST.get("schedule", "")
    if to == OFF:
        return f"{services.unassign_all(actor=actor, resources=chosen)} taken off their schedules"
    try:
        schedule_id = UUID(to)
    except ValueError:
        raise InvalidInput(errors={"schedule": ["Choose a schedule."]}) from None
    added = services.assign(actor=actor, schedule_id=schedule_id, resources=chosen)
    name = selectors.get_schedule(actor=actor, schedule_id=schedule_id).name
    return f"{added} of {len(chosen)} are new on {name}"
