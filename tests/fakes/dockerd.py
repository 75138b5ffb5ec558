"""A real Docker engine for tests: the one that runs already, else one of our own.

Our own needs root and the `dockerd` program. It keeps everything below a temporary directory and
touches neither firewall nor bridges, so containers use the host's network or none.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 30
IMAGE = "curfew-test-busybox:local"
_LINKS = (
    "sh",
    "sleep",
    "httpd",
    "cat",
    "echo",
    "ls",
    "nc",
    "mkdir",
    "rm",
    "date",
    "env",
    "head",
    "seq",
    "true",
    "false",
    "test",
    "kill",
    "trap",
)


class DockerUnavailable(Exception):
    """Docker cannot run here; the words say why."""


class DockerEngine:
    """A Docker engine while the block lasts. `socket` is its path; raises DockerUnavailable when there can be none."""

    def __init__(self, *, own: bool = False) -> None:
        self._own = own
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self.socket = ""

    def __enter__(self) -> Self:
        ready = "" if self._own else _running_socket()
        self.socket = ready or self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=10)
        if self._folder is not None:
            _unmount_below(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of its process, when it is our own."""
        return self._process.pid if self._process else 0

    def client(self, **options: Any) -> Any:
        """Return a docker.DockerClient for the engine."""
        import docker

        return docker.DockerClient(base_url=f"unix://{self.socket}", **options)

    def busybox(self) -> str:
        """Make sure that the engine has a small image without any registry; returns its name."""
        client = self.client()
        try:
            if not client.images.list(name=IMAGE):
                client.api.import_image_from_data(
                    busybox_layer(), repository=IMAGE.partition(":")[0], tag=IMAGE.partition(":")[2]
                )
            return IMAGE
        finally:
            client.close()

    def _start(self) -> str:
        program = shutil.which("dockerd")
        if program is None:
            raise DockerUnavailable("no Docker engine answers and dockerd is not installed")
        if os.geteuid() != 0:
            raise DockerUnavailable("no Docker engine answers and only root can start one")
        self._folder = Path(tempfile.mkdtemp(prefix="curfew-dockerd-", dir="/tmp"))  # a socket's path must be short
        path = self._folder / "docker.sock"
        command = [
            program,
            "--data-root",
            str(self._folder / "data"),
            "--exec-root",
            str(self._folder / "exec"),
            "--pidfile",
            str(self._folder / "pid"),
            "--host",
            f"unix://{path}",
            "--iptables=false",
            "--bridge=none",
        ]
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if _answers(str(path)):
                return str(path)
            if self._process.poll() is not None:
                break
            time.sleep(0.2)
        tail = log.read_text(errors="replace")[-500:]
        self.__exit__(None, None, None)
        raise DockerUnavailable(f"dockerd did not start: {tail}")


def _unmount_below(folder: Path) -> None:
    """Release what dockerd leaves mounted (its network namespace), deepest first."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True, timeout=10)


def busybox_layer() -> bytes:
    """Return a root file system with a static busybox as a tar archive."""
    program = shutil.which("busybox")
    if program is None:
        raise DockerUnavailable("busybox-static is not installed, so there is no image to run")
    data = Path(program).resolve().read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "tmp", "etc", "www"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(data), 0o755
        tar.addfile(entry, io.BytesIO(data))
        for name in _LINKS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, "busybox", 0o777
            tar.addfile(entry)
    return buffer.getvalue()


def _running_socket() -> str:
    """Return the path of an engine that answers: DOCKER_HOST if it is a socket, else the usual place."""
    for path in (os.environ.get("DOCKER_HOST", "").removeprefix("unix://"), "/var/run/docker.sock"):
        if path.startswith("/") and _answers(path):
            return path
    return ""


def _answers(path: str) -> bool:
    import docker
    from docker.errors import DockerException

    if not Path(path).exists():
        return False
    try:
        client = docker.DockerClient(base_url=f"unix://{path}", timeout=3)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()
