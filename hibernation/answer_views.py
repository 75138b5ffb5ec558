"""Pages that only answer: why something is on, what was switched, what was saved, and the restore file."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts.access import signed_in
from core.actor import Actor
from core.htmx import render_page
from hibernation import selectors
from hibernation.enums import PERMISSION_MANAGE, PERMISSION_OPERATE, Outcome, Wanted

CURRENCY = "USD"
DURATIONS = (("1h", "1 hour"), ("4h", "4 hours"), ("until_monday", "Until Monday"))


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


def _timezone(request: HttpRequest) -> str:
    zone: str = request.organization.timezone  # type: ignore[attr-defined]
    return zone


@signed_in
@require_GET
def why(request: HttpRequest, kind: str, resource_id: UUID) -> HttpResponse:
    """Why is it still on (or off)? Every rule with what it says, and which one decides."""
    actor = _actor(request)
    found = selectors.why(actor=actor, kind=kind, resource_id=resource_id)
    context = {
        "page_title": f"Why is {found.view.name} {found.view.state.value}?",
        "why": found,
        "durations": DURATIONS,
        "may_operate": actor.can(PERMISSION_OPERATE) and not found.view.protections,
        "may_manage": actor.can(PERMISSION_MANAGE),
        "currency": CURRENCY,
    }
    return render_page(request, "hibernation/why.html", context)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


@signed_in
@require_GET
def history(request: HttpRequest) -> HttpResponse:
    """Every sleep and wake, with its steps and how long it took."""
    actor, given = _actor(request), request.GET
    desired = given.get("what", "") if given.get("what", "") in Wanted.values else ""
    outcome = given.get("outcome", "") if given.get("outcome", "") in Outcome.values else ""
    filters = selectors.HistoryFilters(
        _uuid(given.get("schedule", "")),
        _uuid(given.get("resource", "")),
        desired,
        outcome,
        given.get("search", "")[:100],
    )
    size = int(given["page_size"]) if given.get("page_size", "").isdigit() else 50
    page, rows = selectors.history(actor=actor, filters=filters, number=given.get("page", 1), size=size)
    context = {
        "page_title": "History of sleeps and wakes",
        "rows": rows,
        "page": page,
        "sizes": [25, 50, 100],
        "size": size,
        "narrowed": bool(any((filters.schedule_id, filters.resource_id, desired, outcome, filters.search))),
        "grid": _toolbar(request, filters, page.paginator.count),
    }
    return render_page(request, "hibernation/history.html", context, fragment="grid")


def _toolbar(request: HttpRequest, filters: selectors.HistoryFilters, count: int) -> dict[str, Any]:
    def option(param: str, value: str, label: str, current: str) -> dict[str, Any]:
        query = request.GET.copy()
        query.pop("page", None)
        query.pop(param, None)
        if value:
            query[param] = value
        return {"label": label, "url": f"?{query.urlencode()}", "current": current == value}

    what = [("", "All"), (Wanted.ASLEEP.value, "Sleeps"), (Wanted.AWAKE.value, "Wakes")]
    outcomes = [("", "Any outcome"), *Outcome.choices]
    return {
        "url": reverse("hibernation:history"),
        "target": "#history-grid",
        "search": filters.search,
        "search_label": "Search by name",
        "noun": "entries",
        "count": count,
        "filters": [
            {"label": "What", "options": [option("what", v, label, filters.desired) for v, label in what]},
            {
                "label": "Outcome",
                "options": [option("outcome", v, str(label), filters.outcome) for v, label in outcomes],
            },
        ],
    }


@signed_in
@require_GET
def savings(request: HttpRequest) -> HttpResponse:
    """What sleeping really saved in a month, by resource, team and person, from the ledger."""
    found = selectors.savings(actor=_actor(request), timezone=_timezone(request), month=request.GET.get("month", ""))
    ledger = f"{reverse('costs:ledger')}?period=custom&start={found.first}&end={found.last}"
    context = {"page_title": "Savings", "s": found, "ledger": ledger, "currency": CURRENCY}
    return render_page(request, "hibernation/savings.html", context)


@signed_in
@require_GET
def restore(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """What follows a schedule, as a file with which it can be woken by hand."""
    found = selectors.restore_file(actor=_actor(request), schedule_id=schedule_id)
    response = JsonResponse(found, json_dumps_params={"indent": 1})
    response["Content-Disposition"] = f'attachment; filename="curfew-restore-{schedule_id}.json"'
    return response
