"""API routes."""

from django.urls import path

from audit.api import views

urlpatterns = [
    path("audit", views.AuditListView.as_view(), name="audit"),
    path("audit/exports", views.AuditExportsView.as_view(), name="audit-exports"),
    path("audit/exports/<uuid:export_id>", views.AuditExportView.as_view(), name="audit-export"),
    path("audit/settings", views.AuditSettingsView.as_view(), name="audit-settings"),
    path("audit/verify", views.AuditVerifyView.as_view(), name="audit-verify"),
    path("audit/<uuid:entry_id>", views.AuditEntryView.as_view(), name="audit-entry"),
]
