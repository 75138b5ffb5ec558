"""Containers of tasks on this machine's Docker engine, through the docker SDK.

No privileges beyond an ordinary process: all capabilities dropped, `no-new-privileges`, a limit of processes, memory
without extra swap, a network on which no task reaches another (or none), no host mounts but those that the platform's admin
allowed; where this machine is told so, a root file system that cannot be written.
"""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, Mount

from agent.machine.gpus import Gpus
from agent.worker.devices import Devices
from agent.worker.frames import Unchunker

LABEL = "dev.curfew.task"
FENCE = "dev.curfew.fence"
WORKER = "dev.curfew.worker"
FACTS = "dev.curfew.facts"
GPUS = "dev.curfew.gpus"
NETWORK = "curfew-tasks"
APART = "com.docker.network.bridge.enable_icc"
MOST_PROCESSES = 512
# The driver `local` keeps bytes as they were written (json-file replaces what is no UTF-8); one file, never rotated.
LOG_CONFIG = {"max-size": "1000g", "max-file": "1", "compress": "false"}
READ = 65_536
_GONE = 404
_TAKEN = 409


class ImageUnavailable(Exception):
    """The image is neither here nor in its registry; the text says why."""


class CannotStart(Exception):
    """The engine refuses to make or start the container; the text says why."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended."""

    code: int
    oom: bool
    error: str


@dataclass(frozen=True, slots=True)
class Order:
    """A claimed task as the platform sends it."""

    task: str
    fence: int
    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    files: dict[str, str]
    network: bool
    cpu: int
    memory: int
    gpus: int
    timeout_seconds: float
    host_mounts: list[str]

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Order:
        resources = given["resources"]
        return cls(
            task=str(given["task"]),
            fence=int(given["fence"]),
            name=str(given["name"]),
            image=str(given["image"]),
            command=[str(word) for word in given["command"]],
            environment={**given["environment"], **given["secrets"]},
            files=dict(given["files"]),
            network=bool(given["network"]),
            cpu=int(resources["cpu"]),
            memory=int(resources["memory"]),
            gpus=int(resources["gpus"]),
            timeout_seconds=float(given["timeout_seconds"]),
            host_mounts=list(given.get("host_mounts") or []),
        )


class Engine:
    """The Docker engine. `networks` off is for an engine without bridges: containers then use the host's network.

    `read_only` gives containers a root that cannot be written, with `/tmp` in memory.
    """

    def __init__(
        self,
        address: str = "",
        *,
        worker: str = "",
        networks: bool = True,
        read_only: bool = False,
        devices: Devices | None = None,
    ) -> None:
        self.client = docker.DockerClient(base_url=address, timeout=120) if address else docker.from_env(timeout=120)
        self.worker = worker
        self.networks = networks
        self.read_only = read_only
        self.devices = devices or Devices(0, Gpus())

    def version(self) -> str:
        """Name and version. Raises DockerException when the engine does not answer."""
        return f"Docker {self.client.version().get('Version', '')}"

    def ensure_image(self, name: str) -> None:
        """Have the image here. Raises ImageUnavailable."""
        try:
            self.client.images.get(name)
            return
        except ImageNotFound:
            pass
        except DockerException as broken:
            raise ImageUnavailable(f"The engine does not answer: {broken}") from broken
        try:
            self.client.images.pull(name) if ":" in name.rsplit("/", 1)[-1] or "@" in name else self.client.images.pull(
                name, tag="latest"
            )
        except DockerException as refused:
            raise ImageUnavailable(f"{name} cannot be pulled: {_words(refused)}") from refused

    def create(self, order: Order) -> str:
        """Make the container and put its files in; its id. The same order finds the container it made. CannotStart."""
        found = self.find(order)
        if found:
            return found
        try:
            made = self.client.containers.create(order.image, order.command or None, **self._options(order))
            if order.files:
                made.put_archive("/", _archive(order.files))
        except (DockerException, OSError) as refused:
            raise CannotStart(_words(refused)) from refused
        return str(made.id)

    def _options(self, order: Order) -> dict[str, Any]:
        gpus = self.devices.take(order.task, order.gpus)
        if len(gpus) < order.gpus:
            raise CannotStart(f"{order.gpus} free GPUs are not there; this machine has {self.devices.count}.")
        options: dict[str, Any] = {
            "name": f"curfew-{order.task}-{order.fence}",
            "environment": order.environment,
            "labels": {
                LABEL: order.task,
                FENCE: str(order.fence),
                WORKER: self.worker,
                GPUS: ",".join(str(number) for number in gpus),
                FACTS: json.dumps({"name": order.name, "memory": order.memory, "timeout": order.timeout_seconds}),
            },
            "nano_cpus": order.cpu * 1_000_000,
            "mem_limit": f"{order.memory}m",
            "memswap_limit": f"{order.memory}m",
            "pids_limit": MOST_PROCESSES,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "log_config": {"Type": "local", "Config": LOG_CONFIG},
            "mounts": [Mount(path, path, type="bind", read_only=True) for path in order.host_mounts],
            "init": False,
        }
        if not order.network:
            options["network_mode"] = "none"
        else:
            options |= {"network": self._network()} if self.networks else {"network_mode": "host"}
        if self.read_only:
            options |= {"read_only": True, "tmpfs": {"/tmp": "rw,nosuid,nodev,size=64m"}}  # noqa: S108  in the container
        if order.gpus:
            options["device_requests"] = [
                DeviceRequest(device_ids=[str(number) for number in gpus], capabilities=[["gpu"]])
            ]
        return options

    def _network(self) -> str:
        """The network of all tasks: out to the world, but not to each other. Raises CannotStart when it is not so."""
        try:
            network = self.client.networks.get(NETWORK)
        except NotFound:
            try:
                self.client.networks.create(NETWORK, driver="bridge", options={APART: "false"}, labels={WORKER: ""})
            except APIError as refused:
                if refused.status_code != _TAKEN:  # another task made it in this moment
                    raise
            network = self.client.networks.get(NETWORK)
        if (network.attrs.get("Options") or {}).get(APART) != "false":
            raise CannotStart(f"The network {NETWORK} of this machine lets containers reach each other; remove it.")
        return NETWORK

    def start(self, container: str) -> None:
        """Start it; harmless when it runs or has ended. Raises CannotStart."""
        try:
            found = self.client.containers.get(container)
            if found.status == "created":
                found.start()
        except DockerException as refused:
            raise CannotStart(_words(refused)) from refused

    def find(self, order: Order) -> str:
        """The container of this claim, or ""."""
        filters = {"label": [f"{LABEL}={order.task}", f"{FENCE}={order.fence}"]}
        found = self.client.containers.list(all=True, filters=filters)
        return str(found[0].id) if found else ""

    def left(self) -> list[tuple[str, Order]]:
        """Containers that an earlier process of this worker made, with what is needed to watch them to their end."""
        found = self.client.containers.list(all=True, filters={"label": [f"{WORKER}={self.worker}", LABEL]})
        for container in found:
            numbers = [int(word) for word in container.labels.get(GPUS, "").split(",") if word]
            if numbers:
                self.devices.hold(container.labels[LABEL], numbers)
        return [(str(c.id), _left(c.labels)) for c in found]

    def log(self, container: str, *, follow: bool) -> Iterator[bytes]:
        """The log from its first byte, still framed."""
        api = self.client.api
        url = api._url("/containers/{0}/logs", container)
        parameters = {"stdout": 1, "stderr": 1, "follow": int(follow)}
        answer = api.get(url, params=parameters, stream=True, timeout=None if follow else 120)
        answer.raise_for_status()
        with answer:
            yield from _body(answer.raw)

    def exit(self, container: str) -> Exit | None:
        """How it ended; None while it runs."""
        try:
            state = self.client.api.inspect_container(container)["State"]
        except NotFound:
            return Exit(-1, oom=False, error="the container was removed by somebody else")
        if state["Running"] or state["Status"] in ("created", "restarting", "paused"):
            return None
        return Exit(int(state["ExitCode"]), bool(state.get("OOMKilled")), str(state.get("Error") or ""))

    def age(self, container: str) -> float:
        """Seconds since it was started; 0 when it was not."""
        started = self.client.api.inspect_container(container)["State"].get("StartedAt", "")
        try:
            moment = datetime.fromisoformat(started[:19] + "+00:00")
        except ValueError:
            return 0.0
        return max(0.0, (datetime.now(UTC) - moment).total_seconds()) if moment.year > 1 else 0.0

    def stop(self, container: str, seconds: int = 10) -> None:
        """Ask it to end, then end it."""
        try:
            self.client.api.stop(container, timeout=seconds)
        except APIError as refused:
            if refused.status_code not in (304, _GONE):
                raise

    def kill(self, container: str) -> None:
        """End it at once; harmless when it has ended."""
        try:
            self.client.api.kill(container)
        except APIError as refused:
            if refused.status_code not in (409, _GONE):
                raise

    def remove(self, container: str) -> None:
        """Remove it with its anonymous volumes; harmless when it is gone."""
        try:
            self.client.api.remove_container(container, force=True, v=True)
        except APIError as refused:
            if refused.status_code not in (409, _GONE):
                raise

    def give_back(self, task: str) -> None:
        """Nothing of the task runs here any more: its GPUs are free."""
        self.devices.give_back(task)

    def figures(self, container: str, task: str = "") -> dict[str, float]:
        """What it uses now: counters of CPU and bytes, memory in MiB, load of its GPUs. {} when it has ended."""
        try:
            stats = self.client.api.stats(container, stream=False, one_shot=True)
        except (DockerException, ValueError):
            return {}
        return {**counters(stats), **self.devices.figures(task)}


def _body(raw: Any) -> Iterator[bytes]:
    """A body as it arrives. Docker makes a chunk of every line: urllib3 takes many times as long for each as we do."""
    source = getattr(getattr(raw, "_fp", None), "fp", None)
    if source is None or not raw.chunked:
        yield from raw.stream(READ, decode_content=False)
        return
    chunks = Unchunker()
    while not chunks.ended:
        data = source.read1(READ)
        if not data:
            raise OSError("the engine broke off the log")
        if content := chunks.feed(data):
            yield content


def _left(labels: Mapping[str, str]) -> Order:
    facts = json.loads(labels.get(FACTS, "{}"))
    return Order(
        task=labels[LABEL],
        fence=int(labels.get(FENCE, "0")),
        name=str(facts.get("name", "")),
        image="",
        command=[],
        environment={},
        files={},
        network=True,
        cpu=0,
        memory=int(facts.get("memory", 0)),
        gpus=0,
        timeout_seconds=float(facts.get("timeout", 3600)),
        host_mounts=[],
    )


def counters(stats: Mapping[str, Any]) -> dict[str, float]:
    """Docker's statistics as plain counters; absent ones are left out."""
    found: dict[str, float] = {"at": time.monotonic()}
    memory = stats.get("memory_stats") or {}
    if "usage" in memory:
        inactive = (memory.get("stats") or {}).get("inactive_file", 0)
        found["memory"] = max(0, memory["usage"] - inactive) / 1024 / 1024
    total = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    if total is not None:
        found["cpu_ns"] = float(total)
    networks = stats.get("networks") or {}
    if networks:
        found["network_in"] = float(sum(n.get("rx_bytes", 0) for n in networks.values()))
        found["network_out"] = float(sum(n.get("tx_bytes", 0) for n in networks.values()))
    blocks = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    for name, word in (("disk_read", "read"), ("disk_write", "write")):
        if blocks:
            found[name] = float(sum(b["value"] for b in blocks if str(b.get("op", "")).lower() == word))
    return found


def rates(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Figures of the span between two looks; a counter that went back is left out."""
    span = now.get("at", 0) - before.get("at", 0)
    made = {name: now[name] for name in ("memory", "gpu", "gpu_memory") if name in now}
    if span <= 0:
        return made
    if "cpu_ns" in now and now["cpu_ns"] >= before.get("cpu_ns", float("inf")):
        made["cpu"] = (now["cpu_ns"] - before["cpu_ns"]) / 1e9 / span * 100
    for name in ("network_in", "network_out", "disk_read", "disk_write"):
        if name in now and now[name] >= before.get(name, float("inf")):
            made[name] = (now[name] - before[name]) / span
    return made


def _archive(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in sorted(files.items()):
            content = text.encode()
            member = tarfile.TarInfo(posixpath.normpath(path).lstrip("/"))
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _words(problem: Exception) -> str:
    explanation = getattr(problem, "explanation", None)
    return str(explanation or problem)[:400]
