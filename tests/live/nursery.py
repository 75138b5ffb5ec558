"""Processes that are there at once: forked from one that has loaded Django and a module of the tests.

    with Nursery("tests.operations.worker", data) as nursery:
        worker = nursery.start("race", name)
        worker.kill9()

Each is a process of its own, with its own connections, like one that was started anew with the same environment; only
what a start costs, seconds of a processor, is paid once. A module of the nursery has `main(*arguments)`; it writes to
its standard output, which the test reads.

Beside each child stands a minder that forked it, waits for it and tells how it ended.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Self

from tests.live.processes import ROOT

LARGEST = 64 * 1024
FILES = 3  # standard output, standard error, and where the minder tells


class Forked:
    """One process of a nursery: the part of `subprocess.Popen` that tests need."""

    def __init__(self, out: IO[str], err: IO[str], told: IO[bytes]) -> None:
        self.stdout, self._err, self._told = out, err, told  # told is not buffered, since it is waited for
        self.pid = int(told.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, minus the signal that ended it, or None while it runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end; raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._told], [], [], seconds)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), seconds)
            self.returncode = os.waitstatus_to_exitcode(int(self._told.readline()))
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill9(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        self.wait()
        for pipe in (self.stdout, self._err, self._told):
            pipe.close()

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """What it wrote, once it has ended; for processes that write less than a pipe holds."""
        self.wait(timeout)
        with self.stdout, self._err, self._told:
            return self.stdout.read(), self._err.read()


class Nursery:
    """The process that forks; everything ends with it, and it ends with the block."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.live.nursery", module, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()
        self._process.wait(30)

    def start(self, *arguments: str) -> Forked:
        """Fork a process that runs the module's `main` with these arguments."""
        pipes = [os.pipe() for _ in range(FILES)]
        try:
            socket.send_fds(self._ours, [json.dumps(arguments).encode()], [write for _, write in pipes])
        finally:
            for _, write in pipes:
                os.close(write)
        (out, _), (err, _), (told, _) = pipes
        return Forked(os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8"), os.fdopen(told, "rb", 0))


def _minder(name: str, arguments: list[str], files: list[int]) -> None:
    out, err, tell = files
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os._exit(_child(name, arguments))
    os.close(out)
    os.close(err)
    os.write(tell, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(tell, f"{status}\n".encode())


def _child(name: str, arguments: list[str]) -> int:
    code = 0
    try:
        importlib.import_module(name).main(*arguments)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def main(name: str, descriptor: str) -> None:
    """Fork until the other side closes the socket; then end, and every child that is left."""
    import django

    import tests.env  # noqa: F401  keys, before Django reads its settings

    django.setup()
    from django.db import connections

    from core.memory import settle_memory

    importlib.import_module(name)
    connections.close_all()
    settle_memory()
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # minders are not waited for
    with socket.socket(fileno=int(descriptor)) as asked:
        while True:
            words, files, _, _ = socket.recv_fds(asked, LARGEST, FILES)
            if not words:
                break
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                asked.close()
                _minder(name, json.loads(words), files)
                os._exit(0)
            for each in files:
                os.close(each)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
