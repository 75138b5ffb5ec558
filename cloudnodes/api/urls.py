"""API routes, relative: mounted at /api/, /api/v1/ and /budgetguard/api/. Each answers with and without a slash at the end."""

from __future__ import annotations

from django.urls import URLPattern, path
from rest_framework.views import APIView

from cloudnodes.api import automatic_views, cost_views, package_views, views


def both(route: str, view: type[APIView], name: str) -> list[URLPattern]:
    """The route, and the same with a slash; only the first is in the schema."""
    return [path(route, view.as_view(), name=name), path(f"{route}/", view.as_view(schema=None))]


urlpatterns: list[URLPattern] = [
    *both("cloud-nodes/status", views.StatusView, "cloud-nodes-status"),
    *both("cloud-nodes/start", views.StartView, "cloud-nodes-start"),
    *both("cloud-nodes/stop", views.StopView, "cloud-nodes-stop"),
    *both("cloud-nodes/apply", views.ApplyView, "cloud-nodes-apply"),
    *both("cost-estimate", cost_views.CostEstimateView, "cost-estimate"),
    *both("cost-actual", cost_views.CostActualView, "cost-actual"),
    *both("nodes/ensure", automatic_views.EnsureView, "nodes-ensure"),
    *both("nodes/<uuid:node_id>/keep-alive", automatic_views.KeepView, "node-keep-alive"),
    *both("nodes/<uuid:node_id>/rule", automatic_views.RuleView, "node-rule"),
    *both("nodes/<uuid:node_id>/favourite", automatic_views.FavouriteView, "node-favourite"),
    *both("workflow-runs", automatic_views.RunsView, "workflow-runs"),
    *both("workflow-runs/<str:workflow_id>/finish", automatic_views.RunFinishView, "workflow-run-finish"),
    *both("install-packages", package_views.PackageListView, "install-packages"),
    *both("install-packages/<uuid:package_id>", package_views.PackageView, "install-package"),
    *both("install-packages/<uuid:package_id>/download", package_views.PackageDownloadView, "install-package-download"),
    *both("spend/today", cost_views.SpendTodayView, "spend-today"),
]
