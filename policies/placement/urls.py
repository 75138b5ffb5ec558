"""Routes of placement, under the namespace of policies."""

from django.urls import path

from policies.placement import views

urlpatterns = [
    path("policies/placement/<uuid:cluster_id>/", views.page, name="placement"),
    path("policies/placement/<uuid:cluster_id>/way", views.choose, name="placement-way"),
]
