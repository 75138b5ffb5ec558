"""The sandbox AWS as a server of its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]


class SandboxAws:
    """Run `cloudnodes.sandbox.aws_server` while the block lasts. `url` is its address."""

    def __init__(
        self, *, seed: bool = False, transition_seconds: float = 0.4, port: int = 0, state: Path | None = None
    ) -> None:
        self._arguments = [
            "--port",
            str(port),
            *(["--state", str(state)] if state else []),
            "--transition-seconds",
            str(transition_seconds),
            *(["--seed"] if seed else []),
        ]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "cloudnodes.sandbox.aws_server", *self._arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line.isdigit(), f"the sandbox did not start: {line!r}"
        self.url = f"http://127.0.0.1:{line}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Use one of the sandbox's own addresses and return its JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def credentials(self) -> dict[str, Any]:
        """Return the demo keys: `platform`, `accounts`, `region`."""
        return dict(self.call("GET", "/_sandbox/credentials"))

    def launch_role(self, external_id: str, **more: Any) -> dict[str, str]:
        """Play the customer who launches the stack; `open=True` forgets the external ID."""
        return dict(self.call("POST", "/_sandbox/role", {"external_id": external_id, **more}))

    def delete_role(self, **more: Any) -> None:
        """Play the customer who deletes the stack."""
        self.call("DELETE", "/_sandbox/role", more)

    def fail(self, action: str, **fault: Any) -> None:
        """Plan a failure of an action: code, message, status, times, delay, body ("html", "half")."""
        self.call("POST", "/_faults", [{"action": action, **fault}])

    def heal(self) -> None:
        """Forget all planned failures."""
        self.call("DELETE", "/_faults")
