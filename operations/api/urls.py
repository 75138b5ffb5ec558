"""API routes."""

from django.urls import path

from operations.api import views

urlpatterns = [
    path("operations", views.OperationListView.as_view(), name="operations"),
    path("operations/<uuid:operation_id>", views.OperationView.as_view(), name="operation"),
    path("operations/<uuid:operation_id>/cancel", views.OperationCancelView.as_view(), name="operation-cancel"),
    path("operations/<uuid:operation_id>/retry", views.OperationRetryView.as_view(), name="operation-retry"),
]
