"""Pages of node templates."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from accounts.access import signed_in
from core.actor import Actor
from core.htmx import render_page
from policies import selectors


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


@signed_in
@require_GET
def templates(request: HttpRequest) -> HttpResponse:
    """The list."""
    context = {"page_title": "Node Templates", "rows": selectors.list_templates(actor=_actor(request))}
    return render_page(request, "policies/templates.html", context)


@signed_in
@require_GET
def template(request: HttpRequest, template_id: UUID) -> HttpResponse:
    """One of them."""
    row = selectors.get_template(actor=_actor(request), template_id=template_id)
    return render_page(request, "policies/template.html", {"page_title": row.name, "row": row})
