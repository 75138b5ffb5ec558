"""Read-only lists for staff: rows change through services, which audit them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from cloudnodes.models import AccountPoll, CloudNode, NodeType


class ReadOnly(admin.ModelAdmin):
    """Looks, changes nothing."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model.objects.all_orgs()
        return rows.select_related(*self.list_select_related) if isinstance(self.list_select_related, tuple) else rows

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(NodeType)
class NodeTypeAdmin(ReadOnly):
    list_display = ("name", "slug", "organization", "created_at")
    list_select_related = ("organization",)
    search_fields = ("name", "slug")


@admin.register(CloudNode)
class CloudNodeAdmin(ReadOnly):
    list_display = (
        "instance_name",
        "node_type",
        "gpu_tier",
        "provider",
        "region",
        "observed_state",
        "hourly_cost",
        "observed_at",
        "organization",
    )
    list_filter = ("provider", "observed_state", "gpu_tier", "scaling")
    list_select_related = ("node_type", "organization")
    search_fields = ("instance_name", "provider_id")


@admin.register(AccountPoll)
class AccountPollAdmin(ReadOnly):
    list_display = ("account", "polled_at", "ok_at", "failures", "retry_at", "error_code")
    list_select_related = ("account",)
