"""Pages of the audit log: the list, one line, the check of the chain."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_GET

from audit import selectors, services, verification
from audit.enums import Outcome
from audit.forms import FilterForm, verb_choices
from audit.views.common import actor_of
from core import htmx
from core.actor import Actor

SIZE = 50
PILLS: tuple[tuple[dict[str, str], str, str], ...] = (
    ({}, "All", ""),
    ({"who": "people"}, "People", "people"),
    ({"who": "system"}, "System", "system"),
    ({"who": "programs"}, "Programs", "programs"),
    ({"outcome": Outcome.FAILED.value}, "Failed", Outcome.FAILED.value),
    ({"outcome": Outcome.DENIED.value}, "Denied", Outcome.DENIED.value),
)
PERIODS = (("", "All time"), ("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"))


def link(query: QueryDict, **changes: str | None) -> str:
    """The same list with other filters, at its newest window."""
    kept = query.copy()
    for key in ("before", "after"):
        kept.pop(key, None)
    for key, value in changes.items():
        kept.pop(key, None)
        if value:
            kept[key] = value
    return f"?{kept.urlencode()}"


def _toolbar(request: HttpRequest, actor: Actor, filters: selectors.Filters) -> dict[str, Any]:
    without = selectors.Filters(**{**{f: getattr(filters, f) for f in filters.__slots__}, "who": "", "outcome": ""})
    numbers, more = selectors.counts(actor=actor, filters=without)
    pills = []
    for asked, label, key in PILLS:
        current = filters.who == asked.get("who", "") and filters.outcome == asked.get("outcome", "")
        count = f"{numbers[key]:,}+" if more else f"{numbers[key]:,}"
        url = link(request.GET, who=asked.get("who"), outcome=asked.get("outcome"))
        pills.append({"label": label, "count": count, "current": current, "url": url})
    periods = [
        {"label": label, "current": filters.since == key, "url": link(request.GET, since=key)} for key, label in PERIODS
    ]
    return {
        "url": reverse("audit:list"),
        "target": "#audit-grid",
        "search": filters.search,
        "param": "q",
        "search_label": "Actor, verb, target, id",
        "filters": [{"label": "Who and outcome", "options": pills}, {"label": "Period", "options": periods}],
    }


@require_GET
def entry_list(request: HttpRequest) -> HttpResponse:
    """The log, newest first; the address holds filters and place."""
    actor = actor_of(request)
    filters = FilterForm(request.GET).filters(request.organization.timezone)  # type: ignore[attr-defined]
    found = selectors.window(
        actor=actor,
        filters=filters,
        before=request.GET.get("before", ""),
        after=request.GET.get("after", ""),
        size=SIZE,
    )
    narrowed = any(getattr(filters, name) for name in filters.__slots__)
    query = request.GET.copy()
    for key in ("before", "after", "live"):
        query.pop(key, None)
    context = {
        "page_title": "Audit Logs",
        "window": found,
        "grid": _toolbar(request, actor, filters),
        "filters": filters,
        "narrowed": narrowed,
        "following": found.is_newest and request.GET.get("live") != "off",
        "verbs": verb_choices(),
        "kept": query.urlencode(),
        "views": selectors.saved_views(actor=actor),
    }
    return htmx.render_page(request, "audit/list.html", context, fragment="grid")


@require_GET
def entry_detail(request: HttpRequest, entry_id: UUID) -> HttpResponse:
    """One line: before and after, where it came from, its place in the chain. A drawer beside the list, or a page."""
    shown = selectors.get_entry(actor=actor_of(request), entry_id=entry_id)
    context = {"page_title": shown.sentence, "entry": shown, "changes": selectors.changes_of(shown.entry)}
    return htmx.render_page(request, "audit/detail.html", context, fragment="entry")


@require_GET
def chain_check(request: HttpRequest) -> HttpResponse:
    """Recomputes the organization's chain and says what it found."""
    actor = actor_of(request)
    actor.require(selectors.PERMISSION, "verify the audit log")
    services.seal_organization(organization_id=request.organization.id)  # type: ignore[attr-defined]
    verdict = verification.verify_chain(organization_id=request.organization.id)  # type: ignore[attr-defined]
    return htmx.render_page(
        request, "audit/check.html", {"page_title": "Audit log check", "verdict": verdict}, fragment="verdict"
    )
