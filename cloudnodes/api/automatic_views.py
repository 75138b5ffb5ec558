"""Automatic on and off over HTTP: ensure a node, keep it awake, its rule, workflow runs, favourites."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloudnodes import automatic, automatic_reading, ensuring, favourites, runs, selectors
from cloudnodes.api.serializers import CHOICES
from cloudnodes.api.views import NodeAPIView
from core.api.pagination import Pages
from operations.api.shapes import moment, operation_shape


class EnsureRequestSerializer(serializers.Serializer):
    """A node type (and provider or tier), or a node's id. `workflow_id` makes a run of it; `wait_seconds` at most 20."""

    node_type = serializers.CharField(max_length=120, required=False)
    provider = serializers.ChoiceField(choices=CHOICES, required=False)
    gpu_tier = serializers.CharField(max_length=40, required=False, allow_blank=True)
    id = serializers.UUIDField(required=False)
    workflow_id = serializers.CharField(max_length=200, required=False)
    params = serializers.DictField(required=False)
    wait_seconds = serializers.FloatField(min_value=0, max_value=ensuring.LONGEST_WAIT, required=False, default=0)
    retry = serializers.BooleanField(required=False, default=False)

    def validate(self, attrs: dict[str, object]) -> dict[str, object]:
        if "id" not in attrs and "node_type" not in attrs:
            raise serializers.ValidationError({"node_type": ["This field is required."]})
        return attrs


class EnsuredSerializer(serializers.Serializer):
    ready = serializers.BooleanField()
    node = serializers.DictField()
    seconds_left = serializers.IntegerField(help_text="by the learned median; 0 when ready")
    because = serializers.CharField(help_text="why this node was chosen")
    run_id = serializers.UUIDField(allow_null=True)
    operation = serializers.DictField(allow_null=True)


class EnsureView(NodeAPIView):
    @extend_schema(
        request=EnsureRequestSerializer,
        responses={200: EnsuredSerializer, 202: EnsuredSerializer},
        tags=["cloud nodes"],
    )
    def post(self, request: Request) -> Response:
        """A workflow needs a node: 200 when one is ready, 202 while one is being woken. Ask again to wait."""
        data = self.read(EnsureRequestSerializer)
        wanted = ensuring.Wanted(
            node_type=data.get("node_type", ""),
            provider=data.get("provider", ""),
            gpu_tier=data.get("gpu_tier", ""),
            node_id=data.get("id"),
            workflow_id=data.get("workflow_id", ""),
            params=data.get("params"),
            retry=data["retry"],
        )
        found = ensuring.wait(actor=self.actor, wanted=wanted, seconds=data["wait_seconds"])
        body = {
            "ready": found.ready,
            "node": selectors.node_shape(found.node, found.operation),
            "seconds_left": found.seconds_left,
            "because": found.chosen_because,
            "run_id": str(found.run.id) if found.run else None,
            "operation": operation_shape(found.operation) if found.operation else None,
        }
        headers = {} if found.ready else {"Retry-After": str(min(5, max(1, found.seconds_left)))}
        if found.operation is not None:
            headers["Location"] = f"/api/operations/{found.operation.id}"
        return Response(body, status=200 if found.ready else 202, headers=headers)


class KeepRequestSerializer(serializers.Serializer):
    minutes = serializers.IntegerField(min_value=1, max_value=1440, required=False, default=60)


class ActivitySerializer(serializers.Serializer):
    verdict = serializers.ChoiceField(choices=("busy", "idle", "unknown"))
    why = serializers.CharField(allow_blank=True)
    idle_since = serializers.DateTimeField(allow_null=True)
    sampled_at = serializers.DateTimeField(allow_null=True)
    keep_until = serializers.DateTimeField(allow_null=True)
    stops_at = serializers.DateTimeField(allow_null=True)


def _activity(row: Any) -> dict[str, Any]:
    return {
        "verdict": row.verdict,
        "why": row.why,
        "idle_since": moment(row.idle_since),
        "sampled_at": moment(row.sampled_at),
        "keep_until": moment(row.keep_until),
        "stops_at": moment(row.stops_at),
    }


class KeepView(NodeAPIView):
    @extend_schema(request=KeepRequestSerializer, responses=ActivitySerializer, tags=["cloud nodes"])
    def post(self, request: Request, node_id: UUID) -> Response:
        """Nobody puts it to sleep for being idle before so many minutes have passed."""
        data = self.read(KeepRequestSerializer)
        return Response(_activity(automatic.keep_awake(actor=self.actor, node_id=node_id, minutes=data["minutes"])))


class RuleSerializer(serializers.Serializer):
    """When a node falls asleep for being idle (null: never), and whether a workflow may wake it."""

    idle_minutes = serializers.IntegerField(min_value=1, max_value=automatic.MOST_MINUTES, allow_null=True)
    warn_minutes = serializers.IntegerField(min_value=0, max_value=120, required=False, default=5)
    auto_start = serializers.BooleanField(required=False, default=True)
    source = serializers.ChoiceField(choices=("node", "type", "default", "none"), read_only=True)  # type: ignore[assignment]


class RuleView(NodeAPIView):
    @extend_schema(responses=RuleSerializer, tags=["cloud nodes"])
    def get(self, request: Request, node_id: UUID) -> Response:
        """The rule that holds for a node, and where it comes from."""
        return self._shape(node_id)

    @extend_schema(request=RuleSerializer, responses=RuleSerializer, tags=["cloud nodes"])
    def put(self, request: Request, node_id: UUID) -> Response:
        """Give the node a rule of its own."""
        data = self.read(RuleSerializer)
        automatic.set_rule(actor=self.actor, node_id=node_id, **data)
        return self._shape(node_id)

    @extend_schema(responses=RuleSerializer, tags=["cloud nodes"])
    def delete(self, request: Request, node_id: UUID) -> Response:
        """Take the node's own rule away: its type's or the default holds again."""
        automatic.remove_rule(actor=self.actor, node_id=node_id)
        return self._shape(node_id)

    def _shape(self, node_id: UUID) -> Response:
        node = selectors.get_node(actor=self.actor, node_id=node_id)
        rule = automatic.rules_for([node])[node.id]
        names = ("idle_minutes", "warn_minutes", "auto_start", "source")
        return Response({name: getattr(rule, name) for name in names})


class RunSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    workflow_id = serializers.CharField()
    node_id = serializers.UUIDField()
    node = serializers.CharField()
    node_type = serializers.CharField()
    provider = serializers.CharField()
    gpu_tier = serializers.CharField(allow_blank=True)
    person = serializers.CharField()
    team = serializers.CharField(allow_blank=True)
    asked_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    outcome = serializers.CharField(allow_blank=True)
    cost = serializers.CharField(allow_null=True, help_text="its share of the node's intervals; null without a price")
    currency = serializers.CharField()
    usage = serializers.DictField(allow_null=True, help_text="what the node's own counters say, between two looks")


def run_shape(run: Any) -> dict[str, Any]:
    cost = run.cost if run.ended_at else runs.actual(run).cost
    return {
        "id": str(run.id),
        "workflow_id": run.workflow_id,
        "node_id": str(run.resource_id),
        "node": run.node_label,
        "node_type": run.type_slug,
        "provider": run.provider,
        "gpu_tier": run.gpu_tier,
        "person": run.person,
        "team": run.team,
        "asked_at": moment(run.asked_at),
        "started_at": moment(run.started_at),
        "ended_at": moment(run.ended_at),
        "outcome": run.outcome,
        "cost": None if cost is None else f"{cost:.6f}",
        "currency": selectors.CURRENCY,
        "usage": runs.usage_of(run),
    }


class RunsView(NodeAPIView):
    pagination_class = Pages

    @extend_schema(operation_id="workflow_runs", responses=RunSerializer(many=True), tags=["cloud nodes"])
    def get(self, request: Request) -> Response:
        """Workflow runs, the newest first."""
        pages: Any = Pages()
        found = automatic_reading.list_runs(actor=self.actor, search=request.query_params.get("search", "")[:100])
        rows = pages.paginate_queryset(found, request, view=self)
        answer: Response = pages.get_paginated_response([run_shape(r) for r in rows or []])
        return answer


class RunFinishView(NodeAPIView):
    @extend_schema(request=None, responses=RunSerializer(many=True), tags=["cloud nodes"])
    def post(self, request: Request, workflow_id: str) -> Response:
        """The workflow is over: its runs end and keep what they cost. Repeating it changes nothing."""
        return Response([run_shape(r) for r in runs.finish(actor=self.actor, workflow_id=workflow_id)])


class FavouriteView(NodeAPIView):
    @extend_schema(request=None, responses={204: None}, tags=["cloud nodes"])
    def put(self, request: Request, node_id: UUID) -> Response:
        """Mark a node as one of your favourites."""
        favourites.mark(actor=self.actor, node_id=node_id, on=True)
        return Response(status=204)

    @extend_schema(responses={204: None}, tags=["cloud nodes"])
    def delete(self, request: Request, node_id: UUID) -> Response:
        """It is no favourite any more."""
        favourites.mark(actor=self.actor, node_id=node_id, on=False)
        return Response(status=204)
