"""Orders of the platform: each is carried out once, by a process of its own, and reported until the platform knows."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.machine.work import write

log = logging.getLogger("curfew.agent.jobs")
KEPT = 20
WORK = ("backup", "restore", "push", "pull")
# The continuous copy goes on by itself: it is no sign that somebody works on the machine.
COPYING = ("push", "pull")


class Jobs:
    """Starts work and reads its reports. `folder` outlives the agent, so a restarted one knows what was done."""

    def __init__(self, folder: Path, platform: Mapping[str, Any]) -> None:
        self._folder = folder / "jobs"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._platform = dict(platform)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def take(self, order: Mapping[str, Any]) -> None:
        """Begin an order, unless it was begun before."""
        name = _safe(str(order.get("id") or ""))
        kind = order.get("kind")
        if not name or (self._folder / f"{name}.json").exists():
            return
        if kind == "wall":
            write(self._folder / f"{name}.json", {"id": name, "kind": kind, "state": "done", "percent": 100})
            announce(str(order.get("text") or "")[:300])
        elif kind in WORK:
            self._begin(name, {**order, "platform": self._platform})

    def _begin(self, name: str, order: Mapping[str, Any]) -> None:
        given, report = self._folder / f"{name}.order", self._folder / f"{name}.json"
        handle = os.open(given, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(order, file)
        started = {"id": name, "kind": order["kind"], "state": "running", "percent": 0, "step": "Starting"}
        command = [sys.executable, "-m", "agent.machine.work", str(given), str(report)]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603  our own program
        write(report, {**started, "pid": child.pid})
        self._children[name] = child
        log.info("order_begun id=%s kind=%s", name, order["kind"])

    def reports(self) -> list[dict[str, Any]]:
        """Every order with its state, newest last. Work whose process ended without a result is failed."""
        for child in self._children.values():
            child.poll()
        found = []
        files = sorted(self._folder.glob("*.json"), key=lambda f: f.stat().st_mtime)
        for old in files[:-KEPT]:
            old.unlink(missing_ok=True)
        for file in files[-KEPT:]:
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(file.read_text(encoding="utf-8"))
                if told.get("state") == "running" and not alive(int(told.get("pid") or 0)):
                    again = json.loads(file.read_text(encoding="utf-8"))  # it may have ended between the two looks
                    told = again if again.get("state") != "running" else {**told, **_ENDED}
                    write(file, told)
                told.pop("pid", None)
                found.append(told)
        return found

    def running(self) -> int:
        """How many are at work."""
        return sum(1 for told in self.reports() if told.get("state") == "running")


_ENDED = {"state": "failed", "error": "its process ended before the work was done"}


def alive(pid: int) -> bool:
    """Whether the process lives; a dead one that nobody has waited for does not."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return told.rpartition(")")[2].split()[:1] != ["Z"]


def announce(text: str) -> None:
    """Write a line to every terminal of the machine."""
    line = f"\r\n*** {''.join(c for c in text if c.isprintable())} ***\r\n".encode()
    for terminal in Path("/dev/pts").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            handle = os.open(terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)


def _safe(name: str) -> str:
    return "".join(c for c in name if c.isalnum() or c in "-_")[:80]
