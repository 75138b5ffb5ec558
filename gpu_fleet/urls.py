"""Routes of the pages."""

from django.urls import path

from gpu_fleet import install_views, standby_views, views

app_name = "gpu_fleet"
urlpatterns = [
    path("gpu-fleet/", views.fleet, name="fleet"),
    path("gpu-fleet/wizard", views.wizard_page, name="wizard"),
    path("gpu-fleet/deploy", views.deploy, name="deploy"),
    path("gpu-fleet/snapshots", views.snapshots, name="snapshots"),
    path("gpu-fleet/snapshots/<uuid:snapshot_id>", views.snapshot_act, name="snapshot"),
    path("gpu-fleet/market", views.market_page, name="market"),
    path("gpu-fleet/savings", views.savings, name="savings"),
    path("gpu-fleet/settings", views.settings, name="settings"),
    path("gpu-fleet/orphans", views.orphans, name="orphans"),
    path("gpu-fleet/orphans/destroy", views.orphan_destroy, name="orphan-destroy"),
    path("gpu-fleet/<uuid:machine_id>/", views.machine, name="machine"),
    path("gpu-fleet/<uuid:machine_id>/wake", views.wake, name="wake"),
    path("gpu-fleet/<uuid:machine_id>/sleep", views.sleep, name="sleep"),
    path("gpu-fleet/<uuid:machine_id>/pause", views.pause, name="pause"),
    path("gpu-fleet/<uuid:machine_id>/snapshot", views.snapshot, name="take-snapshot"),
    path("gpu-fleet/<uuid:machine_id>/keep", views.keep, name="keep"),
    path("gpu-fleet/<uuid:machine_id>/cancel", views.cancel, name="cancel"),
    path("gpu-fleet/<uuid:machine_id>/destroy", views.destroy, name="destroy"),
    path("gpu-fleet/<uuid:machine_id>/move", views.move, name="move"),
    path("gpu-fleet/<uuid:machine_id>/failover", standby_views.failover, name="failover"),
    path("gpu-fleet/<uuid:machine_id>/failback", standby_views.failback, name="failback"),
    path("gpu-fleet/<uuid:machine_id>/standby", standby_views.standby, name="standby"),
    path("install/machine.pyz", install_views.agent, name="agent"),
]
