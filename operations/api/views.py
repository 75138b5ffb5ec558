"""Operations over HTTP."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from operations import selectors, services
from operations.api import serializers, shapes
from operations.models import Operation

IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="The same key gives the same operation."
)


class OperationListView(CurfewAPIView):
    """Everything slow that was asked for, newest first."""

    pagination_class = Pages

    @extend_schema(
        operation_id="operations_list",
        parameters=[serializers.OperationQuerySerializer],
        responses=serializers.OperationSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        asked = serializers.OperationQuerySerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        filters = selectors.Filters(
            search=given.get("search", ""),
            status=given.get("status", ""),
            kind=given.get("kind", ""),
            sort=given.get("ordering", "-created"),
            resource_id=given.get("resource"),
        )
        pages = Pages()
        rows: list[Operation] | None = pages.paginate_queryset(
            selectors.query(actor=self.actor, filters=filters), request, view=self
        )
        return pages.get_paginated_response([shapes.operation_shape(o) for o in rows or []])


class OperationView(CurfewAPIView):
    """One operation."""

    @extend_schema(operation_id="operations_retrieve", responses=serializers.OperationSerializer)
    def get(self, request: Request, operation_id: UUID) -> Response:
        operation = selectors.get_operation(actor=self.actor, operation_id=operation_id)
        return Response(shapes.operation_shape(operation))


class OperationCancelView(CurfewAPIView):
    """Ask it to stop: a queued one ends at once, a running one at its next step."""

    @extend_schema(operation_id="operations_cancel", request=None, responses={202: serializers.AcceptedSerializer})
    def post(self, request: Request, operation_id: UUID) -> Response:
        body, headers = shapes.accepted(services.cancel_operation(actor=self.actor, operation_id=operation_id))
        return Response(body, status=202, headers=headers)


class OperationRetryView(CurfewAPIView):
    """Start a failed or cancelled one anew; the answer is the new operation."""

    @extend_schema(
        operation_id="operations_retry",
        request=None,
        parameters=[IDEMPOTENCY],
        responses={202: serializers.AcceptedSerializer},
    )
    def post(self, request: Request, operation_id: UUID) -> Response:
        key = request.headers.get("Idempotency-Key", "")[:120] or None
        operation = services.retry_operation(actor=self.actor, operation_id=operation_id, idempotency_key=key)
        body, headers = shapes.accepted(operation)
        return Response(body, status=202, headers=headers)
