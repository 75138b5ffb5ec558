"""The ledger and budgets over HTTP."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import selectors as accounts
from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from costs import reporting, selectors, services
from costs.api import serializers
from costs.forms import LedgerForm


def _report(view: CurfewAPIView, request: Request) -> reporting.Report:
    asked = serializers.LedgerQuerySerializer(data=request.query_params)
    asked.is_valid(raise_exception=True)
    given: dict[str, Any] = dict(asked.validated_data)
    given["q"] = given.pop("search", "")
    timezone = accounts.get_organization(actor=view.actor).timezone
    return reporting.report(actor=view.actor, filters=LedgerForm(given).filters(timezone))


class SummaryView(CurfewAPIView):
    """Totals of a period."""

    @extend_schema(
        operation_id="costs_summary",
        parameters=[serializers.LedgerQuerySerializer],
        responses=serializers.SummarySerializer,
    )
    def get(self, request: Request) -> Response:
        return Response(serializers.summary_shape(_report(self, request)))


class IntervalsView(CurfewAPIView):
    """The intervals that the totals are sums of, newest first."""

    pagination_class = Pages

    @extend_schema(
        operation_id="costs_intervals",
        parameters=[serializers.PagedLedgerQuerySerializer],
        responses=serializers.IntervalSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        pages = Pages()
        rows = pages.paginate_queryset(_report(self, request).rows, request, view=self)
        return pages.get_paginated_response([serializers.interval_shape(row) for row in rows or []])


class BudgetView(CurfewAPIView):
    """DAILY SPEND of the organization."""

    @extend_schema(operation_id="costs_budget", responses=serializers.BudgetSerializer)
    def get(self, request: Request) -> Response:
        self.actor.require("costs.view", "see budgets")
        return Response(self._shape())

    @extend_schema(
        operation_id="costs_budget_set", request=serializers.BudgetSerializer, responses=serializers.BudgetSerializer
    )
    def put(self, request: Request) -> Response:
        given = serializers.BudgetSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        daily = given.validated_data["daily"]
        if daily is None:
            services.remove_budget(actor=self.actor)
        else:
            services.set_budget(actor=self.actor, amount=daily)
        return Response(self._shape())

    def _shape(self) -> dict[str, Any]:
        daily = selectors.daily_budget(self.actor)
        return {"daily": None if daily is None else f"{daily:.2f}", "currency": serializers.CURRENCY}
