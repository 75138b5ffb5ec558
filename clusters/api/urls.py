"""API routes, relative: mounted at /api/ and /api/v1/."""

from django.urls import path

from clusters.api import agent_views, analysis_views, views

urlpatterns = [
    path("agent/cluster/heartbeat", agent_views.HeartbeatView.as_view(), name="agent-cluster-heartbeat"),
    path("agent/cluster/orders/<uuid:order_id>", agent_views.OrderAnswerView.as_view(), name="agent-order-answer"),
    path("agent/cluster/snapshot", agent_views.SnapshotView.as_view(), name="agent-cluster-snapshot"),
    path("clusters", views.ClusterListView.as_view(), name="clusters"),
    path("clusters/compare", views.CompareView.as_view(), name="clusters-compare"),
    path("clusters/bulk", views.BulkView.as_view(), name="clusters-bulk"),
    path("clusters/overview", analysis_views.OverviewView.as_view(), name="clusters-overview"),
    path("clusters/<uuid:cluster_id>", views.ClusterView.as_view(), name="cluster"),
    path("clusters/<uuid:cluster_id>/nodes", views.NodesView.as_view(), name="cluster-nodes"),
    path("clusters/<uuid:cluster_id>/node-groups", views.GroupsView.as_view(field="groups"), name="cluster-groups"),
    path(
        "clusters/<uuid:cluster_id>/namespaces",
        views.SummaryListView.as_view(field="namespaces"),
        name="cluster-namespaces",
    ),
    path(
        "clusters/<uuid:cluster_id>/workloads",
        views.SummaryListView.as_view(field="workloads"),
        name="cluster-workloads",
    ),
    path("clusters/<uuid:cluster_id>/drift", views.DriftView.as_view(), name="cluster-drift"),
    path("clusters/<uuid:cluster_id>/alerts", views.AlertsView.as_view(), name="cluster-alerts"),
    path("clusters/<uuid:cluster_id>/history", views.HistoryView.as_view(), name="cluster-history"),
    path("clusters/<uuid:cluster_id>/sync", views.SyncView.as_view(), name="cluster-sync"),
    path("clusters/<uuid:cluster_id>/maintenance", views.MaintenanceView.as_view(), name="cluster-maintenance"),
    path("clusters/<uuid:cluster_id>/efficiency", analysis_views.EfficiencyView.as_view(), name="cluster-efficiency"),
    path("clusters/<uuid:cluster_id>/bin-packing", analysis_views.BinPackingView.as_view(), name="cluster-bin-packing"),
    path(
        "clusters/<uuid:cluster_id>/fleet-composition", analysis_views.FleetView.as_view(), name="cluster-composition"
    ),
    path("clusters/<uuid:cluster_id>/spot-readiness", analysis_views.SpotReadinessView.as_view(), name="cluster-spot"),
    path("clusters/<uuid:cluster_id>/stability", analysis_views.StabilityView.as_view(), name="cluster-stability"),
    path("clusters/<uuid:cluster_id>/compliance", analysis_views.ComplianceView.as_view(), name="cluster-compliance"),
    path("clusters/<uuid:cluster_id>/activity", analysis_views.ActivityView.as_view(), name="cluster-activity"),
]
