"""Routes of the pages, of the agent's manifest and of the chart repository."""

from django.urls import path

from clusters import discover_views, install_views, overview_views, views, wizard_views
from clusters.sleeping.urls import urlpatterns as sleeping

app_name = "clusters"
urlpatterns = [
    *sleeping,
    path("clusters/", views.registry, name="registry"),
    path("clusters/overview", overview_views.overview, name="overview"),
    path("clusters/compare", views.compare_page, name="compare"),
    path("clusters/upgrade", views.upgrade, name="upgrade"),
    path("clusters/bulk", views.bulk, name="bulk"),
    path("clusters/connect", wizard_views.choose, name="connect"),
    path("clusters/connect/agent", wizard_views.agent, name="connect-agent"),
    path("clusters/connect/kubeconfig", wizard_views.kubeconfig, name="connect-kubeconfig"),
    path("clusters/connect/discover", discover_views.discover, name="discover"),
    path("clusters/connect/found/<uuid:found_id>", discover_views.found, name="found"),
    path("clusters/<uuid:cluster_id>/", views.detail, name="detail"),
    path("clusters/<uuid:cluster_id>/waiting", wizard_views.waiting, name="waiting"),
    path("clusters/<uuid:cluster_id>/preflight", discover_views.preflight, name="preflight"),
    path("clusters/<uuid:cluster_id>/edit", views.edit, name="edit"),
    path("clusters/<uuid:cluster_id>/groups", views.change_group, name="change-group"),
    path("clusters/<uuid:cluster_id>/reinstall", wizard_views.reinstall, name="reinstall"),
    path("clusters/<uuid:cluster_id>/sync", views.sync, name="sync"),
    path("clusters/<uuid:cluster_id>/maintenance", views.maintenance, name="maintenance"),
    path("clusters/<uuid:cluster_id>/disconnect", views.disconnect, name="disconnect"),
    path("install/cluster/<str:token>.yaml", install_views.manifest, name="manifest"),
    path("charts/", install_views.charts, name="charts"),
    path("charts/index.yaml", install_views.charts, name="charts-index"),
    path("charts/<str:file_name>", install_views.chart_file, name="chart-file"),
]
