"""The platform's agent endpoints over HTTP, on the server's own ingest code, for tests of the agent."""

from __future__ import annotations

import datetime as dt
from typing import Any

from clusters.inventory import ingest
from clusters.inventory.model import Snapshot
from tests.fakes.server import Answer, FakeServer, Request

TOKEN = "cfa_0123456789_token-of-the-tests"


class Platform(FakeServer):
    """Holds one cluster's report. `away`: connections break without an answer. `told` is added to heartbeat answers."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.held = ingest.Held()
        self.state = ingest.State()
        self.cluster: ingest.Cluster | None = None
        self.sources: dict[str, Any] = {}
        self.samples: list[ingest.Sample] = []
        self.messages: list[ingest.Message] = []
        self.beats: list[ingest.Beat] = []
        self.verdicts: list[int] = []
        self.away = False
        self.deaf = False  # takes messages, but its answers are lost
        self.told: dict[str, Any] = {}
        self.usage_until: str | None = None

    def answer(self, request: Request) -> Answer:
        if self.away:
            raise ConnectionAbortedError("the platform is away")
        if request.headers.get("Authorization") != f"Agent {TOKEN}":
            return Answer(401, {"code": "not_signed_in"})
        if request.path == "/api/agent/cluster/heartbeat":
            return self._heartbeat(request)
        if request.path != "/api/agent/cluster/snapshot":
            return Answer(404, {"code": "not_found"})
        status, body = self._snapshot(request)
        self.verdicts.append(status)
        if self.deaf:
            raise ConnectionAbortedError("the answer is lost")
        return Answer(status, body)

    def _heartbeat(self, request: Request) -> Answer:
        now = dt.datetime.now(dt.UTC)
        beat = ingest.read_heartbeat(request.body)
        self.beats.append(beat)
        if beat.raw.get("usage_until") == "wanted":
            self.told["usage_until"] = self.usage_until
        reply = ingest.heartbeat_reply(self.held, beat, now, **self.told)
        self.held = ingest.heard(self.held, beat, now)
        self.told = {}
        return Answer(200, reply)

    def _snapshot(self, request: Request) -> tuple[int, dict[str, Any]]:
        try:
            message = ingest.read(request.body, gzip=request.headers.get("Content-Encoding") == "gzip")
        except ingest.BadMessage as bad:
            return ingest.refusal(bad)
        verdict = ingest.receive(self.held, self.state, message, dt.datetime.now(dt.UTC))
        self.held = verdict.held
        if verdict.applied:
            self.cluster, self.sources = message.cluster, message.sources
            self.messages.append(message)
            self.samples += verdict.samples
        return verdict.status, verdict.body

    def forget(self) -> None:
        """As after a restore from an old backup."""
        with self.lock:
            self.held, self.state = ingest.Held(), ingest.State()

    @property
    def snapshot(self) -> Snapshot:
        assert self.cluster is not None
        return Snapshot.from_records({"uid": self.cluster.uid}, self.state.records)
