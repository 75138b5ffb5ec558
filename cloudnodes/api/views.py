"""The cloud-node API: mounted at /api/, /api/v1/ and, for artists' tools, at /budgetguard/api/."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from accounts import selectors as accounts
from cloudnodes import selectors, services, viewing
from cloudnodes.api import serializers as shapes
from cloudnodes.api.parsers import PlainJSONParser
from core.api.views import CurfewAPIView
from core.errors import InvalidInput
from costs import selectors as costs
from operations.api.serializers import AcceptedSerializer
from operations.api.shapes import accepted, moment, operation_shape
from operations.models import Operation

KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Repeating a request with the same key returns the operation it made.",
)
KEY_LENGTH = 80
MICRO = Decimal("0.000001")
Shape = TypeVar("Shape", bound=Serializer)


class NodeAPIView(CurfewAPIView):
    """Reads JSON bodies, also those that say text/plain."""

    parser_classes = (JSONParser, PlainJSONParser)

    def read(self, shape: type[Shape]) -> dict[str, Any]:
        serializer = shape(data=self.request.data)
        serializer.is_valid(raise_exception=True)
        found: dict[str, Any] = dict(serializer.validated_data)
        return found

    def key(self) -> str | None:
        given = self.request.headers.get("Idempotency-Key", "").strip()
        if len(given) > KEY_LENGTH:
            raise InvalidInput(errors={"Idempotency-Key": [f"At most {KEY_LENGTH} characters."]})
        return given or None


def _accepted(operation: Operation) -> Response:
    body, headers = accepted(operation)
    return Response(body, status=202, headers=headers)


class StatusView(NodeAPIView):
    @extend_schema(responses=shapes.StatusSerializer, tags=["cloud nodes"])
    def get(self, request: Request) -> Response:
        """Every cloud node with its status: running, stopped, starting, stopping, error or lost."""
        viewing.touch(self.actor.org_id)
        return Response(selectors.cloud_nodes_status(actor=self.actor))


class StartView(NodeAPIView):
    @extend_schema(
        request=shapes.SwitchSerializer, responses={202: AcceptedSerializer}, parameters=[KEY], tags=["cloud nodes"]
    )
    def post(self, request: Request) -> Response:
        """Wake a node. A start that is under way already is answered with its operation; a stop under way with 409."""
        data = self.read(shapes.SwitchSerializer)
        return _accepted(services.request_start(actor=self.actor, idempotency_key=self.key(), **_which(data)))


class StopView(NodeAPIView):
    @extend_schema(
        request=shapes.SwitchSerializer, responses={202: AcceptedSerializer}, parameters=[KEY], tags=["cloud nodes"]
    )
    def post(self, request: Request) -> Response:
        """Put a node to sleep. A stop that is under way already is answered with its operation; a start under way with 409."""
        data = self.read(shapes.SwitchSerializer)
        return _accepted(services.request_stop(actor=self.actor, idempotency_key=self.key(), **_which(data)))


def _which(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "node_id": data.get("id"),
        "provider": data.get("provider", ""),
        "instance_name": data.get("instance_name", ""),
        "reason": data.get("reason", ""),
    }


class ApplyView(NodeAPIView):
    @extend_schema(
        request=shapes.ApplySerializer,
        responses={202: shapes.AppliedSerializer},
        parameters=[KEY],
        tags=["cloud nodes"],
    )
    def post(self, request: Request) -> Response:
        """Wake and put to sleep several nodes. What cannot be done is in `skipped` and keeps nothing else from happening."""
        data = self.read(shapes.ApplySerializer)
        done = services.apply_changes(
            actor=self.actor,
            on=data.get("on", []),
            off=data.get("off", []),
            reason=data.get("reason", ""),
            idempotency_key=self.key(),
        )
        skipped = [
            {"node": name, "code": refused.code, "message": refused.message, **refused.extra}
            for name, refused in done.skipped
        ]
        return Response({"operations": [operation_shape(o) for o in done.operations], "skipped": skipped}, status=202)


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
            "breakdown": found.breakdown,
        }
        return Response(_money(answer))


class CostActualView(NodeAPIView):
    @extend_schema(request=shapes.ActualRequestSerializer, responses=shapes.ActualSerializer, tags=["cloud nodes"])
    def post(self, request: Request) -> Response:
        """What a node did cost, added up from its intervals; without moments, since it was last woken."""
        data = self.read(shapes.ActualRequestSerializer)
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
            "cost": found.cost,
            "currency": selectors.CURRENCY,
            "gpu_seconds": round(found.gpu_seconds, 3),
            "started_at": moment(found.start),
            "ended_at": moment(found.end),
            "basis": "no_data" if found.cost is None else "intervals",
            "intervals": lines,
        }
        return Response(_money(answer))


class SpendTodayView(NodeAPIView):
    @extend_schema(responses=shapes.SpendTodaySerializer, tags=["cloud nodes"])
    def get(self, request: Request) -> Response:
        """SPENT TODAY against DAILY SPEND, in the organization's own day."""
        actor = self.actor
        zone = accounts.get_organization(actor=actor).timezone
        spent, rows = selectors.spend_by_node(actor=actor, timezone=zone)
        rate, _ = costs.burn_rate(actor)
        budget = costs.daily_budget(actor)
        answer = {
            "spent": spent,
            "currency": selectors.CURRENCY,
            "burn_rate": rate,
            "by_node": [
                {
                    "id": r.id,
                    "node_type": r.node_type,
                    "provider": r.provider,
                    "gpu_tier": r.gpu_tier,
                    "instance_name": r.instance_name,
                    "spent": r.spent,
                }
                for r in rows
            ],
        }
        return Response({**_money(answer), "budget": None if budget is None else f"{budget:.2f}"})


def _money(value: Any) -> Any:
    """Amounts as decimal strings, however deep; everything else as it is."""
    if isinstance(value, Decimal):
        return f"{value.quantize(MICRO):f}"
    if isinstance(value, dict):
        return {name: _money(item) for name, item in value.items()}
    return [_money(item) for item in value] if isinstance(value, list) else value
