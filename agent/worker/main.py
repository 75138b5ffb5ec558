"""`python -m agent worker`: joins, claims, runs, reports.

Containers that an earlier process of this worker left are taken up again when their claim still stands, else removed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from docker.errors import DockerException

from agent import __version__
from agent.machine.gpus import Gpus
from agent.transport import Backoff, BadAddress, Endpoint, Transport, Unreachable, environment, jittered
from agent.worker.devices import Devices, Reader, figures
from agent.worker.engine import Engine, Order
from agent.worker.running import Running

log = logging.getLogger("curfew.agent")
BEAT_SECONDS = 15.0
CLAIM_WAIT = 20.0
CLAIM_MOST = 8
LEASE_SECONDS = 45.0
SECTOR = 512  # bytes, whatever the disk's own
_WHOLE_DISK = re.compile(r"sd[a-z]+|vd[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agent worker",
        description="Makes this machine a worker. Options can be given as CURFEW_<OPTION> in the environment.",
    )
    parser.add_argument("--url", default=environment("URL"), help="address of the platform")
    parser.add_argument("--enrol", default=environment("ENROL"), help="enrolment token, needed the first time")
    parser.add_argument("--name", default=environment("WORKER_NAME", socket.gethostname()))
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--state", default=environment("STATE", "~/.curfew-worker"), help="folder with the lasting token"
    )
    parser.add_argument("--docker", default=environment("DOCKER"), help="address of the Docker engine")
    parser.add_argument("--no-networks", action="store_true", help="the engine has no bridges (tests)")
    parser.add_argument("--read-only", action="store_true", help="containers cannot write but to /tmp")
    parser.add_argument("--cpu", type=int, default=0, help="millicores to offer; all by default")
    parser.add_argument("--memory", type=int, default=0, help="MiB to offer; all but 512 by default")
    parser.add_argument("--gpus", type=int, default=None, help="how many to offer; all by default")
    parser.add_argument("--allow-http", action="store_true", default=environment("ALLOW_HTTP") == "1")
    parser.add_argument("--ca-file", default=environment("CA_FILE"))
    return parser


def _memory_mib() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024 // 1024)
    return 0


def _whole() -> dict[str, float]:
    """What the machine has, whatever it offers of that: its use is a part of this."""
    found = {"cpu_whole": 100.0 * (os.cpu_count() or 0), "memory_whole": float(_memory_mib())}
    return {name: value for name, value in found.items() if value}


class Usage:
    """What the machine uses, from /proc where there is one: CPU in percent of a core, memory and disk in MiB, bytes/s
    of its network cards and its disks; the mean load of its GPUs in percent, and their memory in MB."""

    def __init__(self, folder: Path, proc: Path = Path("/proc"), gpus: Reader | None = None) -> None:
        self.folder, self.proc, self.gpus = folder, proc, gpus or Gpus()
        self._before = self._counters()

    def _counters(self) -> dict[str, float]:
        """Numbers that only rise; absent ones are left out."""
        found = {"at": time.monotonic()}
        with contextlib.suppress(OSError, ValueError, IndexError):
            numbers = [float(word) for word in self._words("stat")[0][1:]]
            found |= {"jiffies": sum(numbers[:8]), "idle": numbers[3] + numbers[4]}
        with contextlib.suppress(OSError, ValueError, IndexError):
            cards = [
                row for row in self._words("net/dev")[2:] if not row[0].startswith(("lo", "veth", "br-", "docker"))
            ]
            found |= {
                "network_in": sum(float(row[1]) for row in cards), "network_out": sum(float(row[9]) for row in cards)
            }  # fmt: skip
        with contextlib.suppress(OSError, ValueError, IndexError):
            disks = [row for row in self._words("diskstats") if _WHOLE_DISK.fullmatch(row[2])]
            found |= {
                "disk_read": sum(float(row[5]) for row in disks) * SECTOR,
                "disk_write": sum(float(row[9]) for row in disks) * SECTOR,
            }
        return found

    def _words(self, name: str) -> list[list[str]]:
        lines = (self.proc / name).read_text(encoding="ascii").splitlines()
        return [line.replace(":", " ").split() for line in lines]

    def look(self) -> dict[str, float]:
        found: dict[str, float] = {}
        now, before = self._counters(), self._before
        self._before = now
        if now.get("jiffies", 0) > before.get("jiffies", float("inf")):
            share = 1 - (now["idle"] - before["idle"]) / (now["jiffies"] - before["jiffies"])
            found["cpu"] = min(1.0, max(0.0, share)) * 100 * (os.cpu_count() or 1)
        span = now["at"] - before["at"]
        for name in ("network_in", "network_out", "disk_read", "disk_write"):
            if span > 0 and now.get(name, -1) >= before.get(name, float("inf")):
                found[name] = (now[name] - before[name]) / span
        with contextlib.suppress(OSError, ValueError, KeyError):
            facts = {row[0]: float(row[1]) for row in self._words("meminfo")}
            found["memory"] = (facts["MemTotal"] - facts["MemAvailable"]) / 1024
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(self.folder)
            found["storage"] = disk.used / 1024 / 1024
        return {**found, **figures(self.gpus.read() or [])}


class WorkerAgent:
    """The worker: one thread claims, one beats, each task has its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.endpoint = Endpoint(options.url, ca_file=options.ca_file, allow_http=options.allow_http)
        self.folder = Path(options.state).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.token = ""
        self.worker = ""
        self.stopping = threading.Event()
        self.draining = threading.Event()
        self.running: dict[str, threading.Thread] = {}
        self.gpus = Gpus()
        self.models = [gpu.name for gpu in self.gpus.read() or []]

    def transport(self) -> Transport:
        return Transport(self.endpoint, lambda: self.token, timeout=60.0)

    @property
    def count(self) -> int:
        """How many GPUs it offers."""
        return len(self.models) if self.options.gpus is None else int(self.options.gpus)

    def capacity(self) -> dict[str, Any]:
        """What this machine offers."""
        return {
            "cpu": self.options.cpu or 1000 * (os.cpu_count() or 1),
            "memory": self.options.memory or max(64, _memory_mib() - 512),
            "storage": shutil.disk_usage(self.folder).free // 1024 // 1024,
            "gpus": self.count,
            "gpu_model": self.models[0] if self.models else "",
            "agent_version": __version__,
        }

    def join(self, engine: str) -> None:
        """Read the lasting token, or enrol for one. Raises BadAddress when neither is possible."""
        path = self.folder / "token.json"
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self.token, self.worker = kept["token"], kept["worker"]
            return None
        if not self.options.enrol:
            raise BadAddress("this machine has not joined yet: give --enrol TOKEN (Workers, Add a worker)")
        labels = dict(label.partition("=")[::2] for label in self.options.label)
        facts = {
            "token": self.options.enrol, "name": self.options.name, "hostname": socket.gethostname(), "labels": labels,
            "engine": engine, **self.capacity(),
        }  # fmt: skip
        backoff = Backoff()
        self.token = "none"  # noqa: S105 - the request carries the enrolment token in its body
        while True:
            try:
                reply = self.transport().request("POST", "/api/agent/register", content=facts)
                if reply.status == 201:
                    return self._keep(reply.json())
                if reply.status in (400, 401, 403, 422):
                    raise BadAddress(f"the platform refused: {reply.json().get('detail', reply.status)}")
                wait = backoff.failed(reply.retry_after)
            except Unreachable as lost:
                wait = backoff.failed()
                log.warning("the platform does not answer: %s", lost)
            if self.stopping.wait(wait):
                raise BadAddress("stopped before it could join")

    def _keep(self, made: dict[str, Any]) -> None:
        """Store the lasting token for the next start, readable by this user alone."""
        self.token, self.worker = made["token"], made["worker"]
        path = self.folder / "token.json"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"token": self.token, "worker": self.worker}, file)

    def run(self) -> int:
        options = self.options
        how = {"networks": not options.no_networks, "read_only": options.read_only}
        engine = Engine(options.docker, **how, devices=Devices(self.count, self.gpus))
        version = engine.version()
        self.join(version)
        engine.worker = self.worker
        self._take_up(engine)
        log.info("worker %s takes tasks from %s", self.worker, self.endpoint.url)
        beats = threading.Thread(target=self._beat, args=(version,), name="beat", daemon=True)
        beats.start()
        self._claim(engine)
        for thread in list(self.running.values()):
            thread.join(15)
        return 0

    def _take_up(self, engine: Engine) -> None:
        """Containers of an earlier process: watched on when their claim still stands, else removed."""
        transport = self.transport()
        for container, order in engine.left():
            try:
                path = f"/api/agent/tasks/{order.task}/renew"
                stands = transport.request("POST", path, content={"fence": order.fence}, timeout=10).status == 200
            except Unreachable:
                stands = False  # its lease runs out before this process could prove that it is still ours
            if stands:
                self._watch(Running(self.transport, engine, order, LEASE_SECONDS), container)
                log.info("task %s is watched on in container %s", order.task, container[:12])
            else:
                log.warning("container %s of task %s is left from before; it is removed", container[:12], order.task)
                engine.remove(container)

    def _watch(self, running: Running, container: str = "") -> None:
        name = f"task-{running.order.task[:8]}"
        thread = threading.Thread(target=running.run, args=(container,), name=name, daemon=True)
        self.running[running.order.task] = thread
        thread.start()

    def _beat(self, engine: str) -> None:
        transport, usage = self.transport(), Usage(self.folder, gpus=self.gpus)
        while not self.stopping.wait(jittered(BEAT_SECONDS)):
            content = {"usage": {**usage.look(), **_whole()}, "capacity": {**self.capacity(), "engine": engine}}
            try:
                reply = transport.request("POST", "/api/agent/worker/heartbeat", content=content, timeout=10)
            except Unreachable as lost:
                log.info("no heartbeat: %s", lost)
                continue
            if reply.status in (401, 404):
                log.error("the platform does not know this worker any more; remove %s to join anew", self.folder)
                self.stopping.set()
            elif reply.ok:
                (self.draining.set if reply.json().get("wanted") != "open" else self.draining.clear)()

    def _claim(self, engine: Engine) -> None:
        transport, backoff = self.transport(), Backoff(0.5, 15.0)
        while not self.stopping.is_set():
            self.running = {task: thread for task, thread in self.running.items() if thread.is_alive()}
            try:
                reply = transport.request(
                    "POST", f"/api/agent/claim?wait={CLAIM_WAIT:g}&most={CLAIM_MOST}", timeout=CLAIM_WAIT + 15
                )
            except Unreachable as lost:
                self.stopping.wait(backoff.failed())
                log.info("no claim: %s", lost)
                continue
            if reply.status == 200:
                backoff.succeeded()
                for given in reply.json()["orders"]:
                    self._begin(engine, given)
            elif reply.status == 204:
                backoff.succeeded()
                self.stopping.wait(jittered(reply.retry_after))
            elif reply.status in (401, 403, 404):
                log.error("the platform does not know this worker any more (%s)", reply.status)
                self.stopping.set()
            else:
                self.stopping.wait(backoff.failed(reply.retry_after))

    def _begin(self, engine: Engine, given: dict[str, Any]) -> None:
        order = Order.read(given)
        self._watch(Running(self.transport, engine, order, float(given.get("lease_seconds", LEASE_SECONDS))))
        log.info("task %s (%s) runs under fence %d", order.task, order.name, order.fence)


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; 2 for bad options, 1 when there is no Docker engine."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.url:
        parser.error("--url is missing")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        agent = WorkerAgent(options)
    except (BadAddress, OSError) as bad:
        parser.error(str(bad))

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        agent.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        return agent.run()
    except BadAddress as bad:
        sys.stderr.write(f"{bad}\n")
        return 2
    except DockerException as missing:
        sys.stderr.write(f"No Docker engine answers: {missing}\n")
        return 1
