"""Pages of money: the ledger, its file, the meter of the top bar."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET

from core import fragments, htmx
from core.actor import Actor
from core.errors import NotSignedIn
from costs import reporting
from costs.enums import Phase
from costs.export import ledger_csv
from costs.forms import LedgerForm

SIZES = (25, 50, 100, 200)


def actor_of(request: HttpRequest) -> Actor:
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None:
        raise NotSignedIn("Log in to see what things cost.")
    return actor


def _link(query: QueryDict, **changes: str) -> str:
    kept = query.copy()
    kept.pop("page", None)
    for key, value in changes.items():
        kept.pop(key, None)
        if value:
            kept[key] = value
    return f"?{kept.urlencode()}"


def _toolbar(request: HttpRequest, filters: reporting.Filters) -> dict[str, Any]:
    query = request.GET
    periods = [
        {"label": label, "current": key == filters.period.key, "url": _link(query, period=key, start="", end="")}
        for key, label in reporting.PERIODS.items()
        if key != "custom"
    ]
    phases = [("", "All"), (Phase.AWAKE.value, Phase.AWAKE.label), (Phase.ASLEEP.value, Phase.ASLEEP.label)]
    shown = [
        {"label": label, "current": key == filters.phase, "url": _link(query, phase=key, cause="")}
        for key, label in phases
    ]
    return {
        "url": reverse("costs:ledger"),
        "target": "#ledger-grid",
        "search": filters.search,
        "param": "q",
        "search_label": "Search resources",
        "filters": [{"label": "Period", "options": periods}, {"label": "Phase", "options": shown}],
    }


@require_GET
def ledger_page(request: HttpRequest) -> HttpResponse:
    """Intervals and the sums over them. Every figure of money elsewhere links here with its filter."""
    actor = actor_of(request)
    filters = LedgerForm(request.GET).filters(request.organization.timezone)  # type: ignore[attr-defined]
    report = reporting.report(actor=actor, filters=filters)
    given = request.GET.get("page_size", "")
    size = int(given) if given in {str(s) for s in SIZES} else 50
    page = Paginator(report.rows, size).get_page(request.GET.get("page"))
    context = {
        "page_title": "Ledger",
        "report": report,
        "page": page,
        "sizes": SIZES,
        "size": size,
        "filters": filters,
        "one": next(iter(report.resources), None) if filters.resource_id else None,
        "grid": _toolbar(request, filters),
        "currency": "USD",
        "custom": {"start": request.GET.get("start", ""), "end": request.GET.get("end", "")},
    }
    return htmx.render_page(request, "costs/ledger.html", context, fragment="grid")


@require_GET
def meter(request: HttpRequest) -> HttpResponse:
    """The meter of the top bar, re-fetched when money changes."""
    actor = actor_of(request)
    actor.require("costs.view", "see what things cost")

    def context() -> dict[str, Any]:
        facts = reporting.meter_facts(actor=actor, organization=request.organization)  # type: ignore[attr-defined]
        return {"page_title": "Money now", "money": facts, "money_url": reverse("costs:meter")}

    if htmx.is_fragment(request):
        shared = fragments.sharing(actor, ("money",))
        return fragments.answer(request, shared.rendered(request, "costs/meter.html#meter", context))
    return htmx.render_page(request, "costs/meter.html", context())


@require_GET
def export(request: HttpRequest) -> StreamingHttpResponse:
    """The ledger of the page's filter as a CSV file."""
    actor = actor_of(request)
    filters = LedgerForm(request.GET).filters(request.organization.timezone)  # type: ignore[attr-defined]
    name = f"curfew-ledger-{filters.period.start:%Y-%m-%d}-{filters.period.key}.csv"
    return StreamingHttpResponse(
        ledger_csv(actor=actor, filters=filters),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
