"""A sign of life every fifteen seconds: how agent, API server and sources are doing, and where delivery stands."""

from __future__ import annotations

import gzip
import json
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent import __version__
from agent.cluster.orders import Orders
from agent.cluster.outbox import Samples
from agent.cluster.prometheus import Word
from agent.cluster.rules import RulesKeeper
from agent.cluster.sender import Sender
from agent.cluster.store import Store
from agent.transport import Transport, Unreachable, jittered
from agent.wire.codec import iso
from agent.wire.model import FORMAT

log = logging.getLogger("curfew.agent.heartbeat")
HEARTBEAT_PATH = "/api/agent/cluster/heartbeat"
ANSWER_PATH = "/api/agent/cluster/orders/"
TIMEOUT = 10.0
ANSWER_SECONDS = 30.0
SOON = 0.3  # after a batch, the next one is likely to be there


def memory_bytes() -> int | None:
    """Return the resident memory of this process; None where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class Deliverer:
    """Sends the answer of a batch. One that does not arrive is lost: the platform looks again, and asks anew."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __call__(self, order: str, content: dict[str, Any]) -> None:
        body = gzip.compress(json.dumps(content, separators=(",", ":")).encode(), 4)
        path = ANSWER_PATH + quote(order, safe="")
        try:
            reply = self._transport.request("POST", path, body=body, packed=True, timeout=ANSWER_SECONDS)
        except Unreachable as problem:
            log.warning("the answer of an order did not arrive: %s", problem)
            return
        if not reply.ok:
            log.warning("the answer of an order was not taken: %s", reply.status)


class Heartbeat:
    """Composes and sends heartbeats; hands resync, pace, standby and orders in the answer to whom they concern."""

    def __init__(
        self,
        transport: Transport,
        store: Store,
        samples: Samples,
        sender: Sender,
        orders: Orders,
        rules: RulesKeeper,
        facts: Callable[[], dict[str, Any]],
        word: Word | None = None,
    ) -> None:
        self._transport, self._store, self._samples = transport, store, samples
        self._sender, self._orders, self._rules, self._facts = sender, orders, rules, facts
        self._word = word
        self._began = time.monotonic()
        self.failing = False

    def content(self) -> dict[str, Any]:
        """Return the heartbeat's body."""
        outbox, figures = self._sender.outbox, self._sender.figures
        sequence, digest = outbox.acknowledged
        return {
            "format": FORMAT,
            "session": outbox.session,
            "at": iso(datetime.now(UTC)),
            "agent": {
                "version": __version__,
                "uptime_seconds": round(time.monotonic() - self._began),
                "memory_bytes": memory_bytes(),
                "cpu_seconds": round(time.process_time(), 2),
                "unreadable_objects": self._store.skipped,
            },
            **self._facts(),
            "sequence": sequence,
            "digest": digest,
            "counts": self._store.counts(),
            "sources": self._store.sources(),
            "delivery": {
                "standby": figures.standby,
                "problem": figures.last_problem,
                "samples_waiting": len(self._samples),
                "samples_dropped": self._samples.dropped,
            },
            "order_results": self._orders.results(),
            "orders": self._orders.able(),
            "placement": self._rules.report(),
            **({"usage_until": "wanted"} if self._word is not None and not self._word.heard else {}),
        }

    def beat(self) -> float:
        """Send one heartbeat; return the seconds until the next."""
        content = self.content()
        try:
            reply = self._transport.request("POST", HEARTBEAT_PATH, content=content, timeout=TIMEOUT)
        except Unreachable as problem:
            return self._missed(str(problem))
        if not reply.ok:
            return self._missed(f"answer {reply.status}", reply.retry_after)
        if self.failing:
            log.info("heartbeats arrive again")
        self.failing = False
        self._orders.told(len(content["order_results"]))
        self._obey(reply.json(), content["sequence"])
        return SOON if self._orders.busy else jittered(self._sender.pace.heartbeat, 0.05)

    def _obey(self, told: dict[str, Any], sequence: int) -> None:
        sender = self._sender
        standby = told.get("standby") is True
        if sender.figures.standby and not standby:
            log.info("taking over from the other agent")
            sender.outbox.ask_full()
        elif standby and not sender.figures.standby:
            log.warning("another agent reports this cluster: standing by")
        sender.figures.standby = standby
        unchanged = sender.outbox.acknowledged[0] == sequence and sequence > 0
        if told.get("resync") is True and unchanged:
            sender.outbox.ask_full()
            sender.wake.set()
        elif told.get("sync_now") is True:
            sender.wake.set()
        sender.pace.follow(told.get("intervals") or {})
        if self._word is not None:
            self._word.take(told)
        self._rules.take(told.get("placement"))
        self._orders.take(told.get("orders"))

    def _missed(self, problem: str, at_least: float = 0.0) -> float:
        if not self.failing:
            log.warning("a heartbeat did not arrive: %s", problem)
        self.failing = True
        return max(at_least, jittered(self._sender.pace.heartbeat, 0.2))
