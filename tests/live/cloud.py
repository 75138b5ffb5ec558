"""The sandbox AWS under observation: every call and every change of state is written down, by the server itself.

    with WatchedCloud(transition_seconds=1.0) as cloud:
        cloud.watch().changes

`python -m tests.live.cloud --port 0 --seed` serves it. Beside the sandbox's own addresses there is
`GET /_watch?calls=N&changes=M`: what happened since.
Times are seconds since the epoch, of this machine's clock.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from tests.live.processes import Child, clean_environment

LOOK_SECONDS = 0.02
ROOT = Path(__file__).resolve().parents[2]
_PREVIOUS = re.compile(rb"<previousState>.*?<name>([a-z-]+)</name>", re.DOTALL)


@dataclass
class Watch:
    """WSGI: passes requests on to the sandbox and keeps what they were and what came of them.

    Starts and stops take effect at once but are answered `answer_seconds` later: time to kill whoever waits for it.
    """

    app: Callable[..., Iterable[bytes]]
    settle: Callable[[], None]
    answer_seconds: float = 0.0
    calls: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Held while an order is carried out: for an instant moto shows the end of the transition that is about to begin.
    ordering: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_watch":
            return self._report(environ, start_response)
        if environ["PATH_INFO"].startswith("/_"):
            return self.app(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        statuses: list[str] = []

        def remember(status: str, headers: Any, *more: Any) -> Any:
            statuses.append(status)
            return start_response(status, headers, *more)

        call = self._arrived(environ, body)
        with self.ordering if call["instances"] else contextlib.nullcontext():
            answer = list(self.app(environ, remember))
        if call["instances"]:
            time.sleep(self.answer_seconds)
        previous = _PREVIOUS.search(b"".join(answer)) if call["instances"] else None
        call.update(
            status=int(statuses[0].split()[0]) if statuses else 0,
            ended=time.time(),
            previous=previous[1].decode() if previous else "",
        )
        return answer

    def _arrived(self, environ: dict[str, Any], body: bytes) -> dict[str, Any]:
        form = dict(parse_qs(body.decode("latin1"))) if b"Action=" in body[:4000] else {}
        action = (form.get("Action") or [environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]])[0]
        order = action in {"StartInstances", "StopInstances"}
        instances = [v[0] for k, v in form.items() if k.startswith("InstanceId")] if order else []
        call = {"at": time.time(), "action": action, "instances": instances, "status": 0, "ended": None, "previous": ""}
        with self.lock:
            self.calls.append(call)
        return call

    def _report(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        self.look()
        with self.lock:
            report = {
                "now": time.time(),
                "states": dict(self.states),
                "calls": self.calls[int(query.get("calls", ["0"])[0]) :],
                "changes": self.changes[int(query.get("changes", ["0"])[0]) :],
            }
        data = json.dumps(report).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]

    def look(self) -> None:
        """Let due transitions take effect and write down what changed."""
        with self.ordering:
            self.settle()
            found, now = list(_instances()), time.time()
        with self.lock:
            for instance, state in found:
                instance_id = instance.id
                if self.states.get(instance_id) != state:
                    before, name = self.states.get(instance_id, ""), _name(instance)
                    self.changes.append({"at": now, "instance": instance_id, "name": name, "from": before, "to": state})
                    self.states[instance_id] = state

    def watch_for_ever(self) -> None:
        """Look fifty times a second: a transition lasts longer than that, so none is missed."""
        while True:
            self.look()
            time.sleep(LOOK_SECONDS)


def _instances() -> Iterator[tuple[Any, str]]:
    from moto.ec2.models import ec2_backends

    from cloudnodes.sandbox.aws_seed import CUSTOMERS

    for account in CUSTOMERS:
        for backend in list(ec2_backends[account].values()):
            for reservation in list(backend.reservations.values()):
                for instance in list(reservation.instances):
                    yield instance, instance.state


def _name(instance: Any) -> str:
    """Asked of what has changed alone: moto goes through every tag there is."""
    return next((tag["value"] for tag in instance.get_tags() if tag["key"] == "Name"), str(instance.id))


def main() -> int:
    """Serve the sandbox with the watch around it; takes the sandbox server's own arguments and `--answer-seconds`."""
    from cloudnodes.sandbox import aws_server

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--answer-seconds", type=float, default=0.0)
    own, rest = parser.parse_known_args()
    build = aws_server.build

    def watched(**options: Any) -> tuple[Any, Any]:
        layer, sandbox = build(**options)
        watch = Watch(layer, layer.settle, own.answer_seconds)
        threading.Thread(target=watch.watch_for_ever, daemon=True, name="watch").start()
        return watch, sandbox

    aws_server.build = watched  # type: ignore[assignment]
    return aws_server.main(rest)


@dataclass(frozen=True)
class Seen:
    """What the cloud did: calls in the order of their arrival, changes of state, and how things stand."""

    now: float
    states: dict[str, str]
    calls: list[dict[str, Any]]
    changes: list[dict[str, Any]]


class WatchedCloud:
    """The watched sandbox as a child process; it outlives every Curfew that a campaign kills."""

    def __init__(self, *, transition_seconds: float = 1.0, answer_seconds: float = 0.0, seed: bool = True) -> None:
        self.answer_seconds = answer_seconds
        times = ["--transition-seconds", str(transition_seconds), "--answer-seconds", str(answer_seconds)]
        self._arguments = [*times, *(["--seed"] if seed else [])]
        self.child: Child | None = None
        self.url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-u", "-m", "tests.live.cloud", "--port", "0", *self._arguments]
        self.child = Child("cloud", command, env=clean_environment(), stdout=subprocess.PIPE)
        assert self.child.process.stdout is not None
        line = self.child.process.stdout.readline().decode().strip()
        assert line.isdigit(), f"the watched cloud did not start: {line!r}"
        self.url = f"http://127.0.0.1:{line}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.child is not None
        self.child.end()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Use one of the cloud's own addresses and return its JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def watch(self, *, calls: int = 0, changes: int = 0) -> Seen:
        """Everything from the given positions on."""
        return Seen(**self.call("GET", f"/_watch?calls={calls}&changes={changes}"))

    def keys(self, number: int = 0) -> dict[str, str]:
        """The demo keys of the n-th customer: `account_id`, `access_key_id`, `secret_access_key`, `region`."""
        found = self.call("GET", "/_sandbox/credentials")
        return {**found["accounts"][number], "region": found["region"]}

    def platform(self) -> dict[str, str]:
        """The keys of the server itself, with which it assumes roles."""
        return dict(self.call("GET", "/_sandbox/credentials")["platform"])

    def launch_role(self, external_id: str, **more: Any) -> dict[str, str]:
        """Play the customer who launches the stack; `open=True` forgets the external ID."""
        return dict(self.call("POST", "/_sandbox/role", {"external_id": external_id, **more}))

    def delete_role(self, **more: Any) -> None:
        """Play the customer who deletes the stack."""
        self.call("DELETE", "/_sandbox/role", more)

    def fail(self, action: str, **fault: Any) -> None:
        """Plan failures of an action ("*" for all): code, message, status, times, delay, body ("html", "half")."""
        self.call("POST", "/_faults", [{"action": action, **fault}])

    def heal(self) -> None:
        """Forget all planned failures."""
        self.call("DELETE", "/_faults")


if __name__ == "__main__":
    sys.exit(main())
