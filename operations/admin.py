"""Operations in the admin: to look at, never to change."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from core.admin import ReadOnlyAdmin
from operations.models import Duration, Operation


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "organization",
        "kind",
        "resource_label",
        "status",
        "attempt",
        "actor_label",
        "error_code",
    )
    list_filter = ("status", "kind", "queue")
    search_fields = ("resource_label", "actor_label", "error", "id")
    list_select_related = ("organization",)
    date_hierarchy = "created_at"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Operation]:
        return Operation.objects.all_orgs().order_by("-created_at")


@admin.register(Duration)
class DurationAdmin(ReadOnlyAdmin):
    list_display = ("at", "kind", "subject", "seconds")
    list_filter = ("kind",)
    search_fields = ("subject",)
