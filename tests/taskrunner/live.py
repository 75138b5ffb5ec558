"""A real worker agent beside a real Curfew, running containers on a real Docker engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.fakes.dockerd import IMAGE, DockerEngine
from tests.live.client import Api
from tests.live.processes import Child, clean_environment, wait_for
from tests.live.server import Curfew

FINAL = {"succeeded", "failed", "cancelled"}


class LiveWorker:
    """The agent as a process of its own; it may be killed and started again."""

    def __init__(self, curfew: Curfew, api: Api, engine: DockerEngine, folder: Path, name: str = "anvil") -> None:
        self.curfew, self.api, self.engine, self.folder, self.name = curfew, api, engine, folder, name
        enrolment = api.post("/api/admin/workers", {"name": name})
        assert enrolment.status_code == 201, enrolment.text
        self.token = enrolment.json()["token"]
        self.child: Child | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "agent", "worker", "--url", self.curfew.base_url, "--enrol", self.token,
            "--name", self.name, "--state", str(self.folder / self.name), "--docker", f"unix://{self.engine.socket}",
            "--no-networks", "--cpu", "4000", "--memory", "4096",
        ]  # fmt: skip
        log = self.folder / f"{self.name}.log"
        self.child = Child(self.name, command, env=clean_environment(), log=log)

    def kill9(self) -> None:
        assert self.child is not None
        self.child.kill9()

    def end(self) -> None:
        if self.child is not None:
            self.child.end()

    def submit(self, script: str, **fields: Any) -> str:
        """A task that runs a shell script in busybox; its id."""
        given = {"name": "live", "image": IMAGE, "command": ["sh", "-c", script], "cpu": 200, "memory": 64, **fields}
        answer = self.api.post("/api/tasks", given)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/api/tasks/{task_id}").json()
        return found

    def ended(self, task_id: str, seconds: float = 120) -> dict[str, Any]:
        """The task once it has ended."""
        wait_for(lambda: self.task(task_id)["status"] in FINAL, what="the task ends", seconds=seconds)
        return self.task(task_id)

    def stored(self, task_id: str, stream: str) -> bytes:
        return self.api.get(f"/api/tasks/{task_id}/logs.txt", params={"stream": stream}).content
