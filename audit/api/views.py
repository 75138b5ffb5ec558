"""The audit log over HTTP."""

from __future__ import annotations

from uuid import UUID

from django.http import StreamingHttpResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from audit import selectors, services, verification
from audit.api import serializers
from audit.models import AuditEntry
from audit.streaming import stream
from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from core.errors import Forbidden


class AuditListView(CurfewAPIView):
    """The organization's log, newest first. Needs audit.view."""

    pagination_class = Pages

    @extend_schema(
        operation_id="audit_list",
        parameters=[serializers.AuditQuerySerializer],
        responses=serializers.AuditEntrySerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        asked = serializers.AuditQuerySerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        filters = selectors.Filters(
            search=given.get("search", ""),
            who=given.get("who", ""),
            actor_id=given.get("actor", ""),
            verb=given.get("verb", ""),
            target_kind=given.get("target_kind", ""),
            target_id=given.get("target_id", ""),
            outcome=given.get("outcome", ""),
            operation_id=given.get("operation"),
            start=given.get("start"),
            end=given.get("end"),
        )
        pages = Pages()
        rows: list[AuditEntry] | None = pages.paginate_queryset(
            selectors.query(actor=self.actor, filters=filters), request, view=self
        )
        return pages.get_paginated_response([serializers.entry_shape(e) for e in rows or []])


class AuditEntryView(CurfewAPIView):
    """One line."""

    @extend_schema(operation_id="audit_retrieve", responses=serializers.AuditEntrySerializer)
    def get(self, request: Request, entry_id: UUID) -> Response:
        return Response(serializers.entry_shape(selectors.get_entry(actor=self.actor, entry_id=entry_id).entry))


class AuditVerifyView(CurfewAPIView):
    """Recomputes the chain of the organization and tells the first broken line."""

    @extend_schema(operation_id="audit_verify", responses=serializers.AuditVerdictSerializer)
    def get(self, request: Request) -> Response:
        self.actor.require(selectors.PERMISSION, "verify the audit log")
        if self.actor.org_id is None:
            raise Forbidden("Act in one organization to verify its chain.")
        services.seal_organization(organization_id=self.actor.org_id)
        found = verification.verify_chain(organization_id=self.actor.org_id)
        broken = str(found.entry_id) if found.entry_id else None
        return Response(
            {
                "ok": found.ok,
                "checked": found.checked,
                "broken_seq": found.seq,
                "broken_id": broken,
                "reason": found.reason,
            }
        )


class AuditExportsView(CurfewAPIView):
    """Start an export; the answer is the file. `X-Export-Id` names the sidecar, kept when the last byte was sent."""

    @extend_schema(
        operation_id="audit_export",
        request=serializers.AuditExportSerializer,
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def post(self, request: Request) -> StreamingHttpResponse:
        self.actor.require("audit.export", "export the audit log")
        asked = serializers.AuditExportSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = dict(asked.validated_data)
        download = services.start_export(actor=self.actor, file_format=given.pop("format"), **given)
        return stream(request._request, download, reverse("api:audit-export", args=[download.export.id]))


class AuditExportView(CurfewAPIView):
    """One export with its sidecar."""

    @extend_schema(operation_id="audit_export_retrieve", responses=serializers.AuditExportStateSerializer)
    def get(self, request: Request, export_id: UUID) -> Response:
        found = services.get_export(actor=self.actor, export_id=export_id)
        return Response(serializers.AuditExportStateSerializer(found).data)


class AuditSettingsView(CurfewAPIView):
    """How long the log is kept, and the legal hold."""

    def _organization(self) -> UUID:
        self.actor.require(selectors.PERMISSION, "see the settings of the audit log")
        if self.actor.org_id is None:
            raise Forbidden("Act in one organization to see its settings.")
        return self.actor.org_id

    @extend_schema(operation_id="audit_settings_retrieve", responses=serializers.AuditSettingsSerializer)
    def get(self, request: Request) -> Response:
        return Response(serializers.AuditSettingsSerializer(services.settings_of(self._organization())).data)

    @extend_schema(
        operation_id="audit_settings_update",
        request=serializers.AuditSettingsSerializer,
        responses=serializers.AuditSettingsSerializer,
    )
    def put(self, request: Request) -> Response:
        self.actor.require("audit.manage", "change how long the audit log is kept")
        asked = serializers.AuditSettingsSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return Response(
            serializers.AuditSettingsSerializer(services.change_settings(actor=self.actor, **asked.validated_data)).data
        )
