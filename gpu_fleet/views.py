"""Pages of the GPU fleet."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from accounts.access import signed_in
from core.actor import Actor
from core.htmx import render_page
from gpu_fleet import selectors, services


def actor_of(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


@signed_in
@require_GET
def fleet(request: HttpRequest) -> HttpResponse:
    """Every machine."""
    rows = selectors.list_machines(actor=actor_of(request))
    return render_page(request, "gpu_fleet/fleet.html", {"page_title": "GPU Fleet", "rows": rows}, fragment="fleet")


@signed_in
@require_GET
def machine(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """One machine."""
    row = services.find_machine(actor=actor_of(request), machine_id=machine_id)
    return render_page(request, "gpu_fleet/fleet.html", {"page_title": row.name, "rows": [row]}, fragment="fleet")
