"""`manage.py up`: bring the database up to date and serve; `./curfew up` and `./curfew demo` end here."""

from __future__ import annotations

import io
import logging
import logging.config
import os
import signal
import socket
import sys
import threading
import time
import warnings
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from core import demo_worker
from core.processes import serve_in_several
from core.startup import Sandbox, is_migrated, remember_migrated
from launcher import runlock
from launcher.console import say, step

GRACE_SECONDS = 1
STOP_SECONDS = 4.7
SANDBOX_HOST = "127.0.0.1"
SANDBOX_PORT_TRIES = 12
LOG_BYTES, LOG_FILES = 10 * 1024**2, 5


class _Server(uvicorn.Server):
    """uvicorn that says when it serves, and that is gone STOP_SECONDS after the first Ctrl-C whatever happens."""

    on_started: Callable[[], None] | None = None
    _deadline: threading.Timer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit and self.on_started is not None:
            self.on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._deadline is None:
            self._deadline = threading.Timer(STOP_SECONDS, os._exit, [0])
            self._deadline.daemon = True
            self._deadline.start()
        super().handle_exit(sig, frame)


class Command(BaseCommand):
    help = "Bring the database up to date and serve Curfew, with its worker and beat inside when there is no Redis."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--demo", action="store_true", help="with the sandbox cloud and example data")
        parser.add_argument("--no-browser", action="store_true")
        parser.add_argument(
            "--serve-only", action="store_true", help="no migration and no lock: one of several web servers"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        os.umask(0o077)
        # served from the source folders (WhiteNoise's finders); there is nothing collected to warn about
        warnings.filterwarnings("ignore", message="No directory at", category=UserWarning)
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        data = Path(settings.CURFEW_DATA)
        host, port = str(options["host"]), int(options["port"])
        try:
            with ExitStack() as stack:
                if not options["serve_only"]:
                    stack.enter_context(runlock.RunLock(data, port=port))
                    _log_to_file(data / "logs" / "curfew.log")
                listening = stack.enter_context(runlock.bind(host, port))
                lines = [] if options["serve_only"] else self._prepare(data, stack, demo=bool(options["demo"]))
                if not (settings.CURFEW_EMBEDDED or options["serve_only"]):
                    lines.append("REDIS_URL is set: ./curfew worker and ./curfew beat do the work, start them too")
                if options["demo"] and demo_worker.is_wanted(data):
                    stack.enter_context(demo_worker.beside(data, _address(host, port), settings.CURFEW_DOCKER_HOST))
                code = self._serve(listening, host, port, began, lines, browser=not options["no_browser"])
        except (runlock.FolderInUse, runlock.PortTaken) as refused:
            raise CommandError(str(refused)) from refused
        except KeyboardInterrupt:
            code = 0
        _end(code)

    def _prepare(self, data: Path, stack: ExitStack, *, demo: bool) -> list[str]:
        """Sandbox, database, sweeps and example data; returns what the demo wants to be printed."""
        sandbox = (
            stack.enter_context(Sandbox(_sandbox_port(), data / "logs" / "sandbox.log", data / "sandbox.state"))
            if demo
            else None
        )
        first = not is_migrated(data)
        if first:
            with step("Bringing the database up to date"):
                call_command("migrate", interactive=False, verbosity=0)
                remember_migrated(data)
        call_command("sync_periodic_tasks", verbosity=0, stdout=io.StringIO())
        if sandbox is None:
            return []
        seeded = data / "demo.seeded"
        if seeded.exists() and not first:
            threading.Thread(target=_seed_again, args=(sandbox,), name="demo", daemon=True).start()
            return _seed()
        with step("Making the demo: an organization, a sandbox cloud and thirty days of history"):
            if not sandbox.wait_ready():
                raise CommandError(f"The sandbox cloud does not start; see {sandbox.log}")
            lines = _seed()
        seeded.touch(mode=0o600)
        return lines

    def _serve(
        self, listening: socket.socket, host: str, port: int, began: float, lines: list[str], *, browser: bool
    ) -> int:
        """Serve until a signal; 0 when it was stopped, 3 when it could not start."""
        url = _address(host, port)

        def started() -> None:
            say(f"\nCurfew is running at {url} ({time.monotonic() - began:.1f} s). Ctrl-C stops it.")
            for line in lines:
                say(f"  {line}")
            if browser and _has_desktop():
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

        if settings.CURFEW_WEB_PROCESSES > 1 and not settings.CURFEW_EMBEDDED:
            started()
            serve_in_several(listening, settings.CURFEW_WEB_PROCESSES, **_uvicorn_options(host, port))
            return 0
        server = _Server(uvicorn.Config(**_uvicorn_options(host, port)))
        server.on_started = started
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            say("\nStopping.")
        return 0 if server.started else 3


def _uvicorn_options(host: str, port: int) -> dict[str, Any]:
    # proxy_headers off: core.middleware decides which proxies may speak for a client
    return {
        "app": "config.asgi:application",
        "host": host,
        "port": port,
        "lifespan": "on",
        "ws": "websockets-sansio",
        "access_log": False,
        "log_config": None,
        "proxy_headers": False,
        "server_header": False,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }


def _log_to_file(path: Path) -> None:
    """Everything goes to a file of the data folder; only warnings and errors also reach the terminal.

    The settings are changed, not the handlers: Celery's worker calls django.setup() once more, which applies them.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs: dict[str, Any] = settings.LOGGING
    logs["handlers"]["stderr"]["level"] = "WARNING"
    logs["handlers"]["file"] = {
        "class": "logging.handlers.RotatingFileHandler",
        "formatter": "json",
        "filename": str(path),
        "maxBytes": LOG_BYTES,
        "backupCount": LOG_FILES,
        "encoding": "utf-8",
    }
    logs["root"]["handlers"] = ["stderr", "file"]
    logs["loggers"]["kombu.connection"] = {"level": "ERROR"}  # warns that memory:// names no host
    logging.config.dictConfig(logs)


def _seed() -> list[str]:
    """Run `seed_demo` (it adds only what is missing) and return its lines: addresses and logins."""
    out = io.StringIO()
    call_command("seed_demo", stdout=out)
    return [line for line in out.getvalue().splitlines() if line.strip()]


def _seed_again(sandbox: Sandbox) -> None:
    """Add what is missing; should the sandbox have begun anew, with everything asleep, wake what the demo had awake."""
    try:
        if sandbox.wait_ready():
            _seed()
    except Exception:  # the demo goes on without it; the log says why
        logging.getLogger(__name__).exception("demo_not_seeded_again")
    finally:
        connections.close_all()


def _sandbox_port() -> int:
    """The stored sandbox port when it is free, else another one for this run."""
    port = urlsplit(settings.CURFEW_SANDBOX_AWS_ENDPOINT).port
    for left in reversed(range(SANDBOX_PORT_TRIES)):
        try:
            port = runlock.bind_only(SANDBOX_HOST, port or 0)
            break
        except OSError:  # the sandbox of a server that was killed ends by itself within half a second
            if not left:
                port = runlock.bind_only(SANDBOX_HOST, 0)
            time.sleep(0.1)
    endpoint = f"http://{SANDBOX_HOST}:{port}"
    os.environ["CURFEW_SANDBOX_AWS_ENDPOINT"] = endpoint
    settings.CURFEW_SANDBOX_AWS_ENDPOINT = endpoint
    return port


def _address(host: str, port: int) -> str:
    """What to type into the browser."""
    if urlsplit(settings.CURFEW_BASE_URL).port in (port, None):
        return str(settings.CURFEW_BASE_URL)
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    return f"http://{shown}:{port}"


def _has_desktop() -> bool:
    """Whether a graphical browser can show up; text browsers would take over the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _end(code: int) -> None:
    """Leave, without waiting for tasks that did not end in time: their rows are picked up by the next start."""
    connections.close_all()
    deadline = time.monotonic() + 0.3
    while _stragglers() and time.monotonic() < deadline:
        time.sleep(0.02)
    sys.stdout.flush()
    sys.stderr.flush()
    if _stragglers():
        os._exit(code)
    sys.exit(code)


def _stragglers() -> list[threading.Thread]:
    mine = threading.current_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not mine]
