"""Delivery: one message at a time to the platform, and what its answer means."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.cluster.outbox import Outbox, Parcel
from agent.transport import Backoff, Reply, Transport, Unreachable, jittered

log = logging.getLogger("curfew.agent.sender")
SNAPSHOT_PATH = "/api/agent/cluster/snapshot"
LONGEST_WAIT = 30.0
REFUSED_WAIT = 60.0
UNSUPPORTED_WAIT = 600.0
SEND_SECONDS = 60.0
CONFLICT_WAIT = 5.0
LONGEST_CONFLICT_WAIT = 300.0


@dataclass(slots=True)
class Pace:
    """Seconds between actions, as the platform may set them; kept within bounds that keep both sides well."""

    heartbeat: float = 15.0
    snapshot: float = 10.0
    usage: float = 60.0

    def follow(self, told: dict[str, object]) -> None:
        """Take over what the platform asks for, within 1 to 300 seconds."""
        for name in ("heartbeat", "snapshot", "usage"):
            value = told.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                setattr(self, name, min(300.0, max(1.0, float(value))))


@dataclass(slots=True)
class Delivered:
    """Figures for the heartbeat and for tests."""

    messages: int = 0
    fulls: int = 0
    bytes: int = 0
    failures: int = 0
    last_problem: str = ""
    standby: bool = False
    history: list[tuple[int, bool, int]] = field(default_factory=list)


class Sender:
    """Sends what the outbox cuts. `ready` says whether the picture is complete enough for a first message."""

    def __init__(self, outbox: Outbox, transport: Transport, pace: Pace, ready: Callable[[], bool]) -> None:
        self.outbox, self.pace = outbox, pace
        self._transport, self._ready = transport, ready
        self._backoff = Backoff(1.0, LONGEST_WAIT)
        self._conflicts = Backoff(CONFLICT_WAIT, LONGEST_CONFLICT_WAIT)
        self.figures = Delivered()
        self.wake = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        while not stop.is_set():
            self.wake.wait(self.step())
            self.wake.clear()

    def step(self) -> float:
        """Deliver at most one message; return the seconds to wait before the next step."""
        if self.figures.standby or not self._ready():
            return 1.0
        parcel = self.outbox.next()
        if parcel is None:
            return jittered(self.pace.snapshot)
        try:
            reply = self._transport.request(
                "POST",
                SNAPSHOT_PATH,
                body=parcel.body,
                packed=True,
                timeout=SEND_SECONDS,
                headers={"X-Curfew-Session": self.outbox.session, "X-Curfew-Sequence": str(parcel.sequence)},
            )
        except Unreachable as problem:
            return self._failed(f"the platform cannot be reached: {problem}")
        return self._judge(parcel, reply)

    def _judge(self, parcel: Parcel, reply: Reply) -> float:
        code = str(reply.json().get("code") or "")
        if reply.ok:
            return self._accepted(parcel, reply)
        if reply.status == 409:
            return self._conflict(parcel, code)
        if reply.status == 413:
            self.outbox.without_samples()
            return self._failed("the message is too large for the platform", REFUSED_WAIT)
        if reply.status == 415 or code == "unsupported_format":
            self.outbox.refused()
            return self._failed("the platform does not read this agent's format: update one of them", UNSUPPORTED_WAIT)
        if reply.status in {400, 422}:
            if self._backoff.failures:
                self.outbox.refused()  # sent twice, refused twice: not a fault of the way
            return self._failed(f"the platform cannot read the message: {reply.json().get('detail') or code}")
        if reply.status in {401, 403}:
            return self._failed("the platform does not accept the token", REFUSED_WAIT)
        return self._failed(f"the platform answered {reply.status}", reply.retry_after)

    def _accepted(self, parcel: Parcel, reply: Reply) -> float:
        if self._backoff.failures:
            log.info("the platform answers again")
        self._backoff.succeeded()
        if not parcel.full:
            self._conflicts.succeeded()
        self.outbox.accepted()
        figures = self.figures
        figures.messages += 1
        figures.fulls += parcel.full
        figures.bytes += len(parcel.body)
        figures.last_problem = ""
        figures.history = [*figures.history[-99:], (parcel.sequence, parcel.full, parcel.records)]
        told = reply.json()
        if told.get("resync") is True:
            self.outbox.ask_full()
        self.pace.follow(told.get("intervals") or {})
        return jittered(self.pace.snapshot)

    def _conflict(self, parcel: Parcel, code: str) -> float:
        if code == "superseded":
            log.warning("another agent reports this cluster: standing by")
            self.figures.standby = True
            self.outbox.refused()
            return self.pace.heartbeat
        log.info("the platform asks for a full snapshot (%s)", code or "no reason given")
        self.outbox.refused()
        if parcel.full:
            return self._failed(f"the platform does not take a full snapshot ({code or 'no reason given'})")
        again = self._conflicts.failures > 0
        wait = self._conflicts.failed()
        if not again:
            return 0.0  # once in a while that is ordinary: everything goes out at once
        self.figures.last_problem = f"the platform loses the thread again and again ({code or 'no reason given'})"
        return wait

    def _failed(self, problem: str, at_least: float = 0.0) -> float:
        if self.figures.last_problem != problem:
            log.warning("%s", problem)
        self.figures.last_problem = problem
        self.figures.failures += 1
        return self._backoff.failed(min(at_least, UNSUPPORTED_WAIT))
