"""The two addresses that cluster agents speak to; see docs/agent-protocol.md."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse, JsonResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.models import AgentToken
from clusters import services
from clusters.inventory.ingest import LARGEST_HEARTBEAT
from core.api.views import CurfewAPIView

# As large as the ingest reads; Django's own limit is for forms.
LARGEST_MESSAGE = 32 * 1024 * 1024


class ClusterAgent(BasePermission):
    """Only agents of clusters; a person has no business here."""

    def has_permission(self, request: Request, view: Any) -> bool:
        token = getattr(request._request, "agent_token", None)
        return isinstance(token, AgentToken) and token.kind == "cluster"


class AgentView(CurfewAPIView):
    """Reads raw bodies, bounded, past Django's limit for forms."""

    permission_classes = (ClusterAgent,)  # type: ignore[assignment]  # a tuple of another class

    @staticmethod
    def body(request: Request, most: int) -> bytes | None:
        """The body; None when it is larger than allowed."""
        plain = request._request
        try:
            announced = int(plain.META.get("CONTENT_LENGTH") or 0)
        except ValueError:
            announced = 0
        if announced > most:
            return None
        found = plain.read(most + 1)
        return None if len(found) > most else found

    @staticmethod
    def answer(status: int, content: dict[str, Any]) -> HttpResponse:
        response = JsonResponse(content, status=status)
        if status == 503:
            response["Retry-After"] = "2"
        return response


def _too_large(most: int) -> tuple[int, dict[str, Any]]:
    return 413, {"code": "too_large", "detail": f"more than {most} bytes"}


class HeartbeatView(AgentView):
    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, tags=["agents"])
    def post(self, request: Request) -> HttpResponse:
        """A sign of life; the answer says whether to send everything anew."""
        body = self.body(request, LARGEST_HEARTBEAT)
        if body is None:
            return self.answer(*_too_large(LARGEST_HEARTBEAT))
        return self.answer(*services.record_heartbeat(token=request._request.agent_token, body=body))  # type: ignore[attr-defined]


class SnapshotView(AgentView):
    @extend_schema(request=OpenApiTypes.BINARY, responses=OpenApiTypes.OBJECT, tags=["agents"])
    def post(self, request: Request) -> HttpResponse:
        """A full snapshot or a delta, usually packed with gzip."""
        body = self.body(request, LARGEST_MESSAGE)
        if body is None:
            return self.answer(*_too_large(LARGEST_MESSAGE))
        sent = request.headers.get("X-Curfew-Sent-At", "")
        try:
            sent_at = float(sent) if sent else None
        except ValueError:
            sent_at = None
        token = request._request.agent_token  # type: ignore[attr-defined]
        packed = request.headers.get("Content-Encoding", "").lower() == "gzip"
        return self.answer(*services.ingest_snapshot(token=token, body=body, gzip=packed, sent_at=sent_at))


class OrderAnswerView(AgentView):
    @extend_schema(request=OpenApiTypes.BINARY, responses=OpenApiTypes.OBJECT, tags=["agents"])
    def post(self, request: Request, order_id: UUID) -> HttpResponse:
        """What became of a batch of calls, usually packed with gzip."""
        body = self.body(request, LARGEST_MESSAGE)
        if body is None:
            return self.answer(*_too_large(LARGEST_MESSAGE))
        token = request._request.agent_token  # type: ignore[attr-defined]
        packed = request.headers.get("Content-Encoding", "").lower() == "gzip"
        return self.answer(*services.take_order_answer(token=token, order_id=order_id, body=body, gzip=packed))
