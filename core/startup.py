"""What `manage.py up` needs besides serving: the sandbox cloud as a child process, and the migration stamp."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection

log = logging.getLogger(__name__)

STAMP = "migrated.json"
SANDBOX_MODULE = "cloudnodes.sandbox.aws_server"
SANDBOX_READY_SECONDS = 60.0
SANDBOX_RESTART_SECONDS = 2.0


def migration_fingerprint() -> str:
    """Changes whenever a migration file of any installed app is added, removed or edited."""
    total = hashlib.sha256()
    for config in sorted(apps.get_app_configs(), key=lambda item: item.label):
        for path in sorted((Path(config.path) / "migrations").glob("*.py")):
            total.update(f"{config.label}/{path.name}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def _applied() -> list[int] | None:
    """Count and newest id of the applied migrations; None when the table cannot be read."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*), COALESCE(MAX(id), 0) FROM django_migrations")
            count, newest = cursor.fetchone()
    except DatabaseError:
        return None
    return [int(count), int(newest)]


def is_migrated(data: Path) -> bool:
    """Whether this very database was migrated with these very files; a doubt counts as no."""
    try:
        stamp = json.loads((data / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    applied = _applied()
    return applied is not None and stamp == {"files": migration_fingerprint(), "applied": applied}


def remember_migrated(data: Path) -> None:
    """Note that `migrate` ran to its end just now."""
    stamp = {"files": migration_fingerprint(), "applied": _applied()}
    (data / STAMP).write_text(json.dumps(stamp), encoding="utf-8")


class Sandbox:
    """The sandbox AWS cloud: a child process on one port, restarted when it dies, ended with us.

    Its output goes to `log`, what it holds to `state`, so that the next one goes on where it ended. The child also ends
    by itself when this process is killed.
    """

    def __init__(self, port: int, log: Path, state: Path) -> None:
        self.port = port
        self.log = log
        self.state = state
        self.process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="curfew-sandbox", daemon=True)

    def __enter__(self) -> Self:
        if find_spec("moto") is None:
            raise RuntimeError("The sandbox cloud needs requirements-demo.txt; start it with ./curfew demo")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._spawn()
        self._keeper.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(1.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(1.0)

    def wait_ready(self, seconds: float = SANDBOX_READY_SECONDS) -> bool:
        """True as soon as it answers and holds its example machines; False after `seconds`."""
        return self._ready.wait(seconds)

    def _spawn(self) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-u", "-m", SANDBOX_MODULE, "--port", str(self.port), "--state", self.state, "--seed"],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _keep(self) -> None:
        """Pass its output on until it ends; start it again unless we are stopping."""
        while True:
            process = self.process
            if process is None or process.stdout is None:
                return
            with self.log.open("a", encoding="utf-8") as log_file:
                for line in process.stdout:
                    log_file.write(line)
                    log_file.flush()
                    if line.strip() == str(self.port):  # its first line, once it answers
                        self._ready.set()
            code = process.wait()
            if self._stopping.is_set():
                return
            log.error("sandbox_ended", extra={"code": code, "port": self.port})
            if self._stopping.wait(SANDBOX_RESTART_SECONDS):
                return
            self._spawn()
