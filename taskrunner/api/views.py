"""Tasks and workers over HTTP, for people and their programs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from accounts import services as accounts
from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from core.errors import InvalidInput
from taskrunner import checking, selectors, services, shapes
from taskrunner.api import serializers as s
from taskrunner.models import Attempt
from taskrunner.placing import Resources, Wish

TAGS = ["tasks"]
WORKER_TAGS = ["workers"]
KEY = OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="The same key gives the same task.")
ANY = OpenApiTypes.OBJECT


def read(shape: type[Serializer], data: Any) -> dict[str, Any]:
    """What was sent, in its shape. Raises DRF's ValidationError."""
    asked = shape(data=data)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


class TasksView(CurfewAPIView):
    @extend_schema(operation_id="tasks_list", parameters=[s.TaskQuerySerializer], responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """The tasks that you may see, newest first."""
        asked = read(s.TaskQuerySerializer, request.query_params)
        filters = selectors.Filters(
            search=asked.get("search", ""),
            status=asked.get("status", ""),
            whose=asked.get("whose", ""),
            worker=asked.get("worker"),
            sort=asked.get("ordering", "-created"),
        )
        pages = Pages()
        rows = pages.paginate_queryset(selectors.query(actor=self.actor, filters=filters), request, view=self)
        return pages.get_paginated_response([shapes.task_shape(task) for task in rows or []])

    @extend_schema(
        operation_id="tasks_submit", parameters=[KEY], request=s.TaskSubmitSerializer, responses={201: ANY}, tags=TAGS
    )
    def post(self, request: Request) -> Response:
        """Submit a task."""
        given = read(s.TaskSubmitSerializer, request.data)
        needs, template = given.pop("needs", []), given.pop("template", None)
        if template:
            given = {**selectors.get_template(actor=self.actor, template_id=template).fields, **given}
        key = request.headers.get("Idempotency-Key", "")[:120] or None
        task = services.submit(actor=self.actor, fields=given, needs=needs, idempotency_key=key)
        return Response(_detail(self, task.id), status=201, headers={"Location": f"/api/tasks/{task.id}"})


def _detail(view: CurfewAPIView, task_id: UUID) -> dict[str, Any]:
    task = selectors.get_task(actor=view.actor, task_id=task_id)
    attempts = list(Attempt.objects.filter(task=task).order_by("number"))
    return shapes.detail_shape(task, attempts, selectors.cost_of(task, attempts))


class BatchView(CurfewAPIView):
    @extend_schema(operation_id="tasks_batch", request=s.BatchSerializer, responses={201: ANY}, tags=TAGS)
    def post(self, request: Request) -> Response:
        """Submit tasks that need each other by key; all or none."""
        given = read(s.BatchSerializer, request.data)
        made = services.submit_many(actor=self.actor, tasks=given["tasks"])
        return Response({"tasks": [shapes.task_shape(task) for task in made]}, status=201)


class TaskView(CurfewAPIView):
    @extend_schema(operation_id="task", responses=ANY, tags=TAGS)
    def get(self, request: Request, task_id: UUID) -> Response:
        """One task with its attempts."""
        return Response(_detail(self, task_id))

    @extend_schema(operation_id="task_delete", responses={202: ANY, 204: None}, tags=TAGS)
    def delete(self, request: Request, task_id: UUID) -> Response:
        """Delete a task that ended (204); cancel one that has not (202)."""
        task = selectors.get_task(actor=self.actor, task_id=task_id)
        if task.is_final:
            services.delete(actor=self.actor, task_id=task_id)
            return Response(status=204)
        services.cancel(actor=self.actor, task_id=task_id)
        return Response(_detail(self, task_id), status=202)


class CancelView(CurfewAPIView):
    @extend_schema(operation_id="task_cancel", request=None, responses={202: ANY}, tags=TAGS)
    def post(self, request: Request, task_id: UUID) -> Response:
        """Ask a task to stop; one that waits ends at once."""
        services.cancel(actor=self.actor, task_id=task_id)
        return Response(_detail(self, task_id), status=202)


class RetryView(CurfewAPIView):
    @extend_schema(operation_id="task_retry", parameters=[KEY], request=None, responses={201: ANY}, tags=TAGS)
    def post(self, request: Request, task_id: UUID) -> Response:
        """Submit a task that ended once more."""
        key = request.headers.get("Idempotency-Key", "")[:120] or None
        task = services.retry(actor=self.actor, task_id=task_id, idempotency_key=key)
        return Response(_detail(self, task.id), status=201, headers={"Location": f"/api/tasks/{task.id}"})


class LogsView(CurfewAPIView):
    @extend_schema(operation_id="task_logs", parameters=[s.LogQuerySerializer], responses=ANY, tags=TAGS)
    def get(self, request: Request, task_id: UUID) -> HttpResponseBase:
        """Lines of the log, bytes of one stream from an offset, or what a search finds over all of it."""
        asked = read(s.LogQuerySerializer, request.query_params)
        task = selectors.get_task(actor=self.actor, task_id=task_id)
        attempt = selectors.attempt_of(task, asked.get("attempt"))
        stream = asked.get("stream", "")
        if asked.get("search"):
            found = selectors.search_log(
                attempt=attempt,
                wanted=asked["search"],
                regex=asked.get("regex", False),
                stream=stream,
                context=asked.get("context", 2),
            )
            return Response(shapes.hits_shape(*found))
        if "offset" in asked:
            if not stream:
                raise InvalidInput(errors={"stream": ["Name the stream whose bytes you want."]})
            data = selectors.read_bytes(attempt=attempt, stream=stream, offset=asked["offset"])
            return _plain(iter([data]), {"X-Next-Offset": str(asked["offset"] + len(data))})
        view = selectors.log_lines(
            attempt=attempt, first=asked.get("first", 0), count=asked.get("count", 500), stream=stream
        )
        return Response(shapes.log_shape(view))


def _plain(parts: Any, headers: dict[str, str]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(parts, content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    for name, value in headers.items():
        response[name] = value
    return response


class LogFileView(CurfewAPIView):
    @extend_schema(
        operation_id="task_log_file", parameters=[s.LogQuerySerializer], responses=OpenApiTypes.BINARY, tags=TAGS
    )
    def get(self, request: Request, task_id: UUID) -> HttpResponseBase:
        """The whole log as it was written, both streams or one, as a file."""
        asked = read(s.LogQuerySerializer, request.query_params)
        task = selectors.get_task(actor=self.actor, task_id=task_id)
        attempt = selectors.attempt_of(task, asked.get("attempt"))
        stream = asked.get("stream", "")
        name = f"task-{task.id}{'-' + stream if stream else ''}.txt"
        return _plain(
            selectors.log_bytes(attempt=attempt, stream=stream),
            {"Content-Disposition": f'attachment; filename="{name}"'},
        )


class MetricsView(CurfewAPIView):
    @extend_schema(operation_id="task_metrics", responses=ANY, tags=TAGS)
    def get(self, request: Request, task_id: UUID) -> Response:
        """What the task used over time."""
        task = selectors.get_task(actor=self.actor, task_id=task_id)
        return Response({"samples": shapes.samples_shape(selectors.task_history(task=task))})


class EstimateView(CurfewAPIView):
    @extend_schema(operation_id="task_estimate", request=s.EstimateSerializer, responses=ANY, tags=TAGS)
    def post(self, request: Request) -> Response:
        """What a task will probably take and cost; `basis` is `no_data` when nothing is known."""
        given = read(s.EstimateSerializer, request.data)
        try:
            words = checking.command(given.get("command") or [])
        except ValueError as wrong:
            raise InvalidInput(errors={"command": [str(wrong)]}) from None
        wish = Wish(Resources(given.get("cpu", 1000), given.get("memory", 512), 0, given.get("gpus", 0)))
        found = selectors.estimate(actor=self.actor, image=given["image"], command=words, wish=wish)
        return Response(shapes.estimate_shape(found))


class TemplatesView(CurfewAPIView):
    @extend_schema(operation_id="task_templates", responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Every template of the organization."""
        return Response([shapes.template_shape(row) for row in selectors.list_templates(actor=self.actor)])

    @extend_schema(operation_id="task_template_save", request=s.TaskWriteSerializer, responses={201: ANY}, tags=TAGS)
    def post(self, request: Request) -> Response:
        """Keep a submission under its name."""
        given = read(s.TaskWriteSerializer, request.data)
        row = services.save_template(actor=self.actor, name=given["name"], fields=given)
        return Response(shapes.template_shape(row), status=201)


class TemplateView(CurfewAPIView):
    @extend_schema(operation_id="task_template_delete", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, template_id: UUID) -> Response:
        """Forget a template."""
        services.delete_template(actor=self.actor, template_id=template_id)
        return Response(status=204)


class SchedulesView(CurfewAPIView):
    @extend_schema(operation_id="task_schedules", responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Your schedules; with tasks.manage everybody's."""
        return Response([shapes.schedule_shape(row) for row in selectors.list_schedules(actor=self.actor)])

    @extend_schema(
        operation_id="task_schedule_save", request=s.ScheduleWriteSerializer, responses={201: ANY}, tags=TAGS
    )
    def post(self, request: Request) -> Response:
        """Submit a task again and again, by cron in a zone."""
        given = read(s.ScheduleWriteSerializer, request.data)
        return Response(shapes.schedule_shape(services.save_schedule(actor=self.actor, **given)), status=201)


class ScheduleView(CurfewAPIView):
    @extend_schema(operation_id="task_schedule_delete", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, schedule_id: UUID) -> Response:
        """Forget a schedule; what it submitted stays."""
        services.delete_schedule(actor=self.actor, schedule_id=schedule_id)
        return Response(status=204)


class WorkersView(CurfewAPIView):
    @extend_schema(operation_id="workers_list", responses=ANY, tags=WORKER_TAGS)
    def get(self, request: Request) -> Response:
        """Every worker with its capacity and what runs on it."""
        rows = [shapes.worker_shape(line) for line in selectors.list_workers(actor=self.actor)]
        return Response({"count": len(rows), "next": None, "previous": None, "results": rows})


class WorkerView(CurfewAPIView):
    @extend_schema(operation_id="worker", responses=ANY, tags=WORKER_TAGS)
    def get(self, request: Request, worker_id: UUID) -> Response:
        """One worker."""
        worker = selectors.get_worker(actor=self.actor, worker_id=worker_id)
        return Response(shapes.worker_shape(selectors.list_workers(actor=self.actor, ids=[worker.id])[0]))


class WorkerMetricsView(CurfewAPIView):
    @extend_schema(operation_id="worker_metrics", responses=ANY, tags=WORKER_TAGS)
    def get(self, request: Request, worker_id: UUID) -> Response:
        """What the worker used over the last hours."""
        rows = selectors.history(actor=self.actor, worker_id=worker_id)
        return Response({"samples": shapes.samples_shape(rows)})


class WorkerTasksView(CurfewAPIView):
    @extend_schema(operation_id="worker_tasks", responses=ANY, tags=WORKER_TAGS)
    def get(self, request: Request, worker_id: UUID) -> Response:
        """The tasks on the worker that you may see, newest first."""
        selectors.get_worker(actor=self.actor, worker_id=worker_id)
        pages = Pages()
        filters = selectors.Filters(worker=worker_id)
        rows = pages.paginate_queryset(selectors.query(actor=self.actor, filters=filters), request, view=self)
        return pages.get_paginated_response([shapes.task_shape(task) for task in rows or []])


class AdminWorkersView(CurfewAPIView):
    @extend_schema(
        operation_id="admin_worker_enrol", request=s.EnrolmentSerializer, responses={201: ANY}, tags=WORKER_TAGS
    )
    def post(self, request: Request) -> Response:
        """A token with which machines join as workers; its text is shown this once."""
        given = read(s.EnrolmentSerializer, request.data)
        token, text = accounts.create_enrolment_token(
            actor=self.actor, kind="worker", name=given["name"], hours=given.get("hours", 24)
        )
        return Response({"id": str(token.id), "token": text, "expires_at": shapes.moment(token.expires_at)}, status=201)


class AdminWorkerView(CurfewAPIView):
    @extend_schema(operation_id="admin_worker_save", request=s.WorkerWriteSerializer, responses=ANY, tags=WORKER_TAGS)
    def put(self, request: Request, worker_id: UUID) -> Response:
        """Change what is given: name, labels, open or drained, automatic on and off."""
        changes = read(s.WorkerWriteSerializer, request.data)
        services.save_worker(actor=self.actor, worker_id=worker_id, changes=changes)
        return Response(shapes.worker_shape(selectors.list_workers(actor=self.actor, ids=[worker_id])[0]))

    @extend_schema(operation_id="admin_worker_remove", responses={204: None}, tags=WORKER_TAGS)
    def delete(self, request: Request, worker_id: UUID) -> Response:
        """Forget a worker and end its token; 409 while tasks run on it."""
        services.remove_worker(actor=self.actor, worker_id=worker_id)
        return Response(status=204)


class AdminStatsView(CurfewAPIView):
    @extend_schema(operation_id="admin_task_stats", responses=ANY, tags=WORKER_TAGS)
    def get(self, request: Request) -> Response:
        """Counts of tasks and workers."""
        found = selectors.stats(actor=self.actor)
        lines = selectors.list_workers(actor=self.actor)
        found["oldest_queued_at"] = shapes.moment(found["oldest_queued_at"])
        health: dict[str, int] = {}
        for line in lines:
            health[line.health] = health.get(line.health, 0) + 1
        return Response({**found, "workers": {"total": len(lines), "by_health": health}})


class QuotaView(CurfewAPIView):
    @extend_schema(operation_id="admin_task_quota", request=s.QuotaSerializer, responses=ANY, tags=WORKER_TAGS)
    def put(self, request: Request, user_id: UUID | None = None) -> Response:
        """Limits of one member, or of everybody together."""
        limits = read(s.QuotaSerializer, request.data)
        row = services.save_quota(actor=self.actor, user_id=user_id, limits=limits)
        return Response({name: getattr(row, str(name)) for name in s.QuotaSerializer().get_fields()})


@extend_schema_view(put=extend_schema(operation_id="admin_task_quota_of"))
class QuotaOfView(QuotaView):
    """The same of one member."""


class TelemetryView(CurfewAPIView):
    @extend_schema(operation_id="telemetry", responses=ANY, tags=WORKER_TAGS)
    def get(self, request: Request, worker_id: UUID | None = None) -> Response:
        """What workers report now."""
        if worker_id is not None:
            selectors.get_worker(actor=self.actor, worker_id=worker_id)
        lines = selectors.list_workers(actor=self.actor, ids=[worker_id] if worker_id else None)
        rows = [
            {
                "worker": str(line.worker.id),
                "name": line.worker.name,
                "health": line.health,
                "seen_at": shapes.moment(line.worker.seen_at),
                "usage": line.worker.usage,
            }
            for line in lines
        ]
        return Response(rows[0] if worker_id else {"workers": rows})


@extend_schema_view(get=extend_schema(operation_id="telemetry_of"))
class TelemetryOfView(TelemetryView):
    """The same of one worker."""
