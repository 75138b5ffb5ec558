"""What a run would cost, what it did cost, and today: beside the cloud-node API, for artists' tools."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import selectors as accounts
from cloudnodes import runs, selectors
from cloudnodes.api import cost_serializers as shapes
from cloudnodes.api.views import NodeAPIView
from cloudnodes.automatic_models import WorkflowRun
from costs import spending
from operations.api.shapes import moment

MICRO = Decimal("0.000001")


class CostEstimateView(NodeAPIView):
    @extend_schema(request=shapes.EstimateRequestSerializer, responses=shapes.EstimateSerializer, tags=["cloud nodes"])
    def post(self, request: Request) -> Response:
        """What a run would cost; `basis` is "no_data", and `cost` null, rather than a guess."""
        data = self.read(shapes.EstimateRequestSerializer)
        found = selectors.estimate_cost(
            actor=self.actor, node_type=data["node_type"], provider=data["provider"], params=data.get("params", {})
        )
        answer = {
            "cost": found.cost,
            "currency": selectors.CURRENCY,
            "hourly_rate": found.hourly_rate,
            "expected_seconds": found.expected_seconds,
            "basis": found.basis,
            "range": {"low": found.low, "high": found.high},
            "runs": found.runs,
            "breakdown": found.breakdown,
        }
        return Response(_money(answer))


class CostActualView(NodeAPIView):
    @extend_schema(request=shapes.ActualRequestSerializer, responses=shapes.ActualSerializer, tags=["cloud nodes"])
    def post(self, request: Request) -> Response:
        """What a run did cost, as its share of the node's intervals. A run that `nodes/ensure` began ends here; without one,
        the node's intervals between two moments, or since it was last woken.
        """
        data = self.read(shapes.ActualRequestSerializer)
        if "started_at" not in data:
            known = runs.find(
                actor=self.actor,
                workflow_id=data["workflow_id"],
                node_type=data["node_type"],
                provider=data["provider"],
                tier=data.get("gpu_tier", ""),
            )
            if known is not None:
                return Response(_money(self._run(known)))
        found = selectors.actual_cost(
            actor=self.actor,
            node_type=data["node_type"],
            provider=data["provider"],
            tier=data.get("gpu_tier", "").lower(),
            started_at=data.get("started_at"),
            ended_at=data.get("ended_at"),
        )
        lines = [
            {**i, "started_at": moment(i["started_at"]), "ended_at": moment(i["ended_at"])} for i in found.intervals
        ]
        answer = {
            "workflow_id": data["workflow_id"],
            "run_id": None,
            "cost": found.cost,
            "currency": selectors.CURRENCY,
            "gpu_seconds": round(found.gpu_seconds, 3),
            "started_at": moment(found.start),
            "ended_at": moment(found.end),
            "basis": "no_data" if found.cost is None else "intervals",
            "usage": None,
            "intervals": lines,
        }
        return Response(_money(answer))

    def _run(self, run: WorkflowRun) -> dict[str, Any]:
        """The run's share; it ends now, when the caller may end it."""
        if run.ended_at is None and self.actor.can("nodes.operate"):
            (run,) = runs.finish(actor=self.actor, workflow_id=run.workflow_id, resource_id=run.resource_id)
        found = runs.actual(run)
        return {
            "workflow_id": run.workflow_id,
            "run_id": str(run.id),
            "cost": found.cost,
            "currency": selectors.CURRENCY,
            "gpu_seconds": round(found.seconds, 3),
            "started_at": moment(run.started_at),
            "ended_at": moment(run.ended_at),
            "basis": "no_data" if found.cost is None else "run",
            "usage": runs.usage_of(run),
            "intervals": [
                {
                    "id": str(p.interval.id),
                    "resource": p.interval.resource_label,
                    "started_at": moment(p.start),
                    "ended_at": moment(p.end),
                    "open": p.interval.ended_at is None,
                    "hourly_rate": p.interval.price,
                    "sharers": p.sharers,
                    "cost": p.cost,
                }
                for p in found.parts
            ],
        }


class SpendTodayView(NodeAPIView):
    @extend_schema(responses=shapes.SpendTodaySerializer, tags=["cloud nodes"])
    def get(self, request: Request) -> Response:
        """SPENT TODAY against DAILY SPEND, in the organization's own day; by node, team and person; and where it leads."""
        actor = self.actor
        organization = accounts.get_organization(actor=actor)
        day = spending.today(actor=actor, organization=organization)
        standings = spending.standings(actor=actor, organization=organization)
        whole = next((s for s in standings if s.budget.scope == "organization" and s.budget.period == "day"), None)
        answer = {
            "spent": day.spent,
            "saved_real": day.saved,
            "currency": selectors.CURRENCY,
            "burn_rate": day.burn_rate,
            "unpriced": day.unpriced,
            "start": moment(day.start),
            "end": moment(day.end),
            "by_node": [asdict(r) for r in selectors.spend_by_node(actor=actor, spent=day.by_resource)],
            "by_team": [_share(s) for s in day.teams],
            "by_person": [_share(s) for s in day.people],
            "end_of_day": _forecast(day.end_of_day),
            "end_of_month": _forecast(day.end_of_month),
        }
        return Response(
            {
                **_money(answer),
                "budget": None if whole is None else f"{whole.budget.amount:.2f}",
                "budgets": [_budget(s) for s in standings],
            }
        )


def _share(share: spending.Share) -> dict[str, Any]:
    daily = None if share.budget is None else f"{share.budget:.2f}"
    return {"name": share.name, "spent": share.spent, "burn_rate": share.burn_rate, "daily_spend": daily}


def _forecast(forecast: spending.Forecast) -> dict[str, Any]:
    return {
        "end": moment(forecast.end),
        "spent": forecast.spent,
        "if_nothing_changes": forecast.as_now,
        "at_usual_pace": forecast.at_pace,
        "basis": "no_data" if forecast.at_pace is None else "median_of_days",
        "days_known": forecast.days_known,
    }


def _budget(standing: spending.Standing) -> dict[str, Any]:
    return {
        "id": str(standing.budget.id),
        "scope": standing.budget.scope,
        "subject": standing.budget.subject,
        "period": standing.budget.period,
        "amount": f"{standing.budget.amount:.2f}",
        "spent": f"{standing.spent:.6f}",
        "percent": standing.percent,
        "acting": standing.acting,
        "refuses_starts": standing.refusing,
        "runs_out_at": moment(standing.runs_out_at),
    }


def _money(value: Any) -> Any:
    """Amounts as decimal strings, however deep; everything else as it is."""
    if isinstance(value, Decimal):
        return f"{value.quantize(MICRO):f}"
    if isinstance(value, dict):
        return {name: _money(item) for name, item in value.items()}
    return [_money(item) for item in value] if isinstance(value, list) else value
