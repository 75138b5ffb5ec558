"""Read-only analysis: every dollar here is potential or projected."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from clusters import selectors
from clusters.api import shapes
from clusters.models import Cluster
from clusters.selectors import overview
from core.api.views import CurfewAPIView
from core.errors import InvalidInput
from operations.api.shapes import moment

ANY = OpenApiTypes.OBJECT
TAGS = ["clusters"]
POTENTIAL, PROJECTED = "potential", "projected"


def plain(value: Any) -> Any:
    """Dataclasses, money and times as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return shapes.money(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else value


class OverviewView(CurfewAPIView):
    @extend_schema(
        operation_id="clusters_overview",
        parameters=[OpenApiParameter("account", OpenApiTypes.UUID, description="Only this cloud account's clusters.")],
        responses=ANY,
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        """All clusters together: projected run rate, potential savings, fleet, the resource gap of seven days."""
        found = overview.overview(actor=self.actor, account_id=account_of(request.query_params.get("account", "")))
        return Response(
            {
                "clusters": [shapes.cluster_shape(row) for row in found.clusters],
                "total": found.total,
                "asleep": found.asleep,
                "currency": "USD",
                "run_rate": {
                    "kind": PROJECTED,
                    "monthly": shapes.money(found.monthly),
                    "unpriced_nodes": found.unpriced,
                },
                "waste": {"kind": POTENTIAL, **plain(found.waste)},
                "fleet": plain(found.fleet),
            }
        )


def account_of(text: str) -> UUID | None:
    """The account of a scope; None for all."""
    try:
        return UUID(text) if text else None
    except ValueError:
        raise InvalidInput(errors={"account": ["This is not the id of an account."]}) from None


class AnalysisView(CurfewAPIView):
    """One analysis of one cluster."""

    kind = POTENTIAL

    @extend_schema(responses=ANY, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """As of the last report; figures that cannot be worked out are null, with the reason beside them."""
        cluster = selectors.get_cluster(actor=self.actor, cluster_id=cluster_id)
        found = self.analyse(cluster)
        return Response({"cluster": str(cluster.id), "currency": "USD", "kind": self.kind, **found})

    def analyse(self, cluster: Cluster) -> dict[str, Any]:
        raise NotImplementedError

    def told(self, cluster: Cluster, name: str) -> dict[str, Any]:
        """What was worked out with the last report; `at` is null before the first."""
        summary = selectors.summary_of(actor=self.actor, cluster=cluster)
        found: dict[str, Any] = summary.insights.get(name, {}) if summary else {}
        return {"at": moment(summary.at) if summary else None, **found}


class EfficiencyView(AnalysisView):
    """The grade with the formula that made it."""

    def analyse(self, cluster: Cluster) -> dict[str, Any]:
        return self.told(cluster, "efficiency")


class BinPackingView(AnalysisView):
    """Capacity, requested and used over seven days, and what the gap costs a month."""

    def analyse(self, cluster: Cluster) -> dict[str, Any]:
        summary = selectors.summary_of(actor=self.actor, cluster=cluster)
        return {
            **plain(overview.waste_of(actor=self.actor, cluster=cluster)),
            "perfect_packing": summary.packing if summary else None,
            "perfect_packing_at": moment(summary.packed_at) if summary else None,
        }


class FleetView(AnalysisView):
    """Lifecycle, family and type with counts and cost."""

    kind = PROJECTED

    def analyse(self, cluster: Cluster) -> dict[str, Any]:
        return {"fleet": plain(overview.fleet_of(actor=self.actor, cluster=cluster))}


class SpotReadinessView(AnalysisView):
    """Which workloads could run on spot nodes, with the reason for every no."""

    def analyse(self, cluster: Cluster) -> dict[str, Any]:
        return self.told(cluster, "spot")


class StabilityView(AnalysisView):
    """The stability index with everything it was made of."""

    kind = "observed"

    def analyse(self, cluster: Cluster) -> dict[str, Any]:
        return self.told(cluster, "stability")


class ComplianceView(AnalysisView):
    """The CIS subset: PASS, FAIL and MANUAL apart."""

    kind = "observed"

    def analyse(self, cluster: Cluster) -> dict[str, Any]:
        return self.told(cluster, "cis")


class ActivityView(AnalysisView):
    """The 24 x 7 heatmap of twelve weeks in the organization's zone, and what its blue hours cost a month."""

    def analyse(self, cluster: Cluster) -> dict[str, Any]:
        found = overview.activity_of(actor=self.actor, cluster=cluster)
        return {**plain(found), "monthly_savings": plain(found.monthly_savings(cluster.hourly_cost))}
