"""The right to serve: held for seconds at a time, renewed by the platform, and over by this machine's own clock.

Of a machine and its standby one alone may serve. The platform gives the lease to one side, under a number (the epoch)
that only grows. The holder counts from the moment at which it *asked*, so its lease is over before the platform's
is. The clock goes on while the machine is suspended, so a frozen machine that thaws finds its lease over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# So long before its end the program is asked to stop; a last moment before, it is killed.
ASK_BEFORE, KILL_BEFORE = 1.5, 0.4


def moment() -> float:
    """Seconds that also pass in suspension."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Fence:
    """What this side holds. `until` is in the seconds of `moment()`."""

    epoch: int = 0
    until: float = 0.0
    renew: float = 2.0
    wanted: bool = True

    def heard(self, reply: Mapping[str, Any], asked_at: float) -> None:
        """Take an answer to a question asked at `asked_at`. An answer about an earlier epoch gives nothing."""
        self.wanted = reply.get("standby") is not False
        renew, ttl = reply.get("renew"), reply.get("ttl")
        if isinstance(renew, int | float):
            self.renew = min(30.0, max(0.2, float(renew)))
        epoch = int(reply.get("epoch") or 0)
        if epoch < self.epoch:
            return
        if reply.get("serve") is True and isinstance(ttl, int | float):
            self.until = asked_at + float(ttl) if epoch > self.epoch else max(self.until, asked_at + float(ttl))
        else:
            self.until = 0.0
        self.epoch = epoch

    def may_serve(self, now: float) -> bool:
        """Whether the program may run now."""
        return now < self.until - ASK_BEFORE

    def must_kill(self, now: float) -> bool:
        """Whether it must be ended without another word."""
        return now >= self.until - KILL_BEFORE
