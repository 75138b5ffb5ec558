"""One server per data folder, and one port per server.

The lock is an advisory file lock held for the life of the process, so the kernel lets go of it when the process
dies. On file systems without such locks the recorded process id and start time decide: a lock left behind by
`kill -9` is recognised even when another process has been given the same id since.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import IO, Self

FILE_NAME = "curfew.lock"


class FolderInUse(Exception):
    """Another live process serves this data folder; `owner` has its pid and, when known, its port."""

    def __init__(self, data: Path, owner: dict[str, object]) -> None:
        self.data = data
        self.owner = owner
        where = f", http://localhost:{owner['port']}" if owner.get("port") else ""
        super().__init__(
            f"Another Curfew already uses {data} (process {owner.get('pid', 'unknown')}{where}).\n"
            f"Use that one, stop it first, or choose another folder with --data."
        )


def process_started(pid: int) -> str | None:
    """A word that tells this process from any later one with the same id; None when it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        return None
    else:
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"ticks:{fields[19]}"
    answer = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        timeout=5,
        check=False,
    )
    return answer.stdout.strip() or None


class RunLock:
    """Context manager: holds the data folder for this process or raises `FolderInUse`."""

    def __init__(self, data: Path, *, port: int | None = None) -> None:
        self.data = data
        self.port = port
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock; a lock whose owner is dead is taken over."""
        handle = os.open(self.data / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        file = os.fdopen(handle, "r+", encoding="utf-8")
        held = _refused(file)
        owner = _owner(file)
        if held or _alive(owner):
            file.close()
            raise FolderInUse(self.data, owner)
        pid = os.getpid()
        file.seek(0)
        file.truncate()
        json.dump({"pid": pid, "started": process_started(pid), "port": self.port}, file)
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let go; harmless when the lock is not held."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
            self._file.close()
            self._file = None


def owner_of(data: Path) -> dict[str, object] | None:
    """Who serves this folder now: pid, started, port; None when nobody does."""
    path = data / FILE_NAME
    if not path.exists():
        return None
    with path.open("r+", encoding="utf-8") as file:
        owner = _owner(file)
        return owner if _refused(file) or _alive(owner) else None


def _refused(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _owner(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        owner = json.load(file)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _alive(owner: dict[str, object]) -> bool:
    pid, started = owner.get("pid"), owner.get("started")
    return isinstance(pid, int) and pid != os.getpid() and started is not None and process_started(pid) == started


class PortTaken(Exception):
    """Somebody else listens on the port; `free` is the next one that nobody uses."""

    def __init__(self, host: str, port: int, free: int | None) -> None:
        self.free = free
        advice = f"Port {free} is free: add --port {free}" if free else "Choose another one with --port"
        super().__init__(f"Port {port} on {host} is already in use by another program. {advice}")


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the port, for the server to listen on.

    Raises `PortTaken` when it is in use, OSError when the host or port cannot be had at all.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(2048)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, next_free_port(host, port + 1)) from error
        raise
    opened.set_inheritable(False)
    return opened


def next_free_port(host: str, start: int, tries: int = 100) -> int | None:
    """The first port from `start` on that can be listened on; None when none of `tries` can."""
    for port in range(start, min(start + tries, 65536)):
        try:
            bind_only(host, port)
        except OSError:
            continue
        return port
    return None


def bind_only(host: str, port: int) -> int:
    """Listen for a moment to see whether one could; returns the port (the system's choice for 0)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)
        return int(probe.getsockname()[1])
