"""Money in the admin: to look at, never to change."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from core.admin import ReadOnlyAdmin
from core.tenancy import OrgOwned
from costs.models import Budget, CatalogPrice, Interval, ResourcePrice, UsageEvent


class TenantAdmin(ReadOnlyAdmin):
    """Staff see the rows of every organization."""

    list_select_related = ("organization",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrgOwned]:
        rows: QuerySet[OrgOwned] = self.model.objects.all_orgs()
        return rows.order_by(*(self.ordering or ()))


@admin.register(Interval)
class IntervalAdmin(TenantAdmin):
    list_display = ("resource_label", "organization", "phase", "started_at", "ended_at", "price", "cause")
    list_filter = ("phase", "resource_kind", "cause")
    search_fields = ("resource_label", "resource_id")
    ordering = ("-started_at",)


@admin.register(UsageEvent)
class UsageEventAdmin(TenantAdmin):
    list_display = ("at", "organization", "resource_label", "phase", "source", "cause")
    list_filter = ("phase", "resource_kind")
    search_fields = ("resource_label", "key")
    ordering = ("-at",)


@admin.register(ResourcePrice)
class ResourcePriceAdmin(TenantAdmin):
    list_display = ("valid_from", "organization", "resource_kind", "resource_id", "awake", "asleep", "source")
    list_filter = ("resource_kind",)
    ordering = ("-valid_from",)


@admin.register(Budget)
class BudgetAdmin(TenantAdmin):
    list_display = ("organization", "scope", "subject", "period", "amount", "updated_at")
    ordering = ("-updated_at",)


@admin.register(CatalogPrice)
class CatalogPriceAdmin(ReadOnlyAdmin):
    list_display = ("provider", "region", "instance_type", "lifecycle", "hourly", "currency", "as_of", "source")
    list_filter = ("provider", "lifecycle", "region")
    search_fields = ("instance_type",)
    ordering = ("provider", "region", "instance_type")
