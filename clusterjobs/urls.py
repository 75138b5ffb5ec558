"""Routes."""

from django.urls import path

from clusterjobs import views

app_name = "clusterjobs"
urlpatterns = [
    path("workers/clusters", views.offers, name="offers"),
    path("workers/clusters/<uuid:cluster_id>", views.offer, name="offer"),
    path("workers/clusters/<uuid:cluster_id>/withdraw", views.withdraw, name="withdraw"),
]
