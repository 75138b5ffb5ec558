"""What workers speak to; see docs/agent-protocol.md."""

from __future__ import annotations

import struct
import zlib
from typing import Any
from uuid import UUID, uuid4

from django.http import HttpResponse, JsonResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import AgentToken
from core import problems
from core.errors import CurfewError, InvalidInput
from core.later import Later
from taskrunner import selectors, services, waiting
from taskrunner.api import serializers as s
from taskrunner.api.views import read
from taskrunner.enums import Stream
from taskrunner.models import Task, Worker
from taskrunner.services.logging import LARGEST_BODY, WrongOffset
from taskrunner.services.workers import INTERVALS
from taskrunner.shapes import moment

TAGS = ["agents"]
LONGEST_WAIT = 25.0
FRAME, MOST_PIECES = struct.Struct(">B3xI"), 1024
COME_BACK_SECONDS = 2


class WorkerAgent(BasePermission):
    """Only agents of workers; a person has no business here."""

    def has_permission(self, request: Request, view: Any) -> bool:
        token = getattr(request._request, "agent_token", None)
        return isinstance(token, AgentToken) and token.kind == "worker"


class WorkerAgentView(APIView):
    permission_classes = (WorkerAgent,)

    def worker(self, request: Request) -> Worker:
        return selectors.worker_of_token(request._request.agent_token)  # type: ignore[attr-defined]


class RegisterView(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="agent_register", request=s.RegisterSerializer, responses={201: OpenApiTypes.OBJECT}, tags=TAGS
    )
    def post(self, request: Request) -> Response:
        """Join as a worker with an enrolment token; the answer holds the lasting token, shown this once."""
        given = read(s.RegisterSerializer, request.data)
        worker, text = services.register(
            enrolment=given.pop("token"), facts=given, address=request.META.get("REMOTE_ADDR", "")
        )
        return Response(
            {"worker": str(worker.id), "name": worker.name, "token": text, "intervals": INTERVALS}, status=201
        )


class BeatView(WorkerAgentView):
    @extend_schema(operation_id="agent_beat", request=s.BeatSerializer, responses=OpenApiTypes.OBJECT, tags=TAGS)
    def post(self, request: Request) -> Response:
        """A sign of life with figures; the answer says whether to take tasks."""
        given = read(s.BeatSerializer, request.data)
        worker = self.worker(request)
        answer = services.beat(
            worker=worker,
            usage=given.get("usage", {}),
            capacity=given.get("capacity"),
            address=request.META.get("REMOTE_ADDR", ""),
        )
        return Response(answer)


class ClaimView(WorkerAgentView):
    @extend_schema(
        operation_id="agent_claim",
        parameters=[
            OpenApiParameter("wait", float, description="Seconds to wait for a task, at most 25."),
            OpenApiParameter("most", int, description="Take up to so many at once, at most 32; changes the answer."),
        ],
        request=None,
        responses={200: OpenApiTypes.OBJECT, 204: None},
        tags=TAGS,
    )
    def post(self, request: Request) -> HttpResponse:
        """Take a task with its lease and fence; 204 when there is none, with Retry-After when too many wait already.

        With `most` the answer is `{"orders": [...]}`: the first tasks that fit together.
        """
        worker = self.worker(request)
        several = "most" in request.query_params
        try:
            wait = min(LONGEST_WAIT, max(0.0, float(request.query_params.get("wait", 0))))
            most = max(1, int(request.query_params["most"])) if several else 1
        except ValueError:
            raise InvalidInput(errors={"wait": ["Seconds; and `most` a whole number."]}) from None
        call = uuid4()
        claims = services.claim_some(worker=worker, most=most, call=call, begins=True)
        if claims or not wait:
            return _orders(claims, several=several)
        come_back = {"status": 204, "headers": {"Retry-After": str(COME_BACK_SECONDS)}}
        if waiting.is_full():
            return HttpResponse(**come_back)

        async def outcome() -> HttpResponse:
            try:
                return _orders(await waiting.wait(worker, call, most, wait), several=several)
            except CurfewError as refused:
                return problems.from_error(request._request, refused)

        return Later(outcome, **come_back)


def _orders(claims: list[services.Claim], *, several: bool) -> HttpResponse:
    if not claims:
        return HttpResponse(status=204)
    orders = [_order(claim) for claim in claims]
    return JsonResponse({"orders": orders} if several else orders[0])


def _order(claim: services.Claim) -> dict[str, Any]:
    task: Task = claim.task
    return {
        "task": str(task.id),
        "name": task.name,
        "fence": task.fence,
        "lease_seconds": 45,
        "image": task.image,
        "command": task.command,
        "environment": task.environment,
        "secrets": dict(claim.secrets),
        "files": dict(claim.files),
        "network": task.network,
        "resources": {"cpu": task.cpu, "memory": task.memory, "storage": task.storage, "gpus": task.gpus},
        "timeout_seconds": task.timeout_seconds,
        "host_mounts": task.worker.host_mounts if task.worker else [],
        "claimed_at": moment(task.claimed_at),
    }


class RenewView(WorkerAgentView):
    @extend_schema(operation_id="agent_renew", request=s.FenceSerializer, responses=OpenApiTypes.OBJECT, tags=TAGS)
    def post(self, request: Request, task_id: UUID) -> Response:
        """Lengthen the lease; `cancel` asks to stop the container, 409 `stale_lease` orders it."""
        given = read(s.FenceSerializer, request.data)
        cancel = services.renew(
            worker=self.worker(request), task_id=task_id, fence=given["fence"], metrics=given.get("metrics")
        )
        return Response({"cancel": cancel, "lease_seconds": 45})


class StartView(WorkerAgentView):
    @extend_schema(operation_id="agent_start", request=s.FenceSerializer, responses=OpenApiTypes.OBJECT, tags=TAGS)
    def post(self, request: Request, task_id: UUID) -> Response:
        """The container runs; the answer says where its log goes on."""
        worker, given = self.worker(request), read(s.FenceSerializer, request.data)
        services.start(worker=worker, task_id=task_id, fence=given["fence"])
        return Response({"log": services.log_end(worker=worker, task_id=task_id, fence=given["fence"])})


class FinishView(WorkerAgentView):
    @extend_schema(operation_id="agent_finish", request=s.FinishSerializer, responses=OpenApiTypes.OBJECT, tags=TAGS)
    def post(self, request: Request, task_id: UUID) -> Response:
        """How the attempt ended. Said again it changes nothing."""
        given = read(s.FinishSerializer, request.data)
        task = services.finish(worker=self.worker(request), task_id=task_id, **given)
        return Response({"status": str(task.status)})


class AppendView(WorkerAgentView):
    @extend_schema(
        operation_id="agent_log",
        parameters=[
            OpenApiParameter("fence", int, required=True),
            OpenApiParameter("stdout", int, description="Where the body's stdout begins; with `stderr`: both, framed."),
            OpenApiParameter("stderr", int),
            OpenApiParameter("stream", str, description="One stream alone, as it is, from `offset` on."),
            OpenApiParameter("offset", int),
        ],
        request=OpenApiTypes.BINARY,
        responses={202: OpenApiTypes.OBJECT, 416: OpenApiTypes.OBJECT},
        tags=TAGS,
    )
    def post(self, request: Request, task_id: UUID) -> JsonResponse:
        """Bytes of both streams framed as Docker frames them, or of one; plain or gzip.

        202 with the next offsets, 416 with the true ones.
        """
        given, stream = request.query_params, request.query_params.get("stream", "")
        names = {stream: "offset"} if stream else {name: name for name in services.STREAMS}
        try:
            offsets = {name: int(given[word]) for name, word in names.items()}
            fence = int(given["fence"])
        except (KeyError, ValueError):
            raise InvalidInput(errors={"offset": ["Say fence and offsets as whole numbers."]}) from None
        body = _body(request)
        pieces = [(stream, body)] if stream else _framed(body)
        try:
            ends = services.append_pieces(
                worker=self.worker(request), task_id=task_id, fence=fence, offsets=offsets, pieces=pieces
            )
        except WrongOffset as wrong:
            answer = {"code": wrong.code, "detail": wrong.message, "offsets": wrong.offsets}
            return JsonResponse({**answer, "offset": wrong.offsets.get(stream)}, status=416)
        return JsonResponse({"offsets": ends, "offset": ends.get(stream)}, status=202)


def _framed(body: bytes) -> list[tuple[str, bytes]]:
    """Pieces of both streams, each behind 8 bytes: its stream's number, three zeros, its length."""
    pieces: list[tuple[str, bytes]] = []
    at = 0
    try:
        while at < len(body):
            number, size = FRAME.unpack_from(body, at)
            at += FRAME.size + size
            if at > len(body) or len(pieces) == MOST_PIECES:
                raise ValueError
            pieces.append((Stream(number).name.lower(), body[at - size : at]))
    except (ValueError, struct.error):
        raise InvalidInput(errors={"body": [f"At most {MOST_PIECES} whole frames of Docker's."]}) from None
    return pieces


def _body(request: Request) -> bytes:
    """The bytes that were sent, unpacked; never more than the limit in memory."""
    raw = request._request.read(LARGEST_BODY + 1)
    if len(raw) > LARGEST_BODY:
        raise InvalidInput(errors={"body": [f"At most {LARGEST_BODY} bytes a call."]})
    if request.headers.get("Content-Encoding", "").lower() != "gzip":
        return raw
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        data = unpacker.decompress(raw, LARGEST_BODY + 1)
    except zlib.error:
        raise InvalidInput(errors={"body": ["This is not gzip."]}) from None
    if len(data) > LARGEST_BODY or not unpacker.eof:
        raise InvalidInput(errors={"body": [f"Unpacked at most {LARGEST_BODY} bytes, whole."]})
    return data
