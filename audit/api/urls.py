"""API routes."""

from django.urls import path

from audit.api import views

urlpatterns = [
    path("audit", views.AuditListView.as_view(), name="audit"),
    path("audit/verify", views.AuditVerifyView.as_view(), name="audit-verify"),
    path("audit/<uuid:entry_id>", views.AuditEntryView.as_view(), name="audit-entry"),
]
