"""A worker agent beside the demo, as a process of its own, when its token was left in the data folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "demo-worker.token"
PATIENCE = 5.0


def invite(data: Path, token: str) -> None:
    """Leave a token for it, unless it has joined already."""
    if (data / "demo-worker" / "token.json").exists():
        return
    handle = os.open(data / FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(token)


def is_wanted(data: Path) -> bool:
    return (data / FILE).exists()


@contextmanager
def beside(data: Path, url: str, docker: str) -> Iterator[None]:
    """Run it until the end of the block. It waits by itself until the server answers."""
    command = [
        sys.executable, "-m", "agent", "worker", "--url", url, "--enrol", (data / FILE).read_text(encoding="ascii"),
        "--name", "workbench", "--state", str(data / "demo-worker"), "--docker", docker, "--cpu", "2000",
        "--memory", "2048",
    ]  # fmt: skip
    with (data / "logs" / "worker.log").open("ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603  our own agent
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
