"""Live sockets of one task's log, of its figures, and of the workers' figures.

The log socket carries the tail itself where it is small, else a hint; a viewer that missed something reads from the
store. Close codes: 4401 not signed in, 4403 no longer allowed, 4404 no such task.
"""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from accounts import selectors as accounts
from accounts.facts import facts_of_scope
from core import denials
from core.actor import Actor
from core.errors import CurfewError
from core.live import group_name
from taskrunner import selectors, shapes
from taskrunner.services.claiming import log_group

RECHECK_SECONDS = 60.0
CODES = {401: 4401, 403: 4403, 404: 4404}
TOLD = frozenset({"log", "metrics", "changed"})


class TaskSocket(AsyncJsonWebsocketConsumer):
    """Base: who looks, asked again every minute. What all viewers are told was encoded once, by whoever told it."""

    joined = ""
    checked_at = 0.0

    async def dispatch(self, message: dict[str, Any]) -> None:
        """What is told comes for every viewer at once and touches no database: without a look after its connections."""
        if message["type"] in TOLD:
            await getattr(self, message["type"])(message)
        else:
            await super().dispatch(message)

    async def connect(self) -> None:
        await self.accept()
        if await self.allowed():
            self.joined = await database_sync_to_async(self.group)()
            await self.channel_layer.group_add(self.joined, self.channel_name)
            await self.send_json(await database_sync_to_async(self.hello)())

    async def disconnect(self, code: int) -> None:
        if self.joined:
            await self.channel_layer.group_discard(self.joined, self.channel_name)

    def actor(self) -> Actor | None:
        actor = accounts.actor_of_session(self.scope["session"], **facts_of_scope(self.scope))
        return actor if actor is not None and actor.org_id is not None else None

    async def allowed(self) -> bool:
        """Whether the viewer may still look; closes the socket when not."""
        if time.monotonic() - self.checked_at < RECHECK_SECONDS:
            return True
        code = await database_sync_to_async(self._refusal)()
        if code:
            await self.close(code=code)
            return False
        self.checked_at = time.monotonic()
        return True

    def _refusal(self) -> int:
        """The close code for a viewer that may not look; 0 for one that may."""
        actor = self.actor()
        if actor is None:
            return 4401
        try:
            self.check(actor)
        except CurfewError as refused:
            denials.note(refused, actor, where=f"socket {self.scope['path']}")
            return CODES.get(refused.status, 4403)
        return 0

    def check(self, actor: Actor) -> None:
        """Raises a CurfewError when the actor may not look."""
        selectors.get_task(actor=actor, task_id=self.task_id)

    def hello(self) -> dict[str, Any]:
        """What is said first."""
        return {"type": "hello"}

    @property
    def task_id(self) -> UUID:
        found: UUID = self.scope["url_route"]["kwargs"]["task_id"]
        return found

    def group(self) -> str:
        return log_group(self.task_id)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """The page pings; nothing else is read."""
        if await self.allowed():
            await self.send_json({"type": "pong"})

    async def log(self, event: dict[str, Any]) -> None:
        """The log grew."""

    async def metrics(self, event: dict[str, Any]) -> None:
        """The task's figures changed."""

    async def changed(self, event: dict[str, Any]) -> None:
        """Something of the organization changed."""


class LogSocket(TaskSocket):
    """`{type: "log", fence, stream, first_line, lines, text}`; text null means: read it from the store."""

    async def log(self, event: dict[str, Any]) -> None:
        if await self.allowed():
            await self.send(text_data=event["encoded"])


class TaskMetricsSocket(TaskSocket):
    """`{type: "metrics", samples}` when the task's figures changed."""

    def hello(self) -> dict[str, Any]:
        actor = self.actor()
        if actor is None:
            return {"type": "metrics", "samples": []}
        task = selectors.get_task(actor=actor, task_id=self.task_id)
        return {"type": "metrics", "samples": shapes.samples_shape(selectors.task_history(task=task))}

    async def metrics(self, event: dict[str, Any]) -> None:
        if await self.allowed():
            await self.send_json({"type": "metrics", "samples": [event["sample"]]})


class TelemetrySocket(TaskSocket):
    """`{type: "telemetry", workers: [id]}`: whose figures are new."""

    def check(self, actor: Actor) -> None:
        actor.require("workers.view", "see workers")

    def group(self) -> str:
        actor = self.actor()
        return group_name(actor.org_id) if actor is not None and actor.org_id is not None else "nobody"

    async def changed(self, event: dict[str, Any]) -> None:
        ids = json.loads(event["text"])["changes"].get("workers")
        if ids is not None and await self.allowed():
            await self.send_json({"type": "telemetry", "workers": ids})
