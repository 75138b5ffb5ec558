"""Pages of optimization policies."""

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
def policies(request: HttpRequest) -> HttpResponse:
    """The list."""
    context = {"page_title": "Optimization Policies", "rows": selectors.list_policies(actor=_actor(request))}
    return render_page(request, "policies/policies.html", context)


@signed_in
@require_GET
def policy(request: HttpRequest, policy_id: UUID) -> HttpResponse:
    """One of them."""
    row = selectors.get_policy(actor=_actor(request), policy_id=policy_id)
    return render_page(request, "policies/policy.html", {"page_title": row.name, "row": row})
