"""Real PostgreSQL and Redis for tests: own processes, free ports, data in a temporary folder, gone afterwards.

    with stack() as servers:
        subprocess.run([...], env={**os.environ, **servers.environment()})

`python -m tests.stack -- COMMAND ARGS` runs one command with DATABASE_URL and REDIS_URL set. Standard library
only. PostgreSQL refuses to run as root, so root starts it as `postgres` or `nobody`. Durability is off: these
databases live for one test run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
USER = "curfew"
DATABASE = "curfew"
START_SECONDS = 30.0
TRIES = 3
POSTGRES_OPTIONS = {
    "listen_addresses": HOST,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "log_min_messages": "warning",
}
# Thousands of small tables that live for a moment: compiling a query and keeping statistics cost more than they bring.
FOR_TESTS = {"jit": "off", "autovacuum": "off"}


class StackUnavailable(RuntimeError):
    """A server is not installed here or does not start; the text says which and why."""


@dataclass
class Server:
    """A running server process of ours."""

    name: str
    url: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, seconds: float = 10.0, how: int = signal.SIGTERM) -> None:
        """End it and wait; kill it when it does not end in time. Harmless when it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(seconds)


@dataclass(frozen=True)
class Stack:
    """Both servers."""

    postgres: Server
    redis: Server

    def environment(self) -> dict[str, str]:
        """What tells Curfew's settings to use them."""
        return {"DATABASE_URL": self.postgres.url, "REDIS_URL": self.redis.url}


def find(program: str) -> Path:
    """The program on PATH or in PostgreSQL's versioned folders (newest first); raises StackUnavailable."""
    found = shutil.which(program)
    hidden = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=_version, reverse=True)
    if found or hidden:
        return Path(found) if found else hidden[0]
    raise StackUnavailable(f"{program} is not installed")


def _version(path: Path) -> float:
    try:
        return float(path.parts[-3])
    except ValueError:
        return 0.0


def missing() -> list[str]:
    """The programs that are not installed here; empty when the stack can run."""
    lacking = []
    for program in ("initdb", "postgres", "redis-server"):
        try:
            find(program)
        except StackUnavailable:
            lacking.append(program)
    return lacking


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom root becomes to run PostgreSQL; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise StackUnavailable("root cannot run PostgreSQL and there is no user postgres or nobody")


def _die_with_parent() -> None:
    """Linux ends the child when its parent dies, even by kill -9; other systems leave it to the caller."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _popen(command: Sequence[str | Path], log: Path, user: pwd.struct_passwd | None) -> subprocess.Popen[bytes]:
    identity: dict[str, Any] = {}
    if user is not None:
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with log.open("ab") as out:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            start_new_session=True,
            preexec_fn=_die_with_parent,
            **identity,
        )


def _run(command: Sequence[str | Path], log: Path, user: pwd.struct_passwd | None) -> None:
    code = _popen(command, log, user).wait(60)
    if code != 0:
        raise StackUnavailable(f"{Path(command[0]).name} ended with code {code}: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:].strip()


def _wait_ready(server: Server, ready: Callable[[], bool]) -> bool:
    """True when it answers; False when it ended or did not answer in time."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            return False
        if ready():
            return True
        time.sleep(0.05)
    return False


def _temporary_folder(owner: pwd.struct_passwd | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="curfew-stack-"))
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    return folder


@contextlib.contextmanager
def postgres(more: Mapping[str, str] | None = None) -> Iterator[Server]:
    """An empty PostgreSQL with the database and superuser `curfew`; `more` are settings."""
    binaries = find("initdb").resolve().parent
    user = _unprivileged()
    folder = _temporary_folder(user)
    server: Server | None = None
    try:
        cluster, log = folder / "cluster", folder / "log"
        _run(
            [
                binaries / "initdb",
                "--pgdata",
                cluster,
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                f"--username={USER}",
            ],
            log,
            user,
        )
        server = _start_postgres(binaries, cluster, log, user, {**POSTGRES_OPTIONS, **(more or {})})
        _run([binaries / "createdb", "-h", HOST, "-p", str(server.port), "-U", USER, DATABASE], log, user)
        yield server
    finally:
        if server is not None:
            server.stop(how=signal.SIGINT)
        shutil.rmtree(folder, ignore_errors=True)


def _start_postgres(
    binaries: Path, cluster: Path, log: Path, user: pwd.struct_passwd | None, settings: Mapping[str, str]
) -> Server:
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    for _ in range(TRIES):
        port = free_port()
        command: list[str | Path] = [binaries / "postgres", "-D", cluster, "-p", str(port), "-k", cluster, *options]
        url = f"postgres://{USER}@{HOST}:{port}/{DATABASE}"
        server = Server("postgres", url, port, _popen(command, log, user), log)
        probe = [str(binaries / "pg_isready"), "-q", "-h", HOST, "-p", str(port)]
        if _wait_ready(server, lambda probe=probe: subprocess.run(probe, check=False).returncode == 0):  # type: ignore[misc]
            return server
        server.stop()
    raise StackUnavailable(f"PostgreSQL does not start: {_tail(log)}")


@contextlib.contextmanager
def redis() -> Iterator[Server]:
    """An empty Redis that writes nothing to disk."""
    program = find("redis-server")
    folder = _temporary_folder(None)
    server: Server | None = None
    try:
        for _ in range(TRIES):
            port = free_port()
            command: list[str | Path] = [
                program,
                "--port",
                str(port),
                "--bind",
                HOST,
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                folder,
                "--databases",
                "32",
            ]
            log = folder / "log"
            candidate = Server("redis", f"redis://{HOST}:{port}/0", port, _popen(command, log, None), log)
            if _wait_ready(candidate, lambda port=port: _redis_answers(port)):  # type: ignore[misc]
                server = candidate
                break
            candidate.stop()
        if server is None:
            raise StackUnavailable(f"Redis does not start: {_tail(folder / 'log')}")
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _redis_answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


@contextlib.contextmanager
def stack(more: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """PostgreSQL, with `more` settings, and Redis, both answering."""
    with postgres(more) as database, redis() as broker:
        yield Stack(database, broker)


def main(arguments: Sequence[str]) -> int:
    """Run a command beside the servers and return its exit code."""
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not command:
        sys.stderr.write("usage: python -m tests.stack -- COMMAND [ARGS]\n")
        return 2
    try:
        with stack() as servers:
            return subprocess.run(command, env={**os.environ, **servers.environment()}, check=False).returncode
    except StackUnavailable as reason:
        sys.stderr.write(f"{reason}\n")
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
