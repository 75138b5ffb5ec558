"""Routes of the pages."""

from django.urls import path

from gpu_fleet import install_views, views

app_name = "gpu_fleet"
urlpatterns = [
    path("gpu-fleet/", views.fleet, name="fleet"),
    path("gpu-fleet/<uuid:machine_id>/", views.machine, name="machine"),
    path("install/machine.pyz", install_views.agent, name="agent"),
]
