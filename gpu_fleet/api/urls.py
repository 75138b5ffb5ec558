"""API routes, relative: mounted at /api/ and /api/v1/."""

from django.urls import path

from gpu_fleet.api import agent_views, views

urlpatterns = [
    path("agent/status", agent_views.StatusView.as_view(), name="agent-status"),
    path("agent/machine/manifest/<str:name>", agent_views.ManifestView.as_view(), name="agent-manifest"),
    path("agent/instances", views.AgentInstancesView.as_view(), name="agent-instances"),
    path("agent/instances/<uuid:machine_id>/keep-alive", views.KeepAwakeView.as_view(), name="agent-keep-alive"),
    path("instances", views.InstancesView.as_view(), name="instances"),
    path("instances/offers", views.OffersView.as_view(), name="instance-offers"),
    path("instances/<uuid:machine_id>", views.InstanceView.as_view(), name="instance"),
    path("instances/<uuid:machine_id>/wake", views.WakeView.as_view(), name="instance-wake"),
    path("instances/<uuid:machine_id>/hibernate", views.HibernateView.as_view(), name="instance-hibernate"),
    path("instances/<uuid:machine_id>/sync", views.SyncView.as_view(), name="instance-sync"),
    path("instances/<uuid:machine_id>/keep-alive", views.KeepAwakeView.as_view(), name="instance-keep-alive"),
    path("snapshots", views.SnapshotsView.as_view(), name="snapshots"),
    path("snapshots/<uuid:snapshot_id>", views.SnapshotView.as_view(), name="snapshot"),
    path("snapshots/<uuid:snapshot_id>/restore", views.SnapshotRestoreView.as_view(), name="snapshot-restore"),
    path("snapshots/<uuid:snapshot_id>/verify", views.SnapshotVerifyView.as_view(), name="snapshot-verify"),
    path("settings", views.SettingsView.as_view(), name="gpu-settings"),
]
