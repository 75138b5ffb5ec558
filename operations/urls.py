"""Routes."""

from django.urls import path

from operations import views

app_name = "operations"
urlpatterns = [
    path("operations/", views.operation_list, name="list"),
    path("operations/<uuid:operation_id>/", views.operation_detail, name="detail"),
    path("operations/<uuid:operation_id>/cancel", views.operation_cancel, name="cancel"),
    path("operations/<uuid:operation_id>/retry", views.operation_retry, name="retry"),
]
