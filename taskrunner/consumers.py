"""Live sockets of one task's log, of its figures, and of the workers' figures.

The log socket carries the tail itself where it is small, else a hint; a viewer that missed something reads from the
store. Close codes: 4401 not signed in, 4403 no longer allowed, 4404 no such task.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.generic.websocket import JsonWebsocketConsumer

from accounts import selectors as accounts
from core.actor import Actor
from core.errors import CurfewError
from core.live import group_name
from taskrunner import selectors, shapes
from taskrunner.services.claiming import log_group

RECHECK_SECONDS = 60.0
CODES = {401: 4401, 403: 4403, 404: 4404}


class TaskSocket(JsonWebsocketConsumer):
    """Base: who looks, asked again every minute."""

    joined = ""
    checked_at = 0.0

    def connect(self) -> None:
        self.accept()
        if self.allowed():
            self.joined = self.group()
            async_to_sync(self.channel_layer.group_add)(self.joined, self.channel_name)
            self.hello()

    def disconnect(self, code: int) -> None:
        if self.joined:
            async_to_sync(self.channel_layer.group_discard)(self.joined, self.channel_name)

    def actor(self) -> Actor | None:
        actor = accounts.actor_of_session(self.scope["session"])
        return actor if actor is not None and actor.org_id is not None else None

    def allowed(self) -> bool:
        """Whether the viewer may still look; closes the socket when not."""
        if time.monotonic() - self.checked_at < RECHECK_SECONDS:
            return True
        actor = self.actor()
        if actor is None:
            self.close(code=4401)
            return False
        try:
            self.check(actor)
        except CurfewError as refused:
            self.close(code=CODES.get(refused.status, 4403))
            return False
        self.checked_at = time.monotonic()
        return True

    def check(self, actor: Actor) -> None:
        """Raises a CurfewError when the actor may not look."""
        selectors.get_task(actor=actor, task_id=self.task_id)

    def hello(self) -> None:
        """Said first."""

    @property
    def task_id(self) -> UUID:
        found: UUID = self.scope["url_route"]["kwargs"]["task_id"]
        return found

    def group(self) -> str:
        return log_group(self.task_id)

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        """The page pings; nothing else is read."""
        if self.allowed():
            self.send_json({"type": "pong"})

    def log(self, event: dict[str, Any]) -> None:
        """The log grew."""

    def changed(self, event: dict[str, Any]) -> None:
        """Something of the organization changed."""


class LogSocket(TaskSocket):
    """`{type: "log", stream, first_line, lines, text}`; text null means: read it from the store."""

    def hello(self) -> None:
        self.send_json({"type": "hello"})

    def log(self, event: dict[str, Any]) -> None:
        if self.allowed():
            self.send_json({key: event[key] for key in ("type", "fence", "stream", "first_line", "lines", "text")})


class TaskMetricsSocket(TaskSocket):
    """`{type: "metrics", samples}` when the task's figures changed."""

    def hello(self) -> None:
        actor = self.actor()
        if actor is not None:
            task = selectors.get_task(actor=actor, task_id=self.task_id)
            rows = selectors.task_history(task=task)
            self.send_json({"type": "metrics", "samples": shapes.samples_shape(rows)})

    def metrics(self, event: dict[str, Any]) -> None:
        if self.allowed():
            self.send_json({"type": "metrics", "samples": [event["sample"]]})


class TelemetrySocket(TaskSocket):
    """`{type: "telemetry", workers: [id]}`: whose figures are new."""

    def check(self, actor: Actor) -> None:
        actor.require("workers.view", "see workers")

    def group(self) -> str:
        actor = self.actor()
        return group_name(actor.org_id) if actor is not None and actor.org_id is not None else "nobody"

    def hello(self) -> None:
        self.send_json({"type": "hello"})

    def changed(self, event: dict[str, Any]) -> None:
        if event.get("topic") == "workers" and self.allowed():
            self.send_json({"type": "telemetry", "workers": event["ids"]})
