"""The addresses that agents of machines speak to; see docs/gpu-fleet.md."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import Any

from django.http import HttpResponse, JsonResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.models import AgentToken
from core.api.views import CurfewAPIView
from core.errors import InvalidInput
from gpu_fleet import services

LARGEST_BEAT = 256 * 1024
LARGEST_LEASE = 4096
LARGEST_MANIFEST = 64 * 1024 * 1024  # `agent.machine.manifest.LARGEST`, which a machine takes back
LARGEST_TEXT = 1024 * 1024 * 1024
TAGS = ["agents"]


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises InvalidInput."""
    try:
        told = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise InvalidInput("This is not JSON.") from None
    if not isinstance(told, dict):
        raise InvalidInput("A JSON object is expected.")
    return told


def check_packed(body: bytes) -> None:
    """Raises InvalidInput when it is not gzip, damaged, or holds more than LARGEST_TEXT bytes; little of it is held."""
    size = 0
    try:
        if not body:
            raise EOFError
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as text:
            while piece := text.read(1024 * 1024):
                size += len(piece)
                if size > LARGEST_TEXT:
                    raise InvalidInput(f"More than {LARGEST_TEXT} bytes of text.", code="too_large")
    except (OSError, EOFError, zlib.error):
        raise InvalidInput("This is not gzip, or it is damaged.") from None


class MachineAgent(BasePermission):
    """Only agents of machines; a person has no business here."""

    def has_permission(self, request: Request, view: Any) -> bool:
        token = getattr(request._request, "agent_token", None)
        return isinstance(token, AgentToken) and token.kind == "machine"


class MachineView(CurfewAPIView):
    """Raw bodies, bounded, past Django's limit for forms."""

    permission_classes = (MachineAgent,)  # type: ignore[assignment]  # a tuple of another class

    def body(self, request: Request, most: int) -> bytes:
        """The body. Raises InvalidInput when it is larger than allowed."""
        found = request._request.read(most + 1)
        if len(found) > most:
            raise InvalidInput(f"More than {most} bytes.", code="too_large")
        return found

    @property
    def token(self) -> AgentToken:
        token: AgentToken = self.request._request.agent_token  # type: ignore[attr-defined]
        return token


class StatusView(MachineView):
    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, tags=TAGS)
    def post(self, request: Request) -> HttpResponse:
        """A machine's heartbeat, every thirty seconds or as the last answer asked; the answer may hold orders."""
        told = parsed(self.body(request, LARGEST_BEAT))
        return JsonResponse(services.record_beat(token=self.token, body=told))


class ManifestView(MachineView):
    @extend_schema(request=OpenApiTypes.BINARY, responses=OpenApiTypes.OBJECT, tags=TAGS)
    def post(self, request: Request, name: str) -> HttpResponse:
        """Hashes of a backed-up tree, made on the machine: gzip of lines of JSON."""
        body = self.body(request, LARGEST_MANIFEST)
        check_packed(body)
        services.keep_manifest(token=self.token, order_id=name, body=body)
        return JsonResponse({"received": True}, status=201)

    @extend_schema(responses=OpenApiTypes.BINARY, tags=TAGS)
    def get(self, request: Request, name: str) -> HttpResponse:
        """The hashes of a snapshot of this machine, for comparing after a restore."""
        found = services.read_manifest(token=self.token, snapshot_id=name)
        return HttpResponse(found, content_type="application/octet-stream")
