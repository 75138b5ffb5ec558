"""Routes of the pages."""

from django.urls import path

from cloudnodes import automatic_views, declare_views, package_views, views

app_name = "cloudnodes"
urlpatterns = [
    path("cloud-nodes/", views.grid, name="grid"),
    path("cloud-nodes/dialog", views.dialog, name="dialog"),
    path("cloud-nodes/apply", views.apply, name="apply"),
    path("cloud-nodes/all", views.everything, name="all"),
    path("cloud-nodes/refresh", views.refresh, name="refresh"),
    path("cloud-nodes/automatic", automatic_views.automatic_page, name="automatic"),
    path("cloud-nodes/runs", automatic_views.runs_page, name="runs"),
    path("cloud-nodes/declare", declare_views.declare_page, name="declare"),
    path("cloud-nodes/declare/example.csv", declare_views.example, name="declare-example"),
    path("cloud-nodes/drift", declare_views.drift_page, name="drift"),
    path("cloud-nodes/drift/untold", declare_views.untold, name="untold"),
    path("cloud-nodes/<uuid:node_id>/withdraw", declare_views.withdraw, name="withdraw"),
    path("cloud-nodes/favourites/start", automatic_views.start_favourites, name="favourites-start"),
    path("cloud-nodes/<uuid:node_id>/keep", automatic_views.keep, name="keep"),
    path("cloud-nodes/<uuid:node_id>/favourite", automatic_views.favourite, name="favourite"),
    path("cloud-nodes/packages/", package_views.packages, name="packages"),
    path("cloud-nodes/packages/<uuid:package_id>/", package_views.package, name="package"),
    path("cloud-nodes/packages/<uuid:package_id>/download", package_views.download, name="package-download"),
    path("cloud-nodes/packages/<uuid:package_id>/delete", package_views.delete, name="package-delete"),
    path("cloud-nodes/packages/<uuid:package_id>/install", package_views.install, name="package-install"),
    path("cloud-nodes/<uuid:node_id>/", views.detail, name="detail"),
    path("cloud-nodes/<uuid:node_id>/wake", views.wake, name="wake"),
    path("cloud-nodes/<uuid:node_id>/sleep", views.sleep, name="sleep"),
    path("cloud-nodes/<uuid:node_id>/cancel", views.cancel, name="cancel"),
    path("cloud-nodes/<uuid:node_id>/look", views.look, name="look"),
    path("cloud-nodes/<uuid:node_id>/dismiss", views.dismiss, name="dismiss"),
]
