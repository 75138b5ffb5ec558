"""What machines fetch to install the agent: the filled manifest, the chart repository."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from clusters import services
from clusters.inventory import install

IMAGE = "curfew-agent"


@require_GET
@never_cache
def manifest(request: HttpRequest, token: str) -> HttpResponse:
    """The manifest of one cluster, for whoever has its short-lived address; each fetch makes a token of its own.

    `?orders=1` lets the agent carry out signed orders, `?webhook=1` adds the placement webhook.
    """
    cluster, agent_token = services.mint_for_manifest(enrolment=token)
    orders, webhook = (request.GET.get(name) == "1" for name in ("orders", "webhook"))
    image = f"{IMAGE}:{install.chart().app_version}"
    text = install.manifest(
        url=settings.CURFEW_BASE_URL,
        token=agent_token,
        cluster_name=cluster.name,
        image=image,
        orders_key=services.orders_key(cluster) if orders or webhook else "",
        orders=orders,
        webhook=webhook,
    )
    response = HttpResponse(text, content_type="application/yaml")
    response["Referrer-Policy"] = "no-referrer"
    return response


@require_GET
def charts(request: HttpRequest) -> HttpResponse:
    """The index of the chart repository."""
    created = "2026-01-01T00:00:00Z"
    index = install.chart_index(f"{settings.CURFEW_BASE_URL}/charts", created=created)
    return HttpResponse(index, content_type="application/yaml")


@require_GET
def chart_file(request: HttpRequest, file_name: str) -> HttpResponse:
    """The packed chart."""
    found = install.chart()
    if file_name != found.file_name:
        raise Http404
    response = HttpResponse(found.data, content_type="application/gzip")
    response["ETag"] = f'"{found.digest}"'
    return response
