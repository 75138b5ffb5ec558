"""The Debian packages that the full test suite uses; installed only when root and only what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from launcher import paths
from launcher.console import Failure, SetupLog, say, step


@dataclass(frozen=True)
class Tool:
    """A program, the Debian package that brings it, and what is skipped without it."""

    program: str
    package: str
    without: str

    def present(self) -> bool:
        """Whether it is on PATH or where Debian hides it."""
        return find(self.program) is not None


TOOLS = (
    Tool("redis-server", "redis-server", "tests on PostgreSQL and Redis"),
    Tool("postgres", "postgresql", "tests on PostgreSQL and Redis"),
    Tool("dockerd", "docker.io", "tests with real containers"),
    Tool("restic", "restic", "tests with real backups"),
    Tool("rclone", "rclone", "tests with snapshots in remotes of rclone"),
    Tool("chromium", "chromium", "browser tests"),
    Tool("busybox", "busybox-static", "tests with real containers"),
    Tool("sshd", "openssh-server", "tests with rented machines"),
)


def find(program: str) -> Path | None:
    """The program's path, looking also into sbin and PostgreSQL's own folders."""
    found = shutil.which(program)
    if found:
        return Path(found)
    folders = [
        Path("/usr/sbin"),
        Path("/usr/local/sbin"),
        Path("/sbin"),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    ]
    return next((folder / program for folder in folders if (folder / program).exists()), None)


def missing_tools() -> list[Tool]:
    """What the full suite uses and this machine does not have."""
    return [tool for tool in TOOLS if not tool.present()]


def ensure_tools(log: SetupLog, *, allowed: bool = True) -> list[Tool]:
    """Install what is missing by apt when root; return what is still missing, having said what it costs."""
    lacking = missing_tools()
    packages = [tool.package for tool in lacking]
    if importlib.util.find_spec("ensurepip") is None and not paths.VENV_PYTHON.exists():
        packages.append(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")
    if packages and allowed and shutil.which("apt-get") and os.geteuid() == 0:
        apt_install(packages, log)
        lacking = missing_tools()
    for tool in lacking:
        say(f"  {tool.program} is missing (Debian package {tool.package}): {tool.without} will be skipped")
    return lacking


def apt_install(packages: list[str], log: SetupLog) -> None:
    """`apt-get install`, without questions; a failure is said and the run goes on with what there is."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        with step(f"Installing {' '.join(packages)} (apt-get)"):
            log.run(["apt-get", "update"], cwd=paths.ROOT, env=quiet, timeout=600)
            log.run(
                ["apt-get", "install", "--yes", "--no-install-recommends", *packages],
                cwd=paths.ROOT,
                env=quiet,
                timeout=1200,
            )
    except Failure as failure:
        say(str(failure))
