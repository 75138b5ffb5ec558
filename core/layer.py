"""Channel layer for the embedded mode: one process, several threads and event loops."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from channels.layers import InMemoryChannelLayer

CLEAN_SECONDS = 10.0


class ThreadSafeInMemoryChannelLayer(InMemoryChannelLayer):
    """Runs every operation on the loop that owns the queues (the web server's), wherever it is called from."""

    loop: asyncio.AbstractEventLoop | None = None
    _cleaned_at = float("-inf")

    def bind(self) -> None:
        """Called once in the server's loop, at start-up."""
        self.loop = asyncio.get_running_loop()

    async def _on_owner(self, function: Any, *args: Any) -> Any:
        if self.loop is None or asyncio.get_running_loop() is self.loop:
            return await function(*args)
        if not self.loop.is_running():
            return None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(*args), self.loop))

    async def send(self, channel: str, message: dict[str, Any]) -> Any:
        return await self._on_owner(super().send, channel, message)

    async def group_send(self, group: str, message: dict[str, Any]) -> Any:
        return await self._on_owner(self._to_all, group, message)

    async def _to_all(self, group: str, message: dict[str, Any]) -> None:
        """Put one message into every queue of the group, without a task and a copy for each; who is full misses it."""
        self.require_valid_group_name(group)
        self._clean_expired()
        until = time.time() + self.expiry
        for channel in self.groups.get(group, ()):
            queue = self.channels.setdefault(channel, asyncio.Queue(maxsize=self.get_capacity(channel)))
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait((until, message))

    async def group_add(self, group: str, channel: str) -> Any:
        return await self._on_owner(super().group_add, group, channel)

    async def group_discard(self, group: str, channel: str) -> Any:
        return await self._on_owner(super().group_discard, group, channel)

    async def receive(self, channel: str) -> Any:
        if self.loop is None:
            self.bind()
        return await super().receive(channel)

    def _clean_expired(self) -> None:
        """Now and then; the base class goes through every channel for each message that each channel receives."""
        if time.monotonic() - self._cleaned_at > CLEAN_SECONDS:
            self._cleaned_at = time.monotonic()
            super()._clean_expired()
