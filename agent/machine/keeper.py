"""`python -m agent.machine.keeper`: renews the lease and runs `.curfew/serve` of a saved folder while it is held.

A process of its own, so that neither a long look at signals nor a backup delays it; one thread asks, the other watches
the clock. When this process dies its program dies with it, and its successor ends what may be left.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.machine.fence import Fence, moment
from agent.transport import Endpoint, Transport, Unreachable, read_token

log = logging.getLogger("curfew.agent.keeper")
PATH = "/api/agent/machine/lease"
LOOK_SECONDS = 0.1
ASK_SECONDS = 3.0
PAUSE_AFTER_END = 1.0
PR_SET_PDEATHSIG = 1


class Service:
    """The owner's program, in a session of its own. `folder` keeps its group's id and the lease for it to read."""

    def __init__(self, paths: Sequence[str], folder: Path) -> None:
        self._paths, self._folder = paths, folder
        self._child: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self.lease_file = folder / "serving.json"
        self._end_leftover()

    def program(self) -> Path | None:
        """The first `.curfew/serve` that can be run."""
        for path in self._paths:
            found = Path(path) / ".curfew" / "serve"
            if found.is_file() and os.access(found, os.X_OK):
                return found
        return None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def write(self, fence: Fence, serving: bool) -> None:
        """Tell programs: they may look themselves before each answer. `until` is of CLOCK_BOOTTIME."""
        part = self.lease_file.with_suffix(".part")
        part.write_text(json.dumps({"serving": serving, "epoch": fence.epoch, "until": fence.until}), encoding="ascii")
        part.replace(self.lease_file)

    def start(self, epoch: int) -> None:
        """Run it, if there is one and none runs; a program that ends is started again after a moment."""
        program = self.program()
        if program is None or self.running or time.monotonic() < self._not_before:
            return
        self._end_leftover()
        environment = {**os.environ, "CURFEW_EPOCH": str(epoch), "CURFEW_LEASE": str(self.lease_file)}
        environment.pop("CURFEW_TOKEN", None)
        try:
            self._child = subprocess.Popen(  # noqa: S603  the owner's own program
                [str(program)],
                cwd=program.parent.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  one system call, no lock
            )
        except OSError as bad:
            log.warning("serve_not_started program=%s reason=%s", program, bad)
            self._not_before = time.monotonic() + 10 * PAUSE_AFTER_END
            return
        self._not_before = time.monotonic() + PAUSE_AFTER_END
        (self._folder / "serve.pid").write_text(str(self._child.pid), encoding="ascii")
        log.info("serve_begun epoch=%s", epoch)

    def end(self, number: int) -> None:
        """Send a signal to everything that it started."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)
            self._child.poll()

    def _end_leftover(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            file = self._folder / "serve.pid"
            os.killpg(int(file.read_text(encoding="ascii")), signal.SIGKILL)
            file.unlink(missing_ok=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Keeper:
    """Asks in one thread, watches in another."""

    def __init__(self, transport: Transport, service: Service, instance: str) -> None:
        self._transport, self._service, self._instance = transport, service, instance
        self._fence = Fence()
        self._lock = threading.Lock()

    def serving(self) -> bool:
        """Whether the lease is held and, if there is a program, it runs."""
        held = self._fence.may_serve(moment())
        return held and (self._service.running or self._service.program() is None)

    def ask(self) -> bool:
        """One question; False when no usable answer came."""
        asked_at = moment()
        content = {"instance_id": self._instance, "epoch": self._fence.epoch, "serving": self._holds()}
        try:
            reply = self._transport.request("POST", PATH, content=content, timeout=ASK_SECONDS)
        except Unreachable as lost:
            log.warning("lease_unanswered reason=%s", lost)
            return False
        if not reply.ok:
            log.warning("lease_refused status=%s", reply.status)
            return False
        with self._lock:
            self._fence.heard(reply.json(), asked_at)
        self.look()
        return True

    def _holds(self) -> bool:
        """What the platform is told: anything that still runs counts as serving."""
        return self.serving() or self._service.running

    def look(self) -> None:
        """Bring the program in line with the clock."""
        with self._lock:
            now = moment()
            if self._fence.may_serve(now):
                self._service.start(self._fence.epoch)
            elif self._service.running:
                self._service.end(signal.SIGKILL if self._fence.must_kill(now) else signal.SIGTERM)
            self._service.write(self._fence, self._fence.may_serve(now))

    def watch(self) -> None:
        """For ever, ten times a second."""
        while True:
            try:
                self.look()
            except OSError as bad:  # a full disk must not end the watch
                log.warning("lease_watch reason=%s", bad)
            time.sleep(LOOK_SECONDS)

    def run(self) -> int:
        """Until the platform says that there is no standby any more."""
        threading.Thread(target=self.watch, daemon=True, name="lease-watch").start()
        while self._fence.wanted:
            ok = self.ask()
            time.sleep(self._fence.renew if ok else min(1.0, self._fence.renew))
        self._service.end(signal.SIGTERM)
        return 0


def start(platform: Mapping[str, Any], instance: str, paths: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Begin a keeper; the caller looks after it."""
    told = {"platform": dict(platform), "instance": instance, "paths": list(paths), "folder": str(folder)}
    command = [sys.executable, "-m", "agent.machine.keeper", json.dumps(told)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  our own program


def main(arguments: Sequence[str]) -> int:
    """`python -m agent.machine.keeper JSON`."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", stream=sys.stderr)
    _die_with_parent()
    with contextlib.suppress(OSError):
        os.nice(-5)
    told = json.loads(arguments[0])
    platform, folder = told["platform"], Path(told["folder"])
    endpoint = Endpoint(platform["url"], ca_file=platform.get("ca_file", ""), allow_http=bool(platform.get("http")))
    transport = Transport(endpoint, read_token("", platform["token_file"]))
    return Keeper(transport, Service(told["paths"], folder), told["instance"]).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
