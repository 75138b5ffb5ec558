"""The cloud-node API: mounted at /api/, /api/v1/ and, for artists' tools, at /budgetguard/api/."""

from __future__ import annotations

from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from cloudnodes import selectors, services, viewing
from cloudnodes.api import serializers as shapes
from cloudnodes.api.parsers import PlainJSONParser
from core.api.parsers import BoundedJSONParser as JSONParser
from core.api.views import CurfewAPIView
from core.errors import InvalidInput
from operations.api.serializers import AcceptedSerializer
from operations.api.shapes import accepted, operation_shape
from operations.models import Operation

KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Repeating a request with the same key returns the operation it made.",
)
KEY_LENGTH = 80
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
