"""Pages of operations: the list, one operation, cancel and retry."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from audit import selectors as audit
from core import htmx
from core.actor import Actor
from core.errors import NotSignedIn
from operations import selectors, services
from operations.forms import FilterForm
from operations.models import Operation

SIZES = (25, 50, 100, 200)


def actor_of(request: HttpRequest) -> Actor:
    """Who asks; raises NotSignedIn for a visitor or a person without an organization."""
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None:
        raise NotSignedIn("Log in to see this page.")
    return actor


def _size(query: QueryDict) -> int:
    given = query.get("page_size", "")
    return int(given) if given in {str(s) for s in SIZES} else 50


def _link(query: QueryDict, **changes: str) -> str:
    kept = query.copy()
    kept.pop("page", None)
    for key, value in changes.items():
        kept[key] = value
        if not value:
            del kept[key]
    return f"?{kept.urlencode()}"


def _toolbar(request: HttpRequest, grid: selectors.Grid) -> dict[str, Any]:
    pills = [
        {"label": p.label, "count": p.count, "current": p.current, "url": _link(request.GET, status=p.key)}
        for p in grid.pills
    ]
    return {
        "url": reverse("operations:list"),
        "target": "#operations-grid",
        "search": request.GET.get("q", ""),
        "param": "q",
        "search_label": "Search name, person, error",
        "filters": [{"label": "Status", "options": pills}],
        "noun": "operations",
    }


@require_GET
def operation_list(request: HttpRequest) -> HttpResponse:
    """Every operation of the organization; the address holds the whole state of the list."""
    actor = actor_of(request)
    filters = FilterForm(request.GET).filters()
    size = _size(request.GET)
    grid = selectors.grid(actor=actor, filters=filters, number=request.GET.get("page", "1"), size=size)
    context = {
        "page_title": "Operations",
        "list": grid,
        "page": grid.page,
        "grid": _toolbar(request, grid),
        "sizes": SIZES,
        "size": size,
        "asked_kind": filters.kind,
        "narrowed": bool(filters.search or filters.status or filters.kind),
    }
    return htmx.render_page(request, "operations/list.html", context, fragment="grid")


@require_GET
def operation_detail(request: HttpRequest, operation_id: UUID) -> HttpResponse:
    """One operation: state, steps, what the provider said, what to do next, its lines of the audit log."""
    return _detail(request, selectors.get_operation(actor=actor_of(request), operation_id=operation_id))


def _detail(request: HttpRequest, operation: Operation, trigger: dict[str, Any] | None = None) -> HttpResponse:
    actor = actor_of(request)
    context = {
        "page_title": selectors.line(operation).title,
        "line": selectors.line(operation),
        "operation": operation,
        "retried_from": operation.retry_of,
        "successors": selectors.successors(actor=actor, operation=operation),
        "resource_url": selectors.resource_url(actor=actor, operation=operation),
        "may_control": selectors.may_control(actor, operation),
        "entries": audit.entries_of_operation(actor=actor, operation_id=operation.id)
        if actor.can("audit.view")
        else None,
    }
    return htmx.render_page(request, "operations/detail.html", context, fragment="operation", trigger=trigger)


@require_POST
def operation_cancel(request: HttpRequest, operation_id: UUID) -> HttpResponse:
    """Ask it to stop: the detail again, or only a notice when another page asked (`stay`)."""
    operation = services.cancel_operation(actor=actor_of(request), operation_id=operation_id)
    return _after(request, operation, f"{operation.resource_label}: asked to stop")


@require_POST
def operation_retry(request: HttpRequest, operation_id: UUID) -> HttpResponse:
    """Start it anew, as a new operation."""
    operation = services.retry_operation(actor=actor_of(request), operation_id=operation_id)
    return _after(request, operation, f"{operation.resource_label}: trying again")


def _after(request: HttpRequest, operation: Operation, words: str) -> HttpResponse:
    if htmx.is_fragment(request) and request.POST.get("stay"):
        response = HttpResponse(status=204)
        response["HX-Trigger"] = json.dumps({**htmx.toast(words), "live:operations": {}})
        return response
    return htmx.redirect(request, operation.get_absolute_url())
