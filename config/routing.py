"""WebSocket routes."""

from django.urls import path

from operations.consumers import LiveConsumer
from taskrunner import consumers as tasks

_tasks = [
    ("tasks/<uuid:task_id>/stream", tasks.LogSocket),
    ("tasks/<uuid:task_id>/metrics/stream", tasks.TaskMetricsSocket),
    ("telemetry/stream", tasks.TelemetrySocket),
]
websocket_urlpatterns = [
    path("ws/live", LiveConsumer.as_asgi()),
    *(
        path(f"{prefix}/{route}", consumer.as_asgi())
        for prefix in ("api", "api/v1", "ws")
        for route, consumer in _tasks
    ),
]
