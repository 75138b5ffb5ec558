"""Staff may look at people and accounts. Nothing is changed here, and no credential is ever shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import AgentToken, ApiKey, CloudAccount, Membership, Organization, User
from core.admin import ReadOnlyAdmin


class TenantAdmin(ReadOnlyAdmin):
    """Rows of every organization: staff look after the server, not after one tenant."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model.objects.all_orgs()
        return rows


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    """People, without their password hashes."""

    list_display = ("email", "name", "is_active", "is_staff", "last_login", "created_at")
    list_filter = ("is_active", "is_staff")
    search_fields = ("email", "name")
    fields = ("email", "name", "is_active", "is_staff", "is_superuser", "last_login", "created_at", "wizard_closed_at")
    readonly_fields = fields


@admin.register(Organization)
class OrganizationAdmin(ReadOnlyAdmin):
    list_display = ("name", "timezone", "currency", "is_sandbox", "created_at")
    search_fields = ("name",)


@admin.register(Membership)
class MembershipAdmin(TenantAdmin):
    list_display = ("user", "organization", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "organization")
    search_fields = ("user__email", "organization__name")


@admin.register(CloudAccount)
class CloudAccountAdmin(TenantAdmin):
    """Without credentials, settings, principal and external ID."""

    list_display = (
        "name",
        "organization",
        "provider",
        "masked_number",
        "region",
        "method",
        "status",
        "is_sandbox",
        "scanned_at",
    )
    list_filter = ("provider", "status", "is_sandbox")
    list_select_related = ("organization",)
    search_fields = ("name", "organization__name")
    fields = (
        "name", "organization", "provider", "masked_number", "region", "method", "status", "status_reason", "next_step",
        "is_sandbox", "found", "created_at", "connected_at", "scanned_at",
    )  # fmt: skip
    readonly_fields = fields


@admin.register(ApiKey)
class ApiKeyAdmin(TenantAdmin):
    """Without the digest."""

    list_display = ("name", "prefix", "organization", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_select_related = ("organization",)
    fields = (
        "name",
        "prefix",
        "organization",
        "scopes",
        "created_at",
        "expires_at",
        "last_used_at",
        "last_used_ip",
        "revoked_at",
    )
    readonly_fields = fields


@admin.register(AgentToken)
class AgentTokenAdmin(TenantAdmin):
    """Without the digest."""

    list_display = (
        "name",
        "kind",
        "enrolment",
        "organization",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    )
    list_filter = ("kind", "enrolment")
    list_select_related = ("organization",)
    fields = (
        "name",
        "kind",
        "enrolment",
        "organization",
        "resource_id",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    )
    readonly_fields = fields
