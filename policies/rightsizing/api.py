"""Recommendations over HTTP: who would change, from what to what, for how much, and why the others stay."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from core.errors import InvalidInput
from operations.api.shapes import accepted, moment
from policies.enums import PERMISSION_VIEW
from policies.rightsizing import selectors, services
from policies.rightsizing.models import SizeChange

ANY = OpenApiTypes.OBJECT
TAGS = ["policies"]
KEY = OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)


def dollars(value: float | None) -> str | None:
    """Money as everywhere in the API: a decimal string, null when nobody knows."""
    return None if value is None else f"{Decimal(str(value)):.4f}"


class SizesView(CurfewAPIView):
    """Base: everybody here may at least see policies."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.actor.require(PERMISSION_VIEW, "see recommendations")


class RecommendationsView(SizesView):
    @extend_schema(
        operation_id="cluster_recommendations",
        parameters=[
            OpenApiParameter("show", str, enum=list(selectors.SHOWN), description="Which of them."),
            OpenApiParameter("search", str, description="Part of namespace/kind/name."),
            OpenApiParameter("namespace", str),
        ],
        responses=ANY,
        tags=TAGS,
    )
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """Every workload with its recommendation. CPU in thousandths of a core, memory in bytes; `hold` says why
        something stays; dollars a month are potential."""
        query = request.query_params
        show = query.get("show", "all")
        if show not in selectors.SHOWN:
            raise InvalidInput(errors={"show": [f"One of {', '.join(selectors.SHOWN)}."]})
        overview = selectors.get_overview(actor=self.actor, cluster_id=cluster_id)
        rows = selectors.list_rows(
            overview, show=show, search=query.get("search", "")[:120], namespace=query.get("namespace", "")[:63]
        )
        pages = Pages()
        found: list[Any] | None = pages.paginate_queryset(rows, request, view=self)
        answer = pages.get_paginated_response(
            [
                {
                    **row,
                    "saves": dollars(row["saves"]),
                    "potential": dollars(row["potential"]),
                    "under_way": row["key"] in overview.active,
                    "waits": overview.waiting.get(row["key"]),
                }
                for row in found or []
            ]
        )
        report = overview.report
        answer.data |= {
            "mode": str(overview.ruling.mode),
            "policy": overview.ruling.policy or None,
            "refused": overview.refused or None,
            "at": moment(report.at) if report else None,
            "profile": report.profile if report else None,
            "headroom_percent": report.headroom if report else None,
            "currency": "USD",
            "kind": "potential",
            "saves": dollars(report.saves) if report else None,
            "prices": report.prices if report else None,
        }
        return answer


class ApplyRecommendationView(SizesView):
    @extend_schema(
        operation_id="cluster_recommendation_apply", parameters=[KEY], request=None, responses={202: ANY}, tags=TAGS
    )
    def post(self, request: Request, cluster_id: UUID, recommendation_id: UUID) -> Response:
        """Change it now: 202 with the operation, which watches the workload and takes the change back when it harms."""
        operation = services.request_resize(
            actor=self.actor,
            cluster_id=cluster_id,
            recommendation_id=recommendation_id,
            idempotency_key=request.headers.get("Idempotency-Key"),
        )
        body, headers = accepted(operation)
        return Response(body, status=202, headers=headers)


class ChangesView(SizesView):
    @extend_schema(operation_id="cluster_size_changes", responses=ANY, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """The changes that were made, newest first, each with what was before."""
        selectors.get_overview(actor=self.actor, cluster_id=cluster_id)
        pages = Pages()
        rows = selectors.list_changes(actor=self.actor, cluster_id=cluster_id, limit=1000)
        found: list[Any] | None = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response([change_shape(row) for row in found or []])


class RollbackView(SizesView):
    @extend_schema(
        operation_id="cluster_size_rollback", parameters=[KEY], request=None, responses={202: ANY}, tags=TAGS
    )
    def post(self, request: Request, cluster_id: UUID, change_id: UUID) -> Response:
        """Give the workload back what it requested before this change."""
        selectors.get_overview(actor=self.actor, cluster_id=cluster_id)
        operation = services.request_rollback(
            actor=self.actor, change_id=change_id, idempotency_key=request.headers.get("Idempotency-Key")
        )
        body, headers = accepted(operation)
        return Response(body, status=202, headers=headers)


def change_shape(change: SizeChange) -> dict[str, Any]:
    """One change as JSON."""
    return {
        "id": str(change.id),
        "workload": change.workload.key,
        "method": change.method,
        "before": change.before,
        "after": change.after,
        "saves": dollars(change.saves),
        "outcome": change.outcome,
        "why": change.why,
        "ordered_by": change.ordered_by,
        "operation": str(change.operation_id),
        "at": moment(change.at),
        "ended_at": moment(change.ended_at),
    }
