"""One claimed task from its image to its last log line.

The lease is renewed while the container runs. When it cannot be renewed in time, or the platform says that the task is
no longer ours, the container is killed before the platform gives the task away: nothing runs twice.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from docker.errors import DockerException

from agent.transport import Transport, Unreachable
from agent.worker.engine import CannotStart, Engine, Exit, ImageUnavailable, Order, rates
from agent.worker.shipping import Shipper, Stale

log = logging.getLogger("curfew.agent")
RENEW_SECONDS = 10.0
FIRST_LEASE_SECONDS = 15.0  # what the platform waits for the first renewal of a claim
GRACE_SECONDS = 10.0
OFTEN, ROUGH = 0.05, 0.5


class Lease:
    """Keeps a claim alive from a thread of its own, and says when the container has to go."""

    def __init__(self, transport: Transport, engine: Engine, order: Order, seconds: float) -> None:
        self.transport, self.engine, self.order, self.seconds = transport, engine, order, seconds
        self.container = ""
        self.renewed = time.monotonic()
        self.confirmed = threading.Event()
        self.cancelled = threading.Event()
        self.lost = threading.Event()
        self.over = threading.Event()
        self._before: dict[str, float] = {}
        self._thread = threading.Thread(target=self._keep, name=f"lease-{order.task[:8]}", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self.over.set()
        self._thread.join(5)

    def confirm(self) -> bool:
        """Wait for the first renewal: until then nobody knows when the claim was made, and it may be another's by now.

        False when the container must not start.
        """
        while not (self.confirmed.wait(0.2) or self.must_go):
            pass
        return not self.must_go

    @property
    def must_go(self) -> bool:
        return self.lost.is_set() or self.cancelled.is_set()

    @property
    def left(self) -> float:
        """Seconds until the container has to go. A quarter of the lease is left for the kill, so that no other worker
        can have begun meanwhile."""
        lease = self.seconds if self.confirmed.is_set() else FIRST_LEASE_SECONDS
        return self.renewed + lease * 0.75 - time.monotonic()

    def _keep(self) -> None:
        wait = 0.0  # at once: a claim that nobody renews is given away soon
        while not self.over.wait(wait):
            wait = RENEW_SECONDS if self._renew() else min(1.0, max(0.0, self.left))
            if self.left <= 0:
                log.warning("the lease of %s cannot be renewed in time; its container is killed", self.order.task)
                self._lose()
            if self.lost.is_set():
                return

    def _renew(self) -> bool:
        content: dict[str, Any] = {"fence": self.order.fence}
        if self.container:
            now = self.engine.figures(self.container, self.order.task)
            metrics = rates(self._before, now) if self._before and now else {}
            self._before = now
            if metrics:
                content["metrics"] = metrics
        asked = time.monotonic()
        try:
            path = f"/api/agent/tasks/{self.order.task}/renew"
            reply = self.transport.request("POST", path, content=content, timeout=max(0.5, min(8.0, self.left)))
        except Unreachable as lost:
            log.info("the lease of %s was not renewed: %s", self.order.task, lost)
            return False
        if reply.status == 200:
            self.renewed = asked
            self.confirmed.set()
            if reply.json().get("cancel"):
                self.cancelled.set()
        elif reply.status in (401, 403, 404, 409):
            self._lose()
        return reply.status == 200

    def _lose(self) -> None:
        self.lost.set()
        if self.container:
            self.engine.kill(self.container)


class Running:
    """Runs one order to its end; `make_transport` opens a connection for each thread."""

    def __init__(self, make_transport: Any, engine: Engine, order: Order, lease_seconds: float) -> None:
        self.make_transport, self.engine, self.order = make_transport, engine, order
        self.transport: Transport = make_transport()
        self.lease = Lease(make_transport(), engine, order, lease_seconds)

    def run(self, container: str = "") -> None:
        """To the end, whatever happens; never raises. A container of an earlier process is taken up as it is."""
        self.lease.container = container
        self.lease.begin()
        try:
            container = container or self._start()
            if container:
                self._until_end(container)
        except Stale as stale:
            log.warning("task %s is not ours any more: %s", self.order.task, stale)
        except (DockerException, OSError) as broken:
            self._tell("start", None, f"The engine failed: {str(broken)[:300]}")
        finally:
            self.lease.end()
            if container:
                self._clean(container)
            self.engine.give_back(self.order.task)

    def _clean(self, container: str) -> None:
        try:
            self.engine.remove(container)
        except DockerException as refused:
            log.warning("container %s is left: %s", container[:12], refused)

    def _start(self) -> str:
        try:
            self.engine.ensure_image(self.order.image)
            container = self.engine.create(self.order)
            self.lease.container = container
            if not self.lease.confirm():
                self._clean(container)
                self._tell("cancelled", None, "")
                return ""
            self.engine.start(container)
        except ImageUnavailable as missing:
            self._tell("image", None, str(missing))
            return ""
        except CannotStart as refused:
            self._tell("start", None, str(refused))
            self._clean(self.engine.find(self.order))
            return ""
        return container

    def _until_end(self, container: str) -> None:
        path = f"/api/agent/tasks/{self.order.task}/start"
        reply = self._insist(path, {"fence": self.order.fence})
        sent = reply.get("log", {})
        shipper = Shipper(
            self.make_transport(),
            self.order.task,
            self.order.fence,
            lambda follow: self.engine.log(container, follow=follow),
            sent,
        )
        follower = threading.Thread(
            target=self._follow, args=(shipper,), name=f"log-{self.order.task[:8]}", daemon=True
        )
        follower.start()
        ended, timed_out = self._wait(container)
        if self.lease.lost.is_set():
            shipper.stopped.set()
            return
        follower.join(60)
        shipper.stopped.set()
        follower.join(60)
        shipper.finish()  # to the last byte, before the end is told
        self._report(ended, timed_out)

    def _follow(self, shipper: Shipper) -> None:
        try:
            shipper.follow()
        except Stale:
            self.lease._lose()
        except (DockerException, OSError, ValueError) as cut:
            log.info("the log of %s was cut off, it is read again at the end: %s", self.order.task, cut)

    def _wait(self, container: str) -> tuple[Exit, bool]:
        deadline = time.monotonic() + self.order.timeout_seconds - self.engine.age(container)
        began, timed_out, asked = time.monotonic(), False, False
        while (ended := self.engine.exit(container)) is None:
            if self.lease.cancelled.is_set() and not asked:
                asked = True
                self.engine.stop(container, int(GRACE_SECONDS))
            if time.monotonic() > deadline:
                timed_out = True
                self.engine.stop(container, int(GRACE_SECONDS))
            time.sleep(OFTEN if time.monotonic() - began < 5 else ROUGH)
        return ended, timed_out

    def _report(self, ended: Exit, timed_out: bool) -> None:
        if self.lease.cancelled.is_set():
            self._tell("cancelled", ended.code, "")
        elif timed_out:
            self._tell("timeout", ended.code, f"It ran longer than {self.order.timeout_seconds:g} s and was stopped.")
        elif ended.oom:
            self._tell("oom", ended.code, f"It needed more than its {self.order.memory} MiB of memory.")
        elif ended.code == 0:
            self._tell("ok", 0, "")
        else:
            self._tell("error", ended.code, ended.error)

    def _tell(self, exit_class: str, code: int | None, reason: str) -> None:
        content = {"fence": self.order.fence, "exit_class": exit_class, "exit_code": code, "reason": reason[:500]}
        self._insist(f"/api/agent/tasks/{self.order.task}/finish", content)

    def _insist(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """Say it until the platform answers. Raises Stale when it refuses."""
        wait = 0.2
        while not self.lease.lost.is_set():
            try:
                reply = self.transport.request("POST", path, content=content, timeout=10)
                if reply.ok:
                    return reply.json()
                if reply.status in (400, 401, 403, 404, 409, 422):
                    raise Stale(f"refused with {reply.status}: {reply.json().get('detail', '')}")
                wait = max(wait, reply.retry_after)
            except Unreachable as lost:
                log.info("%s waits: %s", path, lost)
            time.sleep(wait)
            wait = min(wait * 2, 5.0)
        raise Stale("the lease ran out")
