"""API routes, relative: mounted at /api/ and /api/v1/."""

from django.urls import path

from gpu_fleet.api import agent_views, market_views, views

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
    path("instances/<uuid:machine_id>/pause", views.PauseView.as_view(), name="instance-pause"),
    path("instances/<uuid:machine_id>/resume", views.ResumeView.as_view(), name="instance-resume"),
    path("instances/<uuid:machine_id>/migrate", views.MigrateView.as_view(), name="instance-migrate"),
    path("instances/<uuid:machine_id>/migrate/estimate", views.MigrateEstimateView.as_view(), name="migrate-estimate"),
    path("instances/<uuid:machine_id>/keep-alive", views.KeepAwakeView.as_view(), name="instance-keep-alive"),
    path("snapshots", views.SnapshotsView.as_view(), name="snapshots"),
    path("snapshots/<uuid:snapshot_id>", views.SnapshotView.as_view(), name="snapshot"),
    path("snapshots/<uuid:snapshot_id>/restore", views.SnapshotRestoreView.as_view(), name="snapshot-restore"),
    path("snapshots/<uuid:snapshot_id>/verify", views.SnapshotVerifyView.as_view(), name="snapshot-verify"),
    path("settings", views.SettingsView.as_view(), name="gpu-settings"),
    path("spot/monitor", market_views.MonitorView.as_view(), name="spot-monitor"),
    path("spot/savings", market_views.SpotSavingsView.as_view(), name="spot-savings"),
    path("spot/interruption-rates", market_views.InterruptionView.as_view(), name="spot-interruptions"),
    path("spot/safe-windows/<str:gpu>", market_views.SafeWindowsView.as_view(), name="spot-windows"),
    path("spot/llm-gpus", market_views.LlmGpusView.as_view(), name="spot-llm"),
    path("spot/prediction/<str:gpu>", market_views.PredictionView.as_view(), name="spot-prediction"),
    path("spot/availability", market_views.AvailabilityView.as_view(), name="spot-availability"),
    path("spot/reliability", market_views.ReliabilityView.as_view(), name="spot-reliability"),
    path("spot/training-cost", market_views.TrainingCostView.as_view(), name="spot-training"),
    path("spot/fleet-strategy", market_views.FleetStrategyView.as_view(), name="spot-strategy"),
    path("metrics", market_views.MetricsView.as_view(), name="gpu-metrics"),
    path("metrics/savings/real", market_views.SavingsView.as_view(), name="gpu-savings"),
    path("metrics/savings/history", market_views.SavingsHistoryView.as_view(), name="gpu-savings-history"),
    path("hibernation/events", market_views.HibernationEventsView.as_view(), name="gpu-hibernations"),
    path("ai-wizard/analyze", market_views.WizardView.as_view(), name="ai-wizard"),
]
