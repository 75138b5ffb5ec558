"""Signs of work on this machine, and what a person wants to see of it. What cannot be read is None, never zero.

Rates are differences of counters since the reading before, so that nothing happens unseen in between; GPU loads are the
highest that were seen since then.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.machine.gpus import Gpu, Gpus

CGROUP = Path("/sys/fs/cgroup")
GPU_EVERY_SECONDS = 2.0
ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Where:
    """What this machine is like: the port of sshd, the folders that are backed up, and signals that mean nothing here."""

    ssh_port: int = 22
    paths: tuple[str, ...] = ("/workspace",)
    absent: frozenset[str] = frozenset()
    home: Path = Path("/root")


class Signals:
    """Reads everything once a heartbeat. Not safe across threads, but for the GPU watcher that it starts itself."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._gpus = Gpus()
        self._lock = threading.Lock()
        self._highest: list[float | None] | None = None
        self._last: list[Gpu] | None = None
        self._at = time.monotonic()
        self._counters: dict[str, float | None] = {name: read() for name, read in self._readers().items()}

    def watch_gpus(self) -> None:
        """Look at the GPUs every other second in the background."""
        if self._gpus.present:
            threading.Thread(target=self._watch, name="gpus", daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.look_at_gpus()
            time.sleep(GPU_EVERY_SECONDS)

    def look_at_gpus(self) -> None:
        """One look; keeps the highest load of each GPU. A look that fails makes the whole stretch unknown."""
        found = self._gpus.read()
        with self._lock:
            self._last = found
            loads = None if found is None else [gpu.load for gpu in found]
            self._highest = highest(self._highest, loads) if self._highest is not None else loads

    def _readers(self) -> dict[str, Any]:
        return {"cpu": cpu_seconds, "disk": disk_bytes, "net": net_bytes}

    def read(self, *, jobs: int) -> dict[str, Any]:
        """The evidence of a heartbeat: `{seconds, gpus, cpu, disk, net, ssh, kernels, jobs, absent}`."""
        if self._gpus.present and self._highest is None:
            self.look_at_gpus()
        now = time.monotonic()
        seconds = max(0.001, now - self._at)
        rates: dict[str, float | None] = {}
        for name, read in self._readers().items():
            value, before = read(), self._counters.get(name)
            rates[name] = None if value is None or before is None or value < before else (value - before) / seconds
            self._counters[name] = value
        self._at = now
        with self._lock:
            loads, self._highest = self._highest, None
        absent = set(self._where.absent)
        if not self._gpus.present:
            absent.add("gpus")
        return {
            "seconds": round(seconds, 3),
            "gpus": loads,
            "cpu": None if rates["cpu"] is None else round(rates["cpu"] * 100, 2),
            "disk": rates["disk"],
            "net": rates["net"],
            "ssh": ssh_sessions(self._where.ssh_port),
            "kernels": busy_kernels(self._where.home),
            "jobs": jobs,
            "absent": sorted(absent),
        }

    def gpu_metrics(self) -> dict[str, Any] | None:
        """As the fleet's protocol names it; None when there is no GPU or it cannot be read."""
        with self._lock:
            found = self._last
        if not found:
            return None
        loads = [gpu.load for gpu in found]
        known = [load for load in loads if load is not None]
        return {
            "utilization": max(known) if len(known) == len(loads) else None,
            "gpu_count": len(found),
            "gpu_names": [gpu.name for gpu in found],
            "gpu_utilizations": loads,
            "gpu_memory_used": [gpu.memory_used for gpu in found],
            "gpu_memory_total": [gpu.memory_total for gpu in found],
            "gpu_temperatures": [gpu.temperature for gpu in found],
            "gpu_power": [gpu.power for gpu in found],
        }

    def facts(self) -> dict[str, Any]:
        """Cores, memory and disk for people: bytes, percent."""
        total, used = memory()
        disk: dict[str, Any] = {}
        for path in self._where.paths:
            if Path(path).is_dir():
                usage = shutil.disk_usage(path)
                disk = {"total": usage.total, "free": usage.free, "percent": round(100 * usage.used / usage.total, 1)}
                break
        return {"cores": os.cpu_count(), "memory_total": total, "memory_used": used, "disk": disk}


def highest(before: list[float | None], now: list[float | None] | None) -> list[float | None] | None:
    """Element-wise maximum; unknown wins, and another number of GPUs is unknown."""
    if now is None or len(now) != len(before):
        return None
    return [None if a is None or b is None else max(a, b) for a, b in zip(before, now, strict=True)]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def cpu_seconds() -> float | None:
    """Seconds of CPU that this machine (its control group) has used."""
    told = _text(CGROUP / "cpu.stat")
    for line in (told or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) / 1e6
    old = _text(CGROUP / "cpuacct" / "cpuacct.usage")
    if old is not None and old.strip().isdigit():
        return int(old) / 1e9
    return _cpu_of_host()


def _cpu_of_host() -> float | None:
    told = _text(Path("/proc/stat"))
    parts = (told or "").splitlines()[:1]
    if not parts:
        return None
    figures = [int(part) for part in parts[0].split()[1:9]]
    idle = figures[3] + figures[4]
    return (sum(figures) - idle) / float(os.sysconf("SC_CLK_TCK"))


def disk_bytes() -> float | None:
    """Bytes read from and written to disks by this machine; else by the processes that live now."""
    told = _text(CGROUP / "io.stat")
    if told:
        return float(
            sum(
                int(part.partition("=")[2])
                for line in told.splitlines()
                for part in line.split()[1:]
                if part.startswith(("rbytes=", "wbytes="))
            )
        )
    return _disk_of_processes()


_ended_io = 0.0
_known_io: dict[str, float] = {}


def _disk_of_processes() -> float | None:
    """A counter that never falls: what living processes did, and what ended ones had done when last seen."""
    global _ended_io, _known_io
    now: dict[str, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        told = _text(folder / "io")
        if told is None:
            continue
        lines = dict(line.split(": ", 1) for line in told.splitlines() if ": " in line)
        now[folder.name] = float(lines.get("read_bytes", 0)) + float(lines.get("write_bytes", 0))
    if not now:
        return None
    for pid, value in _known_io.items():
        if now.get(pid, -1.0) < value:
            _ended_io += value
    _known_io = now
    return _ended_io + sum(now.values())


def net_bytes() -> float | None:
    """Bytes over every interface but the loopback."""
    told = _text(Path("/proc/net/dev"))
    if told is None:
        return None
    total = 0
    for line in told.splitlines()[2:]:
        name, _, rest = line.partition(":")
        figures = rest.split()
        if name.strip() != "lo" and len(figures) > 8:
            total += int(figures[0]) + int(figures[8])
    return float(total)


def ssh_sessions(port: int) -> int | None:
    """Connections that are open to sshd now."""
    wanted, found, read = f"{port:04X}", 0, False
    for name in ("tcp", "tcp6"):
        told = _text(Path("/proc/net") / name)
        if told is None:
            continue
        read = True
        for line in told.splitlines()[1:]:
            parts = line.split()
            if len(parts) > 3 and parts[1].endswith(f":{wanted}") and parts[3] == ESTABLISHED:
                found += 1
    return found if read else None


def busy_kernels(home: Path) -> int | None:
    """Jupyter kernels at work. 0 without a server; None when a server runs and does not tell."""
    busy = 0
    folders = [home / ".local/share/jupyter/runtime", Path("/run/jupyter")]
    for file in (f for folder in folders if folder.is_dir() for f in folder.glob("*server-*.json")):
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not Path(f"/proc/{told.get('pid', 0)}").exists():
            continue
        kernels = _kernels(str(told.get("url") or ""), str(told.get("token") or ""))
        if kernels is None:
            return None
        busy += sum(1 for kernel in kernels if kernel.get("execution_state") != "idle")
    return busy


def _kernels(url: str, token: str) -> list[dict[str, Any]] | None:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return None
    link = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=3)
    try:
        link.request("GET", f"{parts.path.rstrip('/')}/api/kernels", headers={"Authorization": f"token {token}"})
        answer = link.getresponse()
        found = json.loads(answer.read(1_000_000)) if answer.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        link.close()
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else None


def memory() -> tuple[int | None, int | None]:
    """Total and used bytes: of the control group where it has a limit, else of the host."""
    limit, used = _text(CGROUP / "memory.max"), _text(CGROUP / "memory.current")
    if limit and used and limit.strip().isdigit():
        return int(limit), int(used)
    told = dict(line.split(":", 1) for line in (_text(Path("/proc/meminfo")) or "").splitlines() if ":" in line)
    try:
        total = int(told["MemTotal"].split()[0]) * 1024
        return total, total - int(told["MemAvailable"].split()[0]) * 1024
    except (KeyError, ValueError, IndexError):
        return None, None
