"""The Celery worker and beat as threads of the web process (the embedded mode).

`config.asgi` calls `start()` and `stop()` from the ASGI lifespan. A part that ends by itself is started again,
and both is logged. What a stop cuts off is not lost: operation rows are the truth and the next start's sweep
picks them up.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.beat import Service
from django.conf import settings
from django.db import connections

from config.celery import app

log = logging.getLogger(__name__)

QUEUES = ("fast", "cloud", "sweep")
READY_SECONDS = 10.0
STOP_SECONDS = 2.5
RESTART_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0


class _Part:
    """A thread that runs `body` again, after a growing pause, whenever it ends before `stop`."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name = name
        self.stopping = threading.Event()
        self.restarts = 0
        self._body = body
        self.thread = threading.Thread(target=self._run, name=f"curfew-{name}", daemon=True)

    def _run(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            began = time.monotonic()
            self._once()
            if self.stopping.is_set():
                break
            failures = 0 if time.monotonic() - began > STEADY_SECONDS else failures + 1
            pause = RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)]
            self.restarts += 1
            log.error("embedded_part_ended", extra={"part": self.name, "restart_in_seconds": pause})
            self.stopping.wait(pause)

    def _once(self) -> None:
        try:
            self._body()
        except (Exception, SystemExit, KeyboardInterrupt):
            log.exception("embedded_part_failed", extra={"part": self.name})
        finally:
            connections.close_all()


class Embedded:
    """Worker and beat of one process; one `start()`, one `stop()`, both from any thread."""

    def __init__(self) -> None:
        self.worker: Any = None
        self._ready = threading.Event()
        self._parts = (_Part("worker", self._work), _Part("beat", self._tick))

    @property
    def restarts(self) -> int:
        """How often a part had to be started again."""
        return sum(part.restarts for part in self._parts)

    def start(self) -> None:
        """Start both parts and return when the worker takes messages (at most READY_SECONDS later)."""
        began = time.monotonic()
        os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # the web server's own start has loaded every model
        for part in self._parts:
            part.thread.start()
        if self._ready.wait(READY_SECONDS):
            log.info("embedded_started", extra={"seconds": round(time.monotonic() - began, 2)})
        else:
            log.error("embedded_worker_not_ready", extra={"seconds": READY_SECONDS})

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """Stop both parts; True when every running task ended within `timeout` seconds.

        Tasks that take longer are left behind; the process may end at once, their leases run out.
        """
        began = time.monotonic()
        for part in self._parts:
            part.stopping.set()
        threading.Thread(target=self._stop_worker, name="curfew-worker-stop", daemon=True).start()
        for part in self._parts:
            part.thread.join(max(0.0, timeout - (time.monotonic() - began)))
        clean = not any(part.thread.is_alive() for part in self._parts)
        log.info("embedded_stopped", extra={"seconds": round(time.monotonic() - began, 2), "clean": clean})
        return clean

    def _work(self) -> None:
        # WorkController, not celery.apps.worker.Worker: no signal handlers and no banner
        self.worker = app.WorkController(
            app=app,
            ready_callback=lambda consumer: self._ready.set(),
            pool_cls="threads",
            concurrency=settings.CELERY_WORKER_CONCURRENCY,
            queues=list(QUEUES),
            hostname="embedded@localhost",
            loglevel="WARNING",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        self.worker.start()

    def _stop_worker(self) -> None:
        """Warm shutdown: no new tasks, running ones end first."""
        if self.worker is not None:
            try:
                self.worker.stop()
            except Exception:
                log.exception("embedded_stop_failed", extra={"part": "worker"})

    def _tick(self) -> None:
        """Beat's own loop, but waiting on our event, so that a stop need not wait for the next tick."""
        service = Service(
            app,
            scheduler_cls=settings.CELERY_BEAT_SCHEDULER,
            max_interval=settings.CELERY_BEAT_MAX_LOOP_INTERVAL,
        )
        signals.beat_init.send(sender=service)
        stopping = self._parts[1].stopping
        try:
            while not stopping.is_set():
                interval = service.scheduler.tick()
                if interval and interval > 0:
                    stopping.wait(interval)
                if service.scheduler.should_sync():
                    service.scheduler._do_sync()
        finally:
            service.sync()
