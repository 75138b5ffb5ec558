"""Pages of rightsizing: all clusters, the report of one, and its buttons."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.access import signed_in
from core.actor import Actor
from core.errors import Conflict, InvalidInput, InvalidState
from core.htmx import redirect, render_page
from policies.enums import PERMISSION_VIEW
from policies.rightsizing import selectors, services, viewing

A_PAGE = 50


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


@signed_in
@require_GET
def clusters(request: HttpRequest) -> HttpResponse:
    """Every cluster with what resizing would save there."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see recommendations")
    context = {
        "page_title": "Rightsizing",
        "gold": selectors.gold(actor=actor),
        "rows": [(one, viewing.basis_words(one), selectors.stale(one)) for one in selectors.list_reports(actor=actor)],
    }
    return render_page(request, "policies/rightsizing/clusters.html", context)


@signed_in
@require_GET
def report(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Who would change, from what to what, for how much, and the reason for every hold."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see recommendations")
    overview = selectors.get_overview(actor=actor, cluster_id=cluster_id)
    show, search = request.GET.get("show", "all"), request.GET.get("search", "")[:120]
    found = selectors.list_rows(overview, show=show, search=search)
    page = Paginator(viewing.report_rows(found, overview), A_PAGE).get_page(request.GET.get("page", "1"))
    may_operate = actor.can(services.OPERATE)
    url = reverse("policies:rightsizing", args=[cluster_id])
    context = {
        "page_title": f"Rightsizing of {overview.cluster.name}",
        "overview": overview,
        "cluster": overview.cluster,
        "report": overview.report,
        "basis": viewing.basis_words(overview.report) if overview.report else "",
        "stale": overview.report is not None and selectors.stale(overview.report),
        "page": page,
        "grid": viewing.pills(request.GET, overview.report, url, show, search),
        "changes": viewing.change_rows(selectors.list_changes(actor=actor, cluster_id=cluster_id), may_operate),
        "may_apply": may_operate and overview.applies and not overview.refused,
    }
    return render_page(request, "policies/rightsizing/report.html", context, fragment="grid")


@signed_in
@require_GET
def patches(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """The changes as manifests."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see recommendations")
    overview = selectors.get_overview(actor=actor, cluster_id=cluster_id)
    text = viewing.patches(selectors.list_rows(overview, show="changes"))
    answer = HttpResponse(text, content_type="application/yaml")
    answer["Content-Disposition"] = 'attachment; filename="requests.yaml"'
    return answer


@signed_in
@require_POST
def apply(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """One recommendation, now."""
    try:
        wanted = UUID(request.POST.get("recommendation", ""))
    except ValueError:
        raise InvalidInput(errors={"recommendation": ["This is not the id of a recommendation."]}) from None
    try:
        services.request_resize(actor=_actor(request), cluster_id=cluster_id, recommendation_id=wanted)
    except (Conflict, InvalidState) as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, "It is being changed, and watched afterwards.")
    return redirect(request, reverse("policies:rightsizing", args=[cluster_id]))


@signed_in
@require_POST
def take_back(request: HttpRequest, cluster_id: UUID, change_id: UUID) -> HttpResponse:
    """The former requests of a workload."""
    selectors.get_overview(actor=_actor(request), cluster_id=cluster_id)
    try:
        services.request_rollback(actor=_actor(request), change_id=change_id)
    except (Conflict, InvalidState) as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, "It gets back what it requested before.")
    return redirect(request, reverse("policies:rightsizing", args=[cluster_id]))
