"""Routes."""

from django.urls import path

from operations import person_views, views

app_name = "operations"
urlpatterns = [
    path("operations/", views.operation_list, name="list"),
    path("operations/<uuid:operation_id>/", views.operation_detail, name="detail"),
    path("operations/<uuid:operation_id>/cancel", views.operation_cancel, name="cancel"),
    path("operations/<uuid:operation_id>/retry", views.operation_retry, name="retry"),
    path("settings/my-data", person_views.my_data, name="my-data"),
    path("settings/my-data/export", person_views.export, name="my-data-export"),
    path("settings/my-data/<uuid:operation_id>/download", person_views.download, name="my-data-download"),
    path("settings/organization/close", person_views.close, name="organization-close"),
]
