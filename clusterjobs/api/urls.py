"""API routes, relative: mounted at /api/ and /api/v1/."""

from django.urls import path

from clusterjobs.api import views

urlpatterns = [
    path("clusters/<uuid:cluster_id>/worker-pool", views.PoolView.as_view(), name="cluster-worker-pool"),
]
