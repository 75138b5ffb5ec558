"""Pages: which clusters run tasks, and how much of each."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from clusterjobs import selectors, services
from clusterjobs.forms import NAMES, OfferForm
from clusters import selectors as clusters
from core import htmx
from core.errors import CurfewError, InvalidInput, NotFound
from taskrunner.enums import WORKERS_MANAGE
from taskrunner.views import actor_of


@require_GET
def offers(request: HttpRequest) -> HttpResponse:
    """Every cluster, with what it offers."""
    actor = actor_of(request)
    context = {
        "page_title": "Clusters that run tasks",
        "offers": selectors.list_offers(actor=actor),
        "may_manage": actor.can(WORKERS_MANAGE) and actor.can("clusters.manage"),
    }
    return htmx.render_page(request, "clusterjobs/offers.html", context)


@require_http_methods(["GET", "POST"])
def offer(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Let a cluster run tasks, or change how."""
    actor = actor_of(request)
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    for permission in ("clusters.manage", WORKERS_MANAGE):
        actor.require(permission, "let clusters run tasks")
    try:
        pool = selectors.get_pool(actor=actor, cluster_id=cluster_id)
    except NotFound:
        pool = None
    form = OfferForm(request.POST if request.method == "POST" else None, cluster=cluster, pool=pool)
    if request.method == "POST" and form.is_valid():
        save = services.change if pool else services.offer
        try:
            save(actor=actor, cluster_id=cluster_id, fields=form.chosen())
            return htmx.redirect(request, reverse("clusterjobs:offers"))
        except InvalidInput as wrong:
            for name, words in wrong.errors.items():
                field = NAMES.get(name, name)
                form.add_error(field if field in form.fields else None, " ".join(words))
        except CurfewError as refused:
            form.add_error(None, refused.message)
    context = {"page_title": cluster.name, "cluster": cluster, "pool": pool, "form": form}
    return htmx.render_page(request, "clusterjobs/offer.html", context, status=422 if form.errors else 200)


@require_POST
def withdraw(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """The cluster runs no more tasks."""
    services.withdraw(actor=actor_of(request), cluster_id=cluster_id)
    return htmx.redirect(request, reverse("clusterjobs:offers"))
