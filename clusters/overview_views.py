"""The observability dashboard: strictly read-only, every dollar potential or projected."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts import selectors as accounts
from accounts.access import signed_in
from clusters import viewing
from clusters.analysis.composition import Slice
from clusters.analysis.waste import AreaPoint
from clusters.api.analysis_views import account_of
from clusters.selectors.overview import activity_together, potential_of, zone_of
from clusters.selectors.overview import overview as read_overview
from clusters.viewing import activity_chart
from clusters.views import actor_of
from core.htmx import render_page


@signed_in
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """Every connected cluster, or those of one account: grades, waste, composition. There is nothing to press."""
    actor = actor_of(request)
    account_id = account_of(request.GET.get("account", ""))
    found = read_overview(actor=actor, account_id=account_id)
    busy = activity_together(actor=actor, account_id=account_id)
    url = reverse("clusters:overview")
    known = accounts.list_accounts(actor=actor) if actor.can("accounts.view") else []
    scopes = [
        {"label": "All accounts", "url": url, "current": account_id is None},
        *(
            {"label": one.name, "url": f"{url}?{urlencode({'account': one.id})}", "current": one.id == account_id}
            for one in known
        ),
    ]
    context = {
        "page_title": "Observability",
        "o": found,
        "rows": [viewing.row_of(cluster) for cluster in found.clusters],
        "scopes": scopes,
        "wasted_percent": None if found.waste.wasted_share is None else 100 * found.waste.wasted_share,
        "cpu_chart": gap_chart("gap-cpu", found.waste.cpu, "vCPU"),
        "memory_chart": gap_chart("gap-memory", found.waste.memory, "GiB"),
        "fleet_chart": fleet_chart(found.fleet),
        "potential": potential_of(actor=actor, account_id=account_id),
        "activity": busy,
        "activity_zone": zone_of(actor),
        "activity_chart": activity_chart("busy", busy),
        "activity_savings": busy.monthly_savings(found.fleet.hourly),
    }
    return render_page(request, "clusters/overview.html", context, fragment="overview")


def gap_chart(chart_id: str, points: tuple[AreaPoint, ...], unit: str) -> dict[str, Any] | None:
    """Capacity, requested and used; None without two points."""
    if len(points) < 2:
        return None
    columns = {
        "Capacity": [p.capacity for p in points],
        "Requested": [p.requested for p in points],
        "Used": [p.used for p in points],
    }
    rows = [
        [f"{p.at:%d %b %H:%M}", *(None if v is None else round(v, 1) for v in (p.capacity, p.requested, p.used))]
        for p in points[-48:]
    ]
    return {
        "id": chart_id,
        "kind": "area",
        "size": "m",
        "label": f"Capacity, requested and used {unit} over time",
        "data": {
            "unit": f" {unit}",
            "x": [p.at.isoformat() for p in points],
            "series": [
                {"name": name, "data": [None if v is None else round(v, 2) for v in values]}
                for name, values in columns.items()
            ],
        },
        "table": {"head": ["Hour (UTC)", f"Capacity, {unit}", "Requested", "Used"], "rows": rows},
    }


def fleet_chart(fleet: Slice) -> dict[str, Any] | None:
    """Lifecycle, then family; by number of nodes, with what they cost where that is known."""
    if not fleet.nodes:
        return None

    def note(part: Slice) -> str:
        return "no known price" if part.hourly is None else f"${part.hourly:.2f} an hour"

    tree = [
        {
            "name": part.key,
            "value": part.nodes,
            "note": note(part),
            "role": {"spot": "kept", "on-demand": "spent"}.get(part.key, "capacity"),
            "children": [{"name": child.key, "value": child.nodes, "note": note(child)} for child in part.children],
        }
        for part in fleet.children
    ]
    rows = [[f"{p.key}, {c.key}", c.nodes, note(c)] for p in fleet.children for c in p.children]
    return {
        "id": "fleet",
        "kind": "sunburst",
        "size": "m",
        "label": f"{fleet.nodes} nodes by lifecycle and instance family",
        "data": {"tree": tree},
        "table": {"head": ["Lifecycle and family", "Nodes", "Projected"], "rows": rows},
    }
