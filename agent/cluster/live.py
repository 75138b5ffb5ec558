"""The agent put together: watchers, meter, sender, heartbeat, and a guard that ends the process when one has died."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent.cluster.heartbeat import Deliverer, Heartbeat
from agent.cluster.kube import Access, Gone, Kube, KubeError
from agent.cluster.metrics import Meter
from agent.cluster.orders import Orders
from agent.cluster.outbox import Outbox, Samples
from agent.cluster.prometheus import SOURCE as PROMETHEUS
from agent.cluster.prometheus import Backfill, Word
from agent.cluster.rules import RulesKeeper
from agent.cluster.sender import Pace, Sender
from agent.cluster.store import Store
from agent.cluster.watch import Watcher
from agent.transport import Endpoint, Transport, Unreachable
from agent.wire import build
from agent.wire.codec import to_wire
from agent.wire.model import Cluster
from agent.wire.resources import RESOURCES

log = logging.getLogger("curfew.agent")
FIRST_SYNC_SECONDS = 45.0
PROBE_SECONDS = 30.0
EVENTS = next(r for r in RESOURCES if r.name == "events")


@dataclass(slots=True)
class Settings:
    """What the command line and the environment decide."""

    platform: Endpoint
    token: Callable[[], str]
    access: Access
    name: str = ""
    allow_orders: bool = False
    check: Callable[[bytes, bytes], bool] | None = None
    own_namespace: str = ""
    placement_config: str = ""
    pace: Pace | None = None
    prometheus: Access | None = None


class ClusterAgent:
    """One cluster's agent. `start()`, then `wait()` until a thread died or `stop()` was called."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store, self.samples = Store(), Samples()
        self.stopping = threading.Event()
        self.cluster: Cluster | None = None
        self._api: dict[str, Any] = {"reachable": False}
        self._began = time.monotonic()
        pace = settings.pace or Pace()
        self.outbox = Outbox(self.store, self.samples, self._head)
        self.sender = Sender(self.outbox, Transport(settings.platform, settings.token), pace, self._ready)
        self.orders = Orders(
            Kube(settings.access),
            allowed=settings.allow_orders,
            check=settings.check,
            cluster=lambda: self.cluster.uid if self.cluster else "",
            own_namespace=settings.own_namespace,
            deliver=Deliverer(Transport(settings.platform, settings.token)),
        )
        self.rules = RulesKeeper(
            Kube(settings.access, timeout=10.0),
            config=settings.placement_config,
            namespace=settings.own_namespace,
            check=settings.check,
            cluster=lambda: self.cluster.uid if self.cluster else "",
        )
        self.backfill: Backfill | None = None
        word = Word() if settings.prometheus else None
        if settings.prometheus and word:
            self.backfill = Backfill(settings.prometheus, self.store, self.samples, self.stopping, word)
        self.heartbeat = Heartbeat(
            Transport(settings.platform, settings.token),
            self.store,
            self.samples,
            self.sender,
            self.orders,
            self.rules,
            self._facts,
            word,
        )
        before = self.backfill.run if self.backfill else None
        self.meter = Meter(settings.access, self.store, self.samples, self.stopping, before)
        self.watchers = [Watcher(r, settings.access, self.store, self.stopping) for r in RESOURCES]
        self._threads: list[threading.Thread] = []

    def _head(self) -> dict[str, Any]:
        assert self.cluster is not None, "the sender waits until the cluster is known"
        return {"cluster": to_wire(self.cluster), "sources": self.store.sources(), "agent": {"mode": "live"}}

    def _facts(self) -> dict[str, Any]:
        cluster = to_wire(self.cluster) if self.cluster else {"uid": "", "name": self.settings.name}
        return {"cluster": cluster, "api_server": self._api}

    def _ready(self) -> bool:
        """A first picture needs every source's first answer, or patience's end and at least the nodes."""
        if self.cluster is None:
            return False
        if self.outbox.sequence:
            return True
        late = time.monotonic() - self._began > FIRST_SYNC_SECONDS
        return self.store.settled(lambda name: name not in ("metrics", PROMETHEUS)) or (
            late and self.store.health("nodes").state == "ok"
        )

    def start(self) -> None:
        """Start every thread."""
        loops: list[tuple[str, Callable[[], None]]] = [
            ("sender", lambda: self.sender.run(self.stopping)),
            ("heartbeat", lambda: self._every(self.heartbeat.beat)),
            ("cluster", lambda: self._every(self._look_at_cluster)),
            ("prune", lambda: self._every(self._prune)),
        ]
        extra = [threading.Thread(target=run, name=name, daemon=True) for name, run in loops]
        self._threads = [*extra, *self.watchers, self.meter]
        for thread in self._threads:
            thread.start()

    def wait(self) -> int:
        """Return 0 after `stop()`; 1 when a thread has died, for the supervisor to start us anew."""
        while not self.stopping.wait(1.0):
            dead = [thread.name for thread in self._threads if not thread.is_alive()]
            if dead:
                log.error("a part of the agent has died: %s", ", ".join(dead))
                return 1
            self.meter.interval = self.sender.pace.usage
        return 0

    def stop(self, seconds: float = 5.0) -> None:
        """End every thread; returns when they have ended or the time is up."""
        self.stopping.set()
        self.sender.wake.set()
        self.meter.close()
        if self.backfill is not None:
            self.backfill.close()
        deadline = time.monotonic() + seconds
        while True:
            for watcher in self.watchers:
                watcher.close()  # again and again: one may have been about to open its watch
            for thread in self._threads:
                thread.join(0.01)
            if time.monotonic() > deadline or not any(thread.is_alive() for thread in self._threads):
                return

    def _every(self, step: Callable[[], float]) -> None:
        while not self.stopping.is_set():
            self.stopping.wait(step())

    def _prune(self) -> float:
        self.store.prune_events(EVENTS, datetime.now(UTC))
        return 60.0

    def _look_at_cluster(self) -> float:
        """Learn who the cluster is, then go on asking its version: that measures the API server's answer time."""
        kube = Kube(self.settings.access, timeout=10.0)
        began = time.monotonic()
        try:
            version = kube.get("/version")
            milliseconds = round((time.monotonic() - began) * 1000)
            system = kube.get("/api/v1/namespaces/kube-system")
        except (KubeError, Gone, Unreachable) as problem:
            self._api = {"reachable": isinstance(problem, KubeError), "problem": str(problem)[:300]}
            return 5.0
        finally:
            kube.close()
        self.cluster = build.cluster(version, system, name=self.settings.name)
        self._api = {"reachable": True, "milliseconds": milliseconds}
        return PROBE_SECONDS


def snapshot_once(settings: Settings) -> ClusterAgent:
    """Return an agent that has listed everything once and follows nothing. Raises KubeError, Unreachable, BadListing.

    A source that refuses is noted, not fatal, unless it is the nodes.
    """
    agent = ClusterAgent(settings)
    if agent._look_at_cluster() < PROBE_SECONDS:
        raise Unreachable(str(agent._api.get("problem")))
    for watcher in agent.watchers:
        try:
            watcher.list_once()
        except (KubeError, Gone) as refused:
            if watcher.resource.name == "nodes":
                raise
            state = refused.source_state if isinstance(refused, KubeError) else "error"
            agent.store.report(watcher.resource.name, state, str(refused))
    agent.meter.measure()
    return agent
