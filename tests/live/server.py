"""A real Curfew as processes of its own: embedded on a data folder, or as web, worker and beat on PostgreSQL and Redis.

    with WatchedCloud() as cloud, Embedded(cloud) as curfew:
        api = curfew.member("Larkspur", "alice@larkspur.test")
        curfew.kill9()
        curfew.restart()

Everything listens on 127.0.0.1 and ends by its own process id. Output goes to `logs` under the data folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from launcher import keys
from tests import prepared
from tests.live.client import Api, Browser
from tests.live.cloud import WatchedCloud
from tests.live.inspector import Inspector
from tests.live.processes import ROOT, Child, clean_environment, wait_for
from tests.stack import free_port, stack

READY_SECONDS = 90.0


class Curfew:
    """What both ways of running have in common. `parts` are the processes by name; `web` serves HTTP."""

    mode = ""
    lease_seconds: int | None = None

    def __init__(self, cloud: WatchedCloud | None = None, *, folder: Path | None = None, **environment: str) -> None:
        self.cloud = cloud
        self.parts: dict[str, Child] = {}
        self.apis: list[Api | Browser] = []
        self.keep = folder is not None  # the data folder outlives the block; also after an exception
        self.folder = folder or Path(tempfile.mkdtemp(prefix="curfew-live-"))
        self.port = free_port()
        self._extra = environment
        self._inspector: Inspector | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The environment of every part."""
        own = {
            "CURFEW_DATA": str(self.folder),
            "CURFEW_BASE_URL": self.base_url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "CURFEW_EMAIL_URL": "memorymail://",
        }
        if self.cloud is not None:
            own |= self._aws(self.cloud)
        return clean_environment(**{**own, **self._extra})

    @staticmethod
    def _aws(cloud: WatchedCloud) -> dict[str, str]:
        """The watched cloud in AWS's place, by the SDK's own variables: what runs is the code for real accounts."""
        platform = cloud.platform()
        return {
            "AWS_ENDPOINT_URL": cloud.url,
            "AWS_ACCESS_KEY_ID": platform["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": platform["secret_access_key"],
            "AWS_EC2_METADATA_DISABLED": "true",
            "CURFEW_PLATFORM_AWS_ACCOUNT": platform["account_id"],
        }

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        keys.ensure(self.folder, defaults={}, environ={})
        if self.mode == "embedded":
            prepared.put_into(self.folder)
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for api in self.apis:
            api.close()
        if self._inspector is not None:
            self._inspector.close()
        for part in self.parts.values():
            part.end()
        if not self.keep and kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def start(self) -> None:
        """Start every part that does not run and wait until the web server answers."""
        for name, command in self.commands().items():
            if name not in self.parts or not self.parts[name].alive:
                self.parts[name] = Child(name, command, env=self.environment(), log=self.logs / f"{name}.log")
        web = self.parts["web"]
        wait_for(self.answers, what="the web server answers", seconds=READY_SECONDS, child=web)

    def commands(self) -> dict[str, list[str]]:
        """The command line of each part."""
        raise NotImplementedError

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end and return its output."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def answers(self) -> bool:
        """Whether the web server says that it lives."""
        try:
            return httpx.get(f"{self.base_url}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def kill9(self, name: str = "web") -> int:
        """SIGKILL one part; returns the id of the process that was killed."""
        part = self.parts[name]
        pid = part.pid
        os.kill(pid, 0)  # it must be there to be killed
        part.kill9()
        return pid

    def restart(self) -> None:
        """Start again whatever was killed."""
        self.start()

    @property
    def inspector(self) -> Inspector:
        """A look at the database from outside."""
        if self._inspector is None:
            self._inspector = Inspector(self.environment(), self.logs / "inspector.log")
        return self._inspector

    def api(self, *, timeout: float = 30.0) -> Api:
        """A client that has not signed in."""
        made = Api(self.base_url, timeout=timeout)
        self.apis.append(made)
        return made

    def member(self, organization: str, email: str) -> Api:
        """Sign up a new organization through the API; the client acts as its owner."""
        api = self.api()
        api.sign_up(organization, email)
        return api

    def browser(self, email: str) -> Browser:
        """A browser session of somebody who signed up."""
        browser = Browser(self.base_url)
        self.apis.append(browser)
        browser.sign_in(email)
        return browser

    def log_text(self) -> str:
        """Everything that the parts wrote."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.logs.glob("*.log")))


class Embedded(Curfew):
    """One process on SQLite with worker and beat inside, as `./curfew up` starts it."""

    mode = "embedded"

    def commands(self) -> dict[str, list[str]]:
        return {
            "web": [sys.executable, "manage.py", "up", "--host", "127.0.0.1", "--port", str(self.port), "--no-browser"]
        }


class Scaled(Curfew):
    """Web, worker and beat as processes of their own, on PostgreSQL and Redis of their own.

    `lease_seconds` shortens the leases (60 s as shipped), so that a hundred kills do not take hours.
    """

    mode = "scaled"

    def __init__(
        self,
        cloud: WatchedCloud | None = None,
        *,
        lease_seconds: int | None = None,
        workers: int = 1,
        **environment: str,
    ) -> None:
        super().__init__(cloud, **environment)
        self.lease_seconds = lease_seconds
        self.workers = workers
        self._servers = ExitStack()

    def __enter__(self) -> Self:
        servers = self._servers.enter_context(stack())
        self._extra.update(servers.environment(), CURFEW_STATIC_FROM_SOURCE="1")
        try:
            keys.ensure(self.folder, defaults={}, environ={})
            url = servers.environment()["DATABASE_URL"]
            prepared.fill_postgres(url, url.rpartition("/")[2])
            self.manage("sync_periodic_tasks")
            return super().__enter__()
        except BaseException:
            self._servers.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._servers.close()

    def commands(self) -> dict[str, list[str]]:
        web = [
            sys.executable,
            "manage.py",
            "up",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--serve-only",
            "--no-browser",
        ]
        common = ["--loglevel", "WARNING"]
        pool = ["--pool", "threads", "--concurrency", "8", "--queues", "fast,cloud,sweep"]
        celery = [sys.executable, "-m", "celery", "-A", "config"]
        worker = [sys.executable, "-m", "tests.live.worker", str(self.lease_seconds)] if self.lease_seconds else celery
        beat = [*celery, "beat", *common, "--pidfile="]
        workers = {
            f"worker{n}": [*worker, "worker", *common, *pool, "--hostname", f"w{n}@localhost"]
            for n in range(self.workers)
        }
        return {"web": web, **workers, "beat": beat}
