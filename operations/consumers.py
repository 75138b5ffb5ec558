"""The live socket of the pages: which ids changed, nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from accounts import selectors as accounts
from core.live import group_name, merged

RECHECK_SECONDS = 60.0
# The first notice after a silence waits for what other processes tell of the same change; then a page is left alone
# for a while, as each notice makes it look.
GATHER_SECONDS = 0.2
APART_SECONDS = 0.75


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """Joins the group of the organization that the session acts in; leaves when the right is gone.

    Close codes: 4401 not signed in, 4403 no longer a member.
    """

    group = ""
    checked_at = 0.0
    sent_at = float("-inf")
    sending: asyncio.Task[None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard: list[str] = []

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Notices come for every page at once and touch no database: without Channels' look after its connections."""
        if message["type"] == "changed":
            await self.changed(message)
        else:
            await super().dispatch(message)

    async def connect(self) -> None:
        await self.accept()
        group = await self._group_now()
        if not group:
            await self.close(code=4401)
            return
        self.group = group
        self.checked_at = time.monotonic()
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.send_json({"topic": "hello", "ids": []})

    async def disconnect(self, code: int) -> None:
        if self.sending is not None:
            self.sending.cancel()
        if self.group:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """The page pings; nothing else is read."""
        if await self._still_allowed():
            await self.send_json({"topic": "pong", "ids": []})

    async def changed(self, event: dict[str, Any]) -> None:
        """Note a notice; it goes out with all that come within the window."""
        self.heard.append(event["text"])
        if self.sending is None or self.sending.done():
            self.sending = asyncio.create_task(self._send_gathered())

    async def _send_gathered(self) -> None:
        """Send what was heard, once the window is over; what comes while it is being sent has its turn next."""
        while self.heard:
            await asyncio.sleep(max(GATHER_SECONDS, self.sent_at + APART_SECONDS - time.monotonic()))
            if not await self._still_allowed():
                return
            texts, self.heard = tuple(self.heard), []
            self.sent_at = time.monotonic()
            with contextlib.suppress(OSError, RuntimeError):  # the browser is gone; it is told so elsewhere
                await self.send(text_data=merged(texts))

    async def _still_allowed(self) -> bool:
        if time.monotonic() - self.checked_at < RECHECK_SECONDS:
            return True
        if await self._group_now() != self.group:
            await self.close(code=4403)
            return False
        self.checked_at = time.monotonic()
        return True

    async def _group_now(self) -> str:
        """The group that the session's person belongs to now; "" for nobody."""
        actor = await database_sync_to_async(accounts.actor_of_session)(self.scope["session"])
        return group_name(actor.org_id) if actor is not None and actor.org_id is not None else ""
