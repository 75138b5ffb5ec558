"""Pages of clusters: the registry, one cluster in four tabs, side by side, and what their buttons do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.access import signed_in
from clusters import extensions, selectors, services, viewing
from clusters.enums import Method, Span
from clusters.forms import EditForm, GroupForm, PoolForm
from clusters.inventory import install
from clusters.models import Cluster, Summary
from clusters.providers.groups import GroupKind
from clusters.selectors.compare import compare
from clusters.selectors.found import last_operation
from clusters.selectors.money import burndown
from clusters.selectors.overview import activity_of, zone_of
from clusters.sleeping.selectors import strip_of
from core import clock
from core.actor import Actor
from core.errors import Conflict, InvalidInput
from core.htmx import redirect, render_page
from operations.models import Operation

SIZES = (25, 50, 100, 200)
TABS = (
    ("overview", "Overview and health"),
    ("nodes", "Node groups"),
    ("workloads", "Workloads"),
    ("compliance", "Compliance and drift"),
)
MOST_ROWS = 50


def actor_of(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


def _say(text: str, kind: str = "good") -> dict[str, Any]:
    return {"toast": {"text": text, "kind": kind}}


@signed_in
@require_GET
def registry(request: HttpRequest) -> HttpResponse:
    """Every cluster; the address holds the whole state of the list."""
    query = request.GET
    filters = selectors.Filters(query.get("search", ""), query.get("pill", ""), query.get("sort", "-cost"))
    size = int(query.get("page_size", "")) if query.get("page_size", "") in {str(s) for s in SIZES} else 50
    found = selectors.get_registry(actor=actor_of(request), filters=filters, number=query.get("page", "1"), size=size)
    context = {
        "page_title": "Clusters",
        "heads_up": found.heads_up,
        "page": found.page,
        "rows": [viewing.row_of(cluster) for cluster in found.page.object_list],
        "grid": viewing.toolbar(query, found, reverse("clusters:registry")),
        "sizes": SIZES,
        "size": size,
        "narrowed": bool(filters.search or filters.pill),
        "may_manage": actor_of(request).can("clusters.manage"),
        "may_operate": actor_of(request).can("clusters.operate"),
        "may_read_log": actor_of(request).can("audit.view"),
        "bulk_more": [
            {"action": one, "choices": choices}
            for one in extensions.bulk_actions(actor_of(request))
            if (choices := list(one.choices(actor_of(request))))
        ],
    }
    return render_page(request, "clusters/registry.html", context, fragment="grid")


@signed_in
@require_GET
def detail(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """One cluster; `?tab=` chooses what of it."""
    return _show_detail(request, selectors.get_cluster(actor=actor_of(request), cluster_id=cluster_id))


def _show_detail(request: HttpRequest, cluster: Cluster, trigger: dict[str, Any] | None = None) -> HttpResponse:
    actor = actor_of(request)
    tab = request.GET.get("tab", "overview")
    tab = tab if tab in dict(TABS) else "overview"
    summary = selectors.summary_of(actor=actor, cluster=cluster)
    alerts = selectors.alerts_of(actor=actor, cluster=cluster)
    sleeping, row = strip_of(actor=actor, cluster=cluster), viewing.row_of(cluster)
    if sleeping.operation is not None or sleeping.snapshot is not None:
        row = replace(row, badge=sleeping.state)
    context = {
        "page_title": cluster.name,
        "cluster": cluster,
        "row": row,
        "tab": tab,
        "tabs": [{"key": key, "label": label, "current": key == tab} for key, label in TABS],
        "summary": summary,
        "alerts": alerts,
        "may_operate": actor.can("clusters.operate"),
        "may_manage": actor.can("clusters.manage"),
        "sleeping": sleeping,
        "notices": extensions.notices(actor, cluster),
        **_tab_context(request, cluster, tab, summary),
    }
    return render_page(request, "clusters/detail.html", context, fragment="cluster", trigger=trigger)


def _tab_context(request: HttpRequest, cluster: Cluster, tab: str, summary: Summary | None) -> dict[str, Any]:
    actor = actor_of(request)
    if tab == "overview":
        since = clock.now() - timedelta(hours=24)
        samples = selectors.samples_of(actor=actor, cluster=cluster, span=Span.FIVE_MINUTES, since=since)
        busy = activity_of(actor=actor, cluster=cluster)
        nodes = selectors.nodes_of(actor=actor, cluster=cluster, sort="group")[: viewing.MOST_TOPOLOGY]
        return {
            "cpu_chart": viewing.area_chart("capacity-cpu", samples, "cpu"),
            "memory_chart": viewing.area_chart("capacity-memory", samples, "memory"),
            "activity": busy,
            "activity_zone": zone_of(actor),
            "activity_chart": viewing.activity_chart("busy", busy),
            "activity_savings": busy.monthly_savings(cluster.hourly_cost),
            "burndown": (month := burndown(actor=actor, cluster=cluster)),
            "burndown_chart": viewing.burndown_chart(month),
            "topology": viewing.topology(list(nodes), summary.groups if summary else []),
        }
    if tab == "nodes":
        rows = selectors.nodes_of(
            actor=actor, cluster=cluster, search=request.GET.get("search", ""), sort=request.GET.get("sort", "name")
        )
        page = Paginator(rows, MOST_ROWS).get_page(request.GET.get("page", "1"))
        page.object_list = list(page.object_list)
        return {
            "page": page,
            "groups": viewing.group_rows(summary),
            "may_change_pools": services.can_change_pools(cluster),
            "doing": last_operation_of(request, cluster),
        }
    if tab == "workloads":
        return {
            "namespaces": viewing.usage_rows(summary.namespaces[:MOST_ROWS]) if summary else [],
            "workloads": viewing.usage_rows(summary.workloads[:MOST_ROWS]) if summary else [],
            "spot_percent": 100 * ((summary.insights.get("spot") or {}).get("score") or 0) if summary else None,
        }
    found = summary.insights.get("drift") if summary else None
    return {"drift": found, "sources": [{"name": name, **told} for name, told in sorted(cluster.sources.items())]}


@signed_in
@require_POST
def sync(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Sync now."""
    try:
        row = services.sync_now(actor=actor_of(request), cluster_id=cluster_id)
    except Conflict as refused:
        cluster = selectors.get_cluster(actor=actor_of(request), cluster_id=cluster_id)
        return _answer(request, cluster, refused.message, "warn")
    return _answer(request, row, f"{row.name} will report with its next heartbeat.")


def last_operation_of(request: HttpRequest, cluster: Cluster) -> Operation | None:
    """The newest change of a node group."""
    return last_operation(actor=actor_of(request), kind=services.GROUP_CHANGE, resource_id=cluster.id)


@signed_in
@require_POST
def change_group(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """New limits of a node group, and spot or on-demand where that can be chosen."""
    actor = actor_of(request)
    cluster = selectors.get_cluster(actor=actor, cluster_id=cluster_id)
    back = f"{cluster.get_absolute_url()}?tab=nodes"
    of_karpenter = request.POST.get("kind") == GroupKind.KARPENTER.value
    form = PoolForm(request.POST) if of_karpenter else GroupForm(request.POST)
    change = services.request_pool_change if of_karpenter else services.request_group_change
    if not form.is_valid():
        raise InvalidInput("; ".join(str(words) for errors in form.errors.values() for words in errors))
    try:
        change(actor=actor, cluster_id=cluster_id, **form.asked())
    except InvalidInput as refused:
        raise InvalidInput(" ".join(words for errors in refused.errors.values() for words in errors)) from None
    return redirect(request, back)


@signed_in
@require_POST
def maintenance(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """The maintenance switch."""
    actor = actor_of(request)
    if request.POST.get("on") == "1":
        row = services.begin_maintenance(actor=actor, cluster_id=cluster_id, reason=request.POST.get("reason", ""))
        return _answer(request, row, f"Automated actions on {row.name} are paused.")
    row = services.end_maintenance(actor=actor, cluster_id=cluster_id)
    return _answer(request, row, f"Automated actions on {row.name} go on.")


def _answer(request: HttpRequest, row: Cluster, words: str, kind: str = "good") -> HttpResponse:
    if not getattr(request, "htmx", None):
        return redirect(request, row.get_absolute_url())
    cluster = selectors.get_cluster(actor=actor_of(request), cluster_id=row.id)
    return _show_detail(request, cluster, _say(words, kind))


@signed_in
@require_http_methods(["GET", "POST"])
def disconnect(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Ask first, naming what happens; then forget the cluster."""
    actor = actor_of(request)
    actor.require("clusters.manage", "disconnect clusters")
    cluster = selectors.get_cluster(actor=actor, cluster_id=cluster_id)
    errors: list[str] = []
    if request.method == "POST":
        if request.POST.get("name", "").strip() == cluster.name:
            services.disconnect_cluster(actor=actor, cluster_id=cluster_id)
            return redirect(request, reverse("clusters:registry"))
        errors = [f"Type the cluster's name, {cluster.name}, to disconnect it."]
    context = {"page_title": f"Disconnect {cluster.name}", "cluster": cluster, "errors": errors}
    return render_page(request, "clusters/disconnect.html", context, status=422 if errors else 200)


def _ids(texts: list[str]) -> list[UUID]:
    try:
        return [UUID(text) for text in texts]
    except ValueError:
        raise InvalidInput("The form names something that is not a cluster. Reload the page and try again.") from None


@signed_in
@require_GET
def compare_page(request: HttpRequest) -> HttpResponse:
    """Two to six clusters side by side."""
    ids = _ids(request.GET.getlist("id"))
    if not 2 <= len(ids) <= 6:
        raise InvalidInput("Choose two to six clusters to compare.")
    found = compare(actor=actor_of(request), ids=ids)
    return render_page(request, "clusters/compare.html", {"page_title": "Compare clusters", "found": found})


@signed_in
@require_GET
def upgrade(request: HttpRequest) -> HttpResponse:
    """Which of the chosen clusters run an older agent, and the commands that bring them up to date."""
    actor = actor_of(request)
    actor.require("clusters.manage", "upgrade agents")
    rows = selectors.chosen(actor=actor, ids=_ids(request.GET.getlist("id")))
    latest = install.chart()
    old = [row for row in rows if row.method == Method.AGENT and row.agent_version != latest.app_version]
    context = {
        "page_title": "Upgrade agents",
        "lines": [{"cluster": row, "old": row in old} for row in rows],
        "latest": latest.app_version,
        "commands": viewing.upgrade_commands(old, latest.version),
    }
    return render_page(request, "clusters/upgrade.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """What a person says about a cluster, and its budget."""
    actor = actor_of(request)
    actor.require("clusters.manage", "change clusters")
    cluster = selectors.get_cluster(actor=actor, cluster_id=cluster_id)
    names = ("name", "environment", "region", "team", "owner", "monthly_budget")
    form = EditForm(request.POST or None, initial={name: getattr(cluster, name) for name in names})
    if request.method == "POST" and form.is_valid():
        try:
            services.update_cluster(actor=actor, cluster_id=cluster_id, **form.cleaned_data)
        except InvalidInput as refused:
            for field, words in refused.errors.items():
                form.add_error(field if field in form.fields else None, words)
        else:
            return redirect(request, cluster.get_absolute_url())
    context = {"page_title": f"Settings of {cluster.name}", "cluster": cluster, "form": form}
    return render_page(request, "clusters/edit.html", context, status=422 if form.errors else 200)


@signed_in
@require_POST
def bulk(request: HttpRequest) -> HttpResponse:
    """One action on the chosen clusters; Compare leads to its page."""
    ids = _ids(request.POST.getlist("id"))
    action = request.POST.get("action", "")
    if action in ("compare", "upgrade"):
        return redirect(request, f"{reverse(f'clusters:{action}')}?{'&'.join(f'id={i}' for i in ids)}")
    more = extensions.bulk_action(action)
    if more is not None and ids:
        services.apply_to_many(actor=actor_of(request), ids=ids, action=more, choice=request.POST.get(action, ""))
        return redirect(request, reverse("clusters:registry"))
    if not ids or action not in ("sync", "maintenance_on", "maintenance_off"):
        raise InvalidInput("Choose clusters and what to do with them.")
    services.act_on_many(actor=actor_of(request), ids=ids, action=action)
    return redirect(request, reverse("clusters:registry"))
