"""Workers' calls that wait for a task, in the web server's event loop: none of them holds a thread.

One keeper an organization looks when something of its tasks or workers changed, and every second besides (a lost notice
costs that much, a task whose pause is over too). A look asks the database once which of the waiting workers may have
something to take; only those claim, who waited longest first, one after the other in one thread of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from channels.layers import get_channel_layer
from django.db import DatabaseError, close_old_connections

from core.broker import away
from core.errors import Conflict, CurfewError
from core.live import group_name
from taskrunner import selectors, services
from taskrunner.models import Worker

log = logging.getLogger(__name__)
MOST_WAITING = 2000
LOOK_AGAIN_SECONDS = 1.0
LISTEN_AGAIN_SECONDS = 5.0
IN_VAIN = 10  # claims without a task in a row end a look: limits or other processes hold the tasks
_TOPICS = {"tasks", "workers"}
_pool = ThreadPoolExecutor(1, thread_name_prefix="curfew-claims")


@dataclass(eq=False)
class _Call:
    worker: Worker
    call: UUID
    most: int
    answer: asyncio.Future[list[services.Claim]]
    claiming: bool = False
    over: bool = False

    def give(self, claims: list[services.Claim]) -> None:
        if not self.answer.done():
            self.answer.set_result(claims)

    def refuse(self, why: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(why)


@dataclass(eq=False)
class _Room:
    """The waiting calls of one organization by worker, oldest first, and the bell that announces a change."""

    org_id: UUID
    calls: dict[UUID, _Call] = field(default_factory=dict)
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: asyncio.Task[None] | None = None

    async def keep(self) -> None:
        """Look while somebody waits."""
        listener = asyncio.create_task(self._listen())
        try:
            while self.calls:
                self.bell.clear()
                with _survived("look"):
                    await self._look()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.bell.wait(), LOOK_AGAIN_SECONDS)
        finally:
            listener.cancel()

    async def _listen(self) -> None:
        """Ring the bell whenever open pages would be told of a change of tasks or workers."""
        while True:
            with _survived("listen"):
                await self._hear()
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _hear(self) -> None:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(group_name(self.org_id), channel)
        try:
            while True:
                notice = await layer.receive(channel)
                if _TOPICS & json.loads(notice.get("text", "{}")).get("changes", {}).keys():
                    self.bell.set()
        finally:
            await layer.group_discard(group_name(self.org_id), channel)

    async def _look(self) -> None:
        waiting = [worker_id for worker_id, call in self.calls.items() if not call.over]
        may_take, tasks = await _in_thread(selectors.who_may_take, self.org_id, waiting)
        in_vain = 0
        for worker_id in may_take:
            call = self.calls.get(worker_id)
            if call is None or call.answer.done():
                continue
            got = await self._claim(call)
            tasks, in_vain = tasks - got, 0 if got else in_vain + 1
            if tasks <= 0 or in_vain >= IN_VAIN:
                return

    async def _claim(self, call: _Call) -> int:
        claims: list[services.Claim] = []
        call.claiming = True
        try:
            claims = await _in_thread(lambda: services.claim_some(worker=call.worker, most=call.most, call=call.call))
        except CurfewError as refused:
            call.refuse(refused)
        finally:
            call.claiming = False
            if claims or call.over:  # its time may have run out meanwhile; what was claimed is still its own
                call.give(claims)
        return len(claims)


@contextlib.contextmanager
def _survived(what: str) -> Iterator[None]:
    """A database or broker that is away costs a look, not the keeper."""
    try:
        yield
    except away(DatabaseError, RuntimeError, ValueError) as lost:
        log.warning("claims_waiting", extra={"doing": what, "reason": repr(lost)})


async def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
    def call() -> Any:
        close_old_connections()
        return function(*args)

    return await asyncio.get_running_loop().run_in_executor(_pool, call)


_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[UUID, _Room]] = WeakKeyDictionary()


def is_full() -> bool:
    """Whether as many calls wait in this process as it keeps."""
    return sum(len(room.calls) for rooms in list(_rooms.values()) for room in list(rooms.values())) >= MOST_WAITING


async def wait(worker: Worker, call: UUID, most: int, seconds: float) -> list[services.Claim]:
    """Tasks for the worker as soon as there are some; none when the time is over.

    Raises Conflict `superseded` when another call of the worker begins.
    """
    rooms = _rooms.setdefault(asyncio.get_running_loop(), {})
    room = rooms.setdefault(worker.organization_id, _Room(worker.organization_id))
    own = _Call(worker, call, most, asyncio.get_running_loop().create_future())
    earlier = room.calls.pop(worker.id, None)
    if earlier is not None:
        earlier.refuse(Conflict("Another call of this worker asks for tasks now.", code="superseded"))
    room.calls[worker.id] = own
    room.bell.set()
    if room.keeper is None or room.keeper.done():
        room.keeper = asyncio.create_task(room.keep())
    try:
        await asyncio.wait([own.answer], timeout=seconds)
        own.over = True
        if not own.claiming:
            own.give([])
        return await own.answer
    finally:
        own.over = True
        if room.calls.get(worker.id) is own:
            del room.calls[worker.id]
        if not room.calls:
            room.bell.set()
