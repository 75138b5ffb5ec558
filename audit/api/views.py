"""The audit log over HTTP."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from audit import selectors, services, verification
from audit.api import serializers
from audit.models import AuditEntry
from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from core.errors import Forbidden


class AuditListView(CurfewAPIView):
    """The organization's log, newest first. Needs audit.view."""

    pagination_class = Pages

    @extend_schema(operation_id="audit_list", parameters=[serializers.AuditQuerySerializer], responses=serializers.AuditEntrySerializer(many=True))
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
        rows: list[AuditEntry] | None = pages.paginate_queryset(selectors.query(actor=self.actor, filters=filters), request, view=self)
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
        return Response({"ok": found.ok, "checked": found.checked, "broken_seq": found.seq, "broken_id": broken, "reason": found.reason})
