"""A remote of rclone as the place of repositories: what may be in its configuration, whether it works, how it is served.

The configuration goes to rclone in its environment: it is never in a file here, nor in a command line.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Collection, Mapping
from configparser import Error as BadIni
from configparser import RawConfigParser
from dataclasses import dataclass, field

from core.processes import die_with_parent
from core.providers import InvalidRequest, ProviderError, TimedOut, Unreachable

NAME = "curfew"
OLDEST = (1, 50)
LARGEST = 20_000
CHECK_SECONDS = 45.0
READY_SECONDS = 15.0
# Nobody has asked for anything for so long: the process ends.
IDLE_SECONDS = 300.0
LOOK_SECONDS = 2.0
# Options that let whoever wrote the configuration run programs or read files of this server, or use its own identity.
FORBIDDEN = re.compile(
    r"(_command|_file|_path|_socket|_dir)$|^(ssh|env_auth|profile|use_msi|use_az|key_use_agent|links|copy_links)$"
)
# Remotes whose refresh token is another after each use: what is kept here would be worthless an hour later.
TURNING = frozenset({"box", "jottacloud"})
NOT_KEPT = frozenset({"memory", "http", "cache"})
# Where a path that begins with a slash is another than one that does not.
ROOTED = frozenset({"local", "sftp", "ftp", "hdfs"})
HOSTS = ("endpoint", "url", "host", "hostname", "namenode", "auth_url", "token_url", "api_url", "auth", "storage_url")
_OPTION = re.compile(r"[a-z][a-z0-9_]*")
_SECTION = re.compile(r"[\w+@-][\w.+@ -]*")
_REFERENCE = re.compile(r"([\w.+@ -]+):(.*)")


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote and the folder in it. `sections` holds keys and is never shown; the first is the remote itself."""

    kind: str
    folder: str
    sections: Mapping[str, Mapping[str, str]] = field(repr=False)

    def location(self, below: str = "") -> str:
        """As rclone spells it."""
        return f"{NAME}:{'/'.join(part for part in (self.folder, below) if part)}"

    def environment(self) -> dict[str, str]:
        """For rclone, and for restic that starts it: the remote, no configuration of this server's, nobody's identity."""
        found = {
            f"RCLONE_CONFIG_{name.upper()}_{key.upper()}": value
            for name, options in self.sections.items()
            for key, value in options.items()
        }
        quiet = {
            "RCLONE_CONFIG": "",
            "RCLONE_CONTIMEOUT": "20s",
            "RCLONE_TIMEOUT": "120s",
            "RCLONE_LOG_LEVEL": "NOTICE",
        }
        return {**found, **quiet, "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"}

    def hosts(self) -> list[str]:
        """Hosts that the configuration names."""
        told = (options.get(key, "").strip() for options in self.sections.values() for key in HOSTS)
        found = [re.sub(r"^[a-z+]+://", "", value).partition("/")[0].rpartition("@")[2] for value in told if value]
        return [re.sub(r":\d+$", "", host).strip("[]") for host in found]


def parse(text: str, folder: str, allowed: Collection[str] = ()) -> Remote:
    """What `rclone config show NAME` printed, the remote first, then those that it builds upon.

    `allowed` are folders of this server that a remote may lead to; no other. Raises ValueError with words.
    """
    if len(text) > LARGEST:
        raise ValueError("This is too long for the configuration of a remote.")
    ini = RawConfigParser(delimiters=("=",), comment_prefixes=("#", ";"), strict=True, interpolation=None)
    try:
        ini.read_string(text)
    except BadIni:
        raise ValueError("Paste what rclone config show NAME prints: [NAME], then lines such as type = s3.") from None
    sections = {name: {key: value or "" for key, value in ini.items(name)} for name in ini.sections()}
    if not sections:
        raise ValueError("Paste what rclone config show NAME prints, with its first line [NAME].")
    for name, options in sections.items():
        _judge(name, options, sections, allowed)
    first = next(iter(sections))
    kind = sections[first]["type"]
    folder = _clean_folder(folder, rooted=kind in ROOTED)
    if kind == "local":
        _allowed(folder, allowed)
    renamed = {NAME: sections.pop(first), **sections}
    return Remote(kind, folder, renamed)


def _clean_folder(given: str, *, rooted: bool) -> str:
    parts = [part for part in given.strip().split("/") if part]
    if ".." in parts or "." in parts or not given.isprintable():
        raise ValueError("The folder is a path such as backups/curfew.")
    return ("/" if rooted and given.strip().startswith("/") else "") + "/".join(parts)


def _judge(name: str, options: Mapping[str, str], sections: Collection[str], allowed: Collection[str]) -> None:
    kind = options.get("type", "")
    if not _SECTION.fullmatch(name) or not kind:
        raise ValueError(f"The remote [{name[:40]}] tells no type.")
    if name.lower() == NAME and name != next(iter(sections)):
        raise ValueError(f"A remote that lies below cannot be called {name}.")
    if kind in TURNING:
        raise ValueError(f"The token of a remote of type {kind} changes with each use, so it cannot be kept here.")
    if kind in NOT_KEPT:
        raise ValueError(f"A remote of type {kind} keeps nothing.")
    for key, value in options.items():
        if not _OPTION.fullmatch(key) or any(ord(sign) < 32 for sign in value):
            raise ValueError(f"{key[:40]} is no option of a remote, or holds a control character.")
        if FORBIDDEN.search(key) and value.strip().lower() not in ("", "false"):
            raise ValueError(
                f"{key} would use a program, file or identity of this server; give the key itself instead."
            )
    if "upstreams" in options:
        raise ValueError(f"A remote of type {kind} joins others; give one that keeps the files itself.")
    if "remote" in options:
        _refers(options["remote"], sections, allowed)


def _refers(value: str, sections: Collection[str], allowed: Collection[str]) -> None:
    """A remote over another: that one has to be pasted too; a path has to be in an allowed folder."""
    found = _REFERENCE.fullmatch(value)
    if found and found[1] in sections:
        if ".." in found[2].split("/"):
            raise ValueError("A remote must not lead out of another by '..'.")
        return
    if found or not value.startswith("/"):
        raise ValueError(f"It builds upon {value.partition(':')[0][:40]}: paste the configuration of that below it.")
    _allowed(value, allowed)


def _allowed(path: str, allowed: Collection[str]) -> None:
    if not path.startswith("/"):
        raise ValueError("A folder of this server is given from the root on: /mnt/backups.")
    real = os.path.realpath(path)
    for folder in allowed:
        home = os.path.realpath(folder)
        if real == home or real.startswith(home.rstrip("/") + "/"):
            return
    raise ValueError(
        f"{path} is a folder of this server; only those in CURFEW_RCLONE_FOLDERS may be used, "
        "which whoever runs the server sets."
    )


def program() -> str:
    """Where rclone is. Raises InvalidRequest when it is not installed, or too old."""
    found = shutil.which("rclone")
    if found is None:
        raise InvalidRequest(
            "rclone is not installed on this server.",
            code="no_rclone",
            next_step="Install the package rclone (apt-get install rclone), then save again.",
        )
    _check_version(found)
    return found


_versions: dict[tuple[str, float], tuple[int, int]] = {}


def _check_version(found: str) -> None:
    key = (found, os.stat(found).st_mtime)  # noqa: PTH116
    if key not in _versions:
        try:
            told = subprocess.run([found, "version"], capture_output=True, text=True, timeout=20, check=False).stdout  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as bad:
            raise ProviderError("rclone cannot be started.", code="rclone", detail=str(bad)) from None
        number = re.search(r"rclone v(\d+)\.(\d+)", told)
        _versions[key] = (int(number[1]), int(number[2])) if number else (0, 0)
    if _versions[key] < OLDEST:
        major, minor = _versions[key]
        raise InvalidRequest(
            f"This server has rclone {major}.{minor}; {OLDEST[0]}.{OLDEST[1]} or newer is needed.",
            code="old_rclone",
            next_step="Install a newer rclone, then save again.",
        )


def check(remote: Remote, *, seconds: float = CHECK_SECONDS) -> None:
    """Write a small file into the folder, read it back and take it away. Raises a ProviderError with rclone's words."""
    end = time.monotonic() + seconds
    place, words = remote.location(f"curfew-check-{secrets.token_hex(6)}"), secrets.token_hex(16)
    _run(remote, end, "rcat", place, text=words)
    read = _run(remote, end, "cat", place)
    _run(remote, end, "deletefile", place)
    if read != words:
        raise ProviderError(
            "What was written into the remote is not what it gives back.",
            code="rclone",
            next_step="Look whether the remote is of a kind that changes files.",
        )


def remove(remote: Remote, path: str, *, seconds: float = CHECK_SECONDS) -> None:
    """Delete one file. Raises a ProviderError."""
    _run(remote, time.monotonic() + seconds, "deletefile", remote.location(path))


def _run(remote: Remote, end: float, *arguments: str, text: str = "") -> str:
    command = [program(), "--retries", "1", "--low-level-retries", "2", *arguments]
    seconds = max(1.0, end - time.monotonic())
    try:
        done = subprocess.run(  # noqa: S603  our own arguments
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env={**_plain(), **remote.environment(), "RCLONE_CONTIMEOUT": "10s", "RCLONE_TIMEOUT": "20s"},
        )
    except subprocess.TimeoutExpired:
        raise TimedOut(
            f"The remote did not answer in {CHECK_SECONDS:.0f} s.",
            next_step="Look whether this server can reach it, and whether rclone lsd works with the same configuration.",
        ) from None
    except OSError as bad:
        raise ProviderError("rclone cannot be started.", code="rclone", detail=str(bad)) from None
    if done.returncode:
        refused = ProviderError(
            "The remote refuses, or is not as its configuration says.",
            code="rclone",
            next_step="Try rclone lsd with the same configuration; the folder must be one that may be written to.",
            detail=_last_words(done.stderr),
        )
        refused.hide(v for options in remote.sections.values() for k, v in options.items() if k not in ("type", *HOSTS))
        raise refused
    return done.stdout


def _last_words(said: str) -> str:
    lines = [re.sub(r"^[\d/]+ [\d:]+ ", "", line).strip() for line in said.strip().splitlines()]
    return " ".join(dict.fromkeys(lines[-3:]))[-400:]


def _plain() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k in ("PATH", "TMPDIR", "LANG", "SSL_CERT_FILE")}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a served remote answers, and what it asks for."""

    url: str
    user: str
    password: str = field(repr=False)


class Served:
    """`rclone serve restic --append-only` for one remote: started when asked for, ended when nobody asks any more.

    It listens on loopback with a password of its own and dies with this process, also when that is killed: the thread
    that started it waits for it, and the kernel ends the child with its parent.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.users = 0
        self._gate = threading.Lock()
        self._asked, self._ended = time.monotonic(), False
        self._address: Address | None = None
        self._said: list[str] = []
        self._ready = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._program = program()
        self._keeper = threading.Thread(target=self._keep, name="curfew-rclone", daemon=True)
        self._keeper.start()

    @property
    def alive(self) -> bool:
        return self._keeper.is_alive() and not self._ended

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def claim(self) -> bool:
        """Whether it goes on; if it does, it is not ended as idle before whoever asks has had time to come."""
        with self._gate:
            self._asked = time.monotonic()
            return self.alive

    def address(self) -> Address:
        """Where it answers, as soon as it does. Raises Unreachable with rclone's words."""
        self._ready.wait(READY_SECONDS)
        self._asked = time.monotonic()
        if self._address is None or not self.alive:
            raise Unreachable("rclone does not serve the remote.", detail=_last_words("\n".join(self._said)))
        return self._address

    def used(self, change: int) -> None:
        """One request more (1) or fewer (-1)."""
        with self._gate:
            self.users += change
            self._asked = time.monotonic()

    def end(self) -> None:
        """Ask it to end."""
        self._ended = True
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def _keep(self) -> None:
        user, password = "curfew", secrets.token_urlsafe(24)
        try:
            process = self._process = subprocess.Popen(  # noqa: S603  our own arguments
                [
                    self._program, "serve", "restic", "--append-only", "--cache-objects=false",
                    "--addr", "127.0.0.1:0", self.remote.location(),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env={**_plain(), **self.remote.environment(), "RCLONE_USER": user, "RCLONE_PASS": password},
                preexec_fn=die_with_parent,  # noqa: PLW1509  one system call
            )  # fmt: skip
        except OSError as bad:
            self._said = [str(bad)]
            self._ready.set()
            return
        atexit.register(self.end)
        threading.Thread(target=self._listen, args=(process, user, password), daemon=True).start()
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
            with self._gate:
                self._ended |= self.users == 0 and self._patience() < time.monotonic() - self._asked
            if self._ended:
                self.end()
        self._ended = True
        self._ready.set()
        atexit.unregister(self.end)

    def _patience(self) -> float:
        """One that is still starting is not idle: whoever wants it waits for it."""
        return IDLE_SECONDS if self._ready.is_set() else IDLE_SECONDS + READY_SECONDS

    def _listen(self, process: subprocess.Popen[str], user: str, password: str) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self._said = [*self._said[-9:], line]
                if found := re.search(r"Serving restic REST API on \[?(http://127\.0\.0\.1:\d+)/", line):
                    self._address = Address(found[1], user, password)
                    self._asked = time.monotonic()
                    self._ready.set()


_lock = threading.Lock()
_served: dict[str, Served] = {}


def served(key: str, remote: Remote) -> Served:
    """The running server of `key` (an organization); a new one when there is none, it died or the remote is another.

    Raises InvalidRequest when rclone is not installed or too old.
    """
    with _lock:
        found = _served.get(key)
        if found is None or found.remote != remote or not found.claim():
            if found is not None:
                found.end()
            found = _served[key] = Served(remote)
        return found


def end_all() -> None:
    """End every server of this process."""
    with _lock:
        for found in _served.values():
            found.end()
        _served.clear()
