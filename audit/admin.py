"""The audit log in the admin: to look at, never to change."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.models import AuditEntry
from core.admin import ReadOnlyAdmin


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "organization", "actor_label", "verb", "target_label", "outcome")
    list_filter = ("outcome", "actor_kind")
    search_fields = ("actor_label", "verb", "target_label", "request_id")
    list_select_related = ("organization",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        return AuditEntry.objects.all_orgs().order_by("-at", "-seq")
