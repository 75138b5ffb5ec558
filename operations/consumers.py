"""The live socket of the pages: which ids changed, nothing else."""

from __future__ import annotations

import time
from typing import Any

from asgiref.sync import async_to_sync
from channels.generic.websocket import JsonWebsocketConsumer

from accounts import selectors as accounts
from core.live import group_name

RECHECK_SECONDS = 60.0


class LiveConsumer(JsonWebsocketConsumer):
    """Joins the group of the organization that the session acts in; leaves when the right is gone.

    Close codes: 4401 not signed in, 4403 no longer a member.
    """

    group = ""
    checked_at = 0.0

    def connect(self) -> None:
        self.accept()
        actor = accounts.actor_of_session(self.scope["session"])
        if actor is None or actor.org_id is None:
            self.close(code=4401)
            return
        self.group = group_name(actor.org_id)
        self.checked_at = time.monotonic()
        async_to_sync(self.channel_layer.group_add)(self.group, self.channel_name)
        self.send_json({"topic": "hello", "ids": []})

    def disconnect(self, code: int) -> None:
        if self.group:
            async_to_sync(self.channel_layer.group_discard)(self.group, self.channel_name)

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        """The page pings; nothing else is read."""
        if self._still_allowed():
            self.send_json({"topic": "pong", "ids": []})

    def changed(self, event: dict[str, Any]) -> None:
        if self._still_allowed():
            self.send_json({"topic": event["topic"], "ids": event["ids"]})

    def _still_allowed(self) -> bool:
        if time.monotonic() - self.checked_at < RECHECK_SECONDS:
            return True
        actor = accounts.actor_of_session(self.scope["session"])
        if actor is None or actor.org_id is None or group_name(actor.org_id) != self.group:
            self.close(code=4403)
            return False
        self.checked_at = time.monotonic()
        return True
