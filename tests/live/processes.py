"""Child processes that end with us whatever happens, and waiting for something to become true."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


class TookTooLong(AssertionError):
    """Something that was waited for did not come about in time."""


def clean_environment(**more: str) -> dict[str, str]:
    """What a child needs of ours, without any of Curfew's own variables, plus `more`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2", **more}


def _die_with_parent() -> None:
    """Linux ends the child when the thread that made it ends; make children from the main thread only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Child:
    """One process of ours, in a session of its own, its output in a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path | None = None,
        stdin: Any = None,
        stdout: Any = None,
    ) -> None:
        self.name = name
        self.log = log
        out = log.open("ab") if log else None
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env=dict(env),
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=stdout if stdout is not None else out,
                stderr=out if out is not None else None,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        finally:
            if out is not None:
                out.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill9(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.alive:
            self.process.kill()
        self._reap(10)

    def end(self, seconds: float = 8.0) -> int:
        """SIGTERM, and SIGKILL when it does not end in time; returns its exit code."""
        if self.alive:
            self.process.terminate()
        try:
            return self._reap(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self._reap(10)

    def _reap(self, seconds: float) -> int:
        code = self.process.wait(seconds)
        for pipe in (self.process.stdout, self.process.stdin):
            if pipe is not None:
                pipe.close()
        return code

    def tail(self, characters: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log and self.log.exists() else ""


def wait_for(
    question: Callable[[], T | None], *, what: str, seconds: float, every: float = 0.05, child: Child | None = None
) -> T:
    """The first answer that is true; raises TookTooLong after `seconds` or as soon as `child` has ended."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if child is not None and not child.alive:
            raise TookTooLong(f"{what}: {child.name} ended with {child.process.returncode}\n{child.tail()}")
        if time.monotonic() > deadline:
            raise TookTooLong(f"{what}: not within {seconds} s\n{child.tail() if child else ''}")
        time.sleep(every)
