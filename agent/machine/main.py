"""`python -m agent machine`: tells the platform every thirty seconds how this machine is, and does what it asks."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent import __version__
from agent.machine import keeper, logins
from agent.machine.guard import Guard, stop_self
from agent.machine.jobs import COPYING, Jobs
from agent.machine.signals import Signals, Where
from agent.transport import Backoff, BadAddress, Endpoint, Reply, Transport, Unreachable, environment, read_token

log = logging.getLogger("curfew.agent.machine")
PATH = "/api/agent/status"
INTERVAL = 30.0
SHORTEST, LONGEST = 1.0, 300.0
DISK_WARNING, DISK_FULL = 90.0, 97.0
HOST_KEYS = Path("/etc/ssh")


class Machine:
    """The loop: read, send, take orders."""

    def __init__(
        self,
        transport: Transport,
        signals: Signals,
        jobs: Jobs,
        facts: dict[str, Any],
        token: Path,
        start_keeper: Callable[[], subprocess.Popen[bytes]] | None = None,
    ) -> None:
        self._transport, self._signals, self._jobs = transport, signals, jobs
        self._facts, self._token = facts, token
        self._start_keeper = start_keeper
        self._keeper: subprocess.Popen[bytes] | None = None
        self._began = time.monotonic()
        self._guard = Guard(self._began, self._began)
        self.interval = INTERVAL

    def content(self) -> dict[str, Any]:
        """The heartbeat's body; its fields are described in docs/gpu-fleet.md."""
        jobs = self._jobs.reports()
        running = [job for job in jobs if job.get("state") == "running"]
        evidence = self._signals.read(jobs=sum(1 for job in running if job.get("kind") not in COPYING))
        self._guard.saw(evidence, time.monotonic())
        facts = self._signals.facts()
        full = facts["disk"].get("percent")
        backups = [job for job in jobs if job.get("kind") == "backup" and job.get("state") == "done"]
        return {
            "agent": "curfew",
            "version": __version__,
            **self._facts,
            "status": _status(running, full),
            "message": running[-1].get("step", "") if running else "",
            "last_backup": backups[-1]["result"].get("snapshot_id") if backups else None,
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "uptime": round(time.monotonic() - self._began, 1),
            "gpu_metrics": self._signals.gpu_metrics(),
            "interval": self.interval,
            "disk_usage": full,
            "disk_free_gb": None if full is None else round(facts["disk"]["free"] / 1e9, 2),
            "evidence": evidence,
            "facts": facts,
            "jobs": jobs,
            "host_keys": host_keys(),
        }

    def beat(self) -> Reply:
        """Send one heartbeat and do what the answer asks. Raises Unreachable."""
        reply = self._transport.request("POST", PATH, content=self.content(), timeout=20.0)
        if not reply.ok:
            return reply
        told = reply.json()
        self._guard.heard(told, time.monotonic())
        asked = told.get("interval")
        if isinstance(asked, int | float):
            self.interval = min(LONGEST, max(SHORTEST, float(asked)))
        if isinstance(told.get("token"), str) and told["token"]:
            _replace(self._token, told["token"])
        if isinstance(told.get("login_keys"), list):
            logins.write(told["login_keys"])
        for order in told.get("orders") or []:
            if isinstance(order, dict):
                self._jobs.take(order)
        if told.get("standby") is True:
            self._keep()
        return reply

    def _keep(self) -> None:
        """A machine with a standby has a keeper of its lease; one that ended is followed by another."""
        if self._start_keeper is not None and (self._keeper is None or self._keeper.poll() is not None):
            self._keeper = self._start_keeper()

    def run(self) -> int:
        """For ever. A refusal or silence is met with growing pauses; the dead-man switch watches meanwhile."""
        pauses = Backoff(1.0, 30.0)
        while True:
            try:
                reply = self.beat()
            except Unreachable as lost:
                log.warning("heartbeat_lost reason=%s", lost)
                self._wait(pauses.failed())
                continue
            if reply.ok:
                pauses.succeeded()
                self._wait(self.interval)
            else:
                log.warning("heartbeat_refused status=%s", reply.status)
                self._wait(max(5.0, pauses.failed(reply.retry_after)))

    def _wait(self, seconds: float) -> None:
        if self._guard.must_stop(time.monotonic()):
            stop_self()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._keeper is not None and self._keeper.poll() not in (None, 0):
                self._keep()  # it was killed: its program is dead, and nobody renews the lease
            time.sleep(min(left, 1.0 if self._keeper is not None else left))


def _status(running: list[dict[str, Any]], full: float | None) -> str:
    if full is not None and full >= DISK_FULL:
        return "disk_full"
    if running:
        return "syncing"
    return "disk_warning" if full is not None and full >= DISK_WARNING else "idle"


def host_keys() -> list[str]:
    """The public SSH keys of this machine, "ssh-ed25519 AAAA…": the platform pins them."""
    found = []
    for file in sorted(HOST_KEYS.glob("ssh_host_*_key.pub")):
        try:
            found.append(" ".join(file.read_text(encoding="ascii").split()[:2]))
        except OSError:
            continue
    return found


def _replace(file: Path, text: str) -> None:
    part = file.with_suffix(".new")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as opened:
        opened.write(text)
    part.replace(file)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m agent machine", description=__doc__)
    parser.add_argument("--url", default=environment("URL"), help="address of the platform")
    parser.add_argument("--state", default=environment("STATE", "/var/lib/curfew"), help="folder of the agent")
    parser.add_argument("--instance", default=environment("INSTANCE") or _vast_instance(), help="id of this rental")
    parser.add_argument("--paths", default=environment("PATHS", "/workspace"), help="folders, split by colons")
    parser.add_argument("--ssh-port", type=int, default=int(environment("SSH_PORT", "22")))
    parser.add_argument("--absent", default=environment("ABSENT"), help="signals that mean nothing here, by commas")
    parser.add_argument("--ca-file", default=environment("CA_FILE"))
    parser.add_argument("--allow-http", action="store_true", default=environment("ALLOW_HTTP") == "1")
    parser.add_argument("--once", action="store_true", help="send one heartbeat and end")
    return parser.parse_args(list(given))


def _vast_instance() -> str:
    number = os.environ.get("CONTAINER_ID", "")
    return f"vast_{number}" if number.isdigit() else ""


def main(arguments: Sequence[str]) -> int:
    """Run the agent; 2 when it cannot be started as asked."""
    logging.basicConfig(level=environment("LOG_LEVEL", "INFO"), format="%(asctime)s %(message)s", stream=sys.stderr)
    asked = _arguments(arguments)
    state = Path(asked.state)
    token_file = state / "token"
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        given = environment("TOKEN")
        if given and not token_file.exists():
            _replace(token_file, given)
        endpoint = Endpoint(asked.url, ca_file=asked.ca_file, allow_http=asked.allow_http)
        token = read_token("", str(token_file))
        token()
    except (OSError, BadAddress, Unreachable) as bad:
        sys.stderr.write(f"The agent cannot start: {bad}\n")
        return 2
    paths = tuple(part for part in asked.paths.split(":") if part)
    absent = frozenset(part for part in asked.absent.split(",") if part)
    platform = {
        "url": asked.url,
        "token_file": str(token_file),
        "ca_file": asked.ca_file,
        "http": asked.allow_http,
    }
    signals = Signals(Where(asked.ssh_port, paths, absent, Path.home()))
    facts = {"instance_id": asked.instance, "hostname": socket.gethostname(), "ssh_port": asked.ssh_port}

    def start_keeper() -> subprocess.Popen[bytes]:
        return keeper.start(platform, asked.instance, paths, state)

    machine = Machine(Transport(endpoint, token), signals, Jobs(state, platform), facts, token_file, start_keeper)
    if asked.once:
        try:
            return 0 if machine.beat().ok else 1
        except Unreachable as lost:
            sys.stderr.write(f"{lost}\n")
            return 1
    signals.watch_gpus()
    return machine.run()
