"""The page of a cluster's placement, and the table of what is Unmanaged there."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.access import signed_in
from core.actor import Actor
from core.errors import InvalidInput
from core.htmx import redirect, render_page
from policies.enums import PERMISSION_MANAGE
from policies.placement import selectors, services
from policies.placement.models import Way


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


@signed_in
@require_GET
def page(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Page and fragment."""
    return _show(request, cluster_id)


def _show(
    request: HttpRequest, cluster_id: UUID, *, errors: dict[str, list[str]] | None = None, status: int = 200
) -> HttpResponse:
    actor = _actor(request)
    found = selectors.placement_of(actor=actor, cluster_id=cluster_id)
    context = {
        "page_title": f"Placement of {found.cluster.name}",
        "p": found,
        "unmanaged": selectors.unmanaged(actor=actor, cluster_id=cluster_id),
        "ways": Way.choices,
        "errors": errors or {},
        "may_manage": actor.can(PERMISSION_MANAGE),
    }
    return render_page(request, "policies/placement.html", context, fragment="placement", status=status)


@signed_in
@require_POST
def choose(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """How rules reach its pods."""
    minutes = request.POST.get("fallback_minutes", "")
    try:
        services.choose(
            actor=_actor(request),
            cluster_id=cluster_id,
            way=request.POST.get("way", ""),
            fallback_minutes=int(minutes) if minutes.isdigit() and len(minutes) < 6 else 0,
        )
    except InvalidInput as bad:
        return _show(request, cluster_id, errors=dict(bad.errors), status=422)
    return redirect(request, reverse("policies:placement", args=[cluster_id]))
