"""Webhooks that submit a template: kept by people, called by programs with a signature."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.api.parsers import TooLarge
from core.api.views import CurfewAPIView
from taskrunner import selectors, services, shapes
from taskrunner.api import serializers as s
from taskrunner.api.views import TAGS, read
from taskrunner.services.hooking import LARGEST_CALL

ANY = OpenApiTypes.OBJECT
SIGNED = OpenApiParameter(
    "Curfew-Signature", str, OpenApiParameter.HEADER, required=True,
    description="t=<unix time>,v1=<hex HMAC-SHA256 of `t.body` under the secret>; good for five minutes.",
)  # fmt: skip


class HooksView(CurfewAPIView):
    @extend_schema(operation_id="task_hooks", responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Your webhooks; with tasks.manage everybody's."""
        return Response([shapes.hook_shape(row) for row in selectors.list_hooks(actor=self.actor)])

    @extend_schema(operation_id="task_hook_add", request=s.HookWriteSerializer, responses={201: ANY}, tags=TAGS)
    def post(self, request: Request) -> Response:
        """A signed address that submits a template. The secret is in this answer and in no other."""
        given = read(s.HookWriteSerializer, request.data)
        row, secret = services.save_hook(
            actor=self.actor,
            name=given["name"],
            template_id=given["template"],
            per_minute=given.get("per_minute", 30),
        )
        return Response({**shapes.hook_shape(row), "secret": secret}, status=201)


class HookView(CurfewAPIView):
    @extend_schema(operation_id="task_hook_remove", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, hook_id: UUID) -> Response:
        """End a webhook; what it submitted stays."""
        services.delete_hook(actor=self.actor, hook_id=hook_id)
        return Response(status=204)


class HookCallView(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="task_hook_call",
        parameters=[SIGNED],
        request=s.HookCallSerializer,
        responses={202: ANY},
        tags=TAGS,
    )
    def post(self, request: Request, hook_id: UUID) -> Response:
        """Submit the webhook's template. The same call again gives the same task."""
        body = request._request.read(LARGEST_CALL + 1)
        if len(body) > LARGEST_CALL:
            raise TooLarge
        task = services.call_hook(hook_id=hook_id, header=request.headers.get("Curfew-Signature", ""), body=body)
        return Response({"task": str(task.id), "status": str(task.status)}, status=202)
