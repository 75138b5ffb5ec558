"""One plain line per step with its seconds; everything else goes to the setup log."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TAIL_LINES = 25


class Failure(Exception):
    """A step could not be done; the text says what happened and what to do about it."""


def say(text: str = "") -> None:
    """One line to the user, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, then add its seconds to the same line, or the word failed."""
    sys.stdout.write(f"  {text} ... ")
    sys.stdout.flush()
    started = time.monotonic()
    try:
        yield
    except BaseException:
        say("failed")
        raise
    say(f"{time.monotonic() - started:.1f} s")


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a text file, indented; empty when there is no such file."""
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join("    " + line for line in content.splitlines()[-lines:])


class SetupLog:
    """Runs commands with their whole output in one log file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        hint: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 1800,
    ) -> None:
        """Run to the end; raise `Failure` with the log's tail and `hint` when it does not succeed."""
        words = [str(word) for word in command]
        with self.path.open("a", encoding="utf-8") as log:
            log.write(f"\n--- {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(words)}\n")
            log.flush()
            try:
                code = subprocess.run(
                    words,
                    cwd=cwd,
                    env=dict(env) if env is not None else None,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                log.write(f"--- stopped after {timeout:.0f} s\n")
                code = -1
            except OSError as error:
                log.write(f"--- {error}\n")
                code = 127
        if code != 0:
            raise Failure(
                "\n".join(
                    filter(None, [f"{words[0]} ended with code {code}. The end of {self.path}:", tail(self.path), hint])
                )
            )
