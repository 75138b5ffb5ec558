"""Routes."""

from django.urls import path

from audit.views import governance, log

app_name = "audit"
urlpatterns = [
    path("audit/", log.entry_list, name="list"),
    path("audit/check", log.chain_check, name="check"),
    path("audit/compliance", governance.compliance, name="compliance"),
    path("audit/exports", governance.export, name="export"),
    path("audit/exports/<uuid:export_id>/sidecar", governance.sidecar, name="sidecar"),
    path("audit/verifier", governance.verifier, name="verifier"),
    path("audit/settings", governance.settings, name="settings"),
    path("audit/destinations", governance.sink_add, name="sink-add"),
    path("audit/destinations/<uuid:sink_id>/<slug:what>", governance.sink_change, name="sink-change"),
    path("audit/views", governance.view_save, name="view-save"),
    path("audit/views/<uuid:view_id>/remove", governance.view_remove, name="view-remove"),
    path("audit/<uuid:entry_id>/", log.entry_detail, name="detail"),
]
