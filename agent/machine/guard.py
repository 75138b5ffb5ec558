"""The dead-man switch: a machine whose platform is silent stops itself, once its files are safe.

Off unless the platform asked for it. It acts only when the platform has not answered for the chosen time, the last
backup was verified, and nothing has worked on the machine since that backup.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("curfew.agent.guard")
BUSY_CPU = 25.0
BUSY_GPU = 5.0


@dataclass(slots=True)
class Guard:
    """Times are monotonic seconds. `silent_seconds` 0 is off."""

    heard_at: float
    busy_at: float
    silent_seconds: float = 0.0
    safe_at: float | None = None

    def heard(self, reply: Mapping[str, Any], now: float) -> None:
        """The platform answered; it may change the rule and say how long ago the last backup was verified."""
        self.heard_at = now
        rule = reply.get("dead_man")
        if isinstance(rule, dict):
            self.silent_seconds = float(rule.get("silent_seconds") or 0.0)
            age = rule.get("verified_seconds_ago")
            self.safe_at = None if age is None else now - float(age)

    def saw(self, evidence: Mapping[str, Any], now: float) -> None:
        """Note when the machine was last at work; what is not known counts as work."""
        loads = evidence.get("gpus")
        quiet_gpus = "gpus" in evidence.get("absent", ()) or (
            loads is not None and all(load is not None and load <= BUSY_GPU for load in loads)
        )
        cpu = evidence.get("cpu")
        if not quiet_gpus or cpu is None or cpu > BUSY_CPU or evidence.get("ssh") != 0 or evidence.get("kernels") != 0:
            self.busy_at = now

    def must_stop(self, now: float) -> bool:
        """Whether the machine should stop itself now."""
        if self.silent_seconds <= 0 or self.safe_at is None or now - self.heard_at < self.silent_seconds:
            return False
        return self.busy_at <= self.safe_at


def stop_self() -> None:
    """Stop this machine by the only key that it has: one that can stop itself and nothing else."""
    key, number = os.environ.get("CONTAINER_API_KEY", ""), os.environ.get("CONTAINER_ID", "")
    if key and number.isdigit():
        _stop_at_vast(key, number)
        return
    log.warning("dead_man_switch: ending this machine")
    os.kill(1, signal.SIGTERM)


def _stop_at_vast(key: str, number: str) -> None:
    request = urllib.request.Request(
        f"https://console.vast.ai/api/v0/instances/{number}/",
        data=json.dumps({"state": "stopped"}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        method="PUT",
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            log.warning("dead_man_switch: stopped at the provider, %s", answer.status)
    except (urllib.error.URLError, OSError) as bad:
        log.warning("dead_man_switch: the provider did not take it: %s", bad)
        time.sleep(5)
