"""The outbox under `kill -9` in the middle of a send: nothing is lost, and what comes twice has the same id."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import prepared
from tests.live.nursery import Nursery

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]
MESSAGES = 6


class Receiver:
    """Takes messages; `held` is set when one has arrived and its sender waits for the answer until `let_go`."""

    def __init__(self, hold: set[int]) -> None:
        self.ids: list[str] = []
        self.held, self.let_go = threading.Event(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["Curfew-Id"] == body["id"]
                outer.ids.append(body["id"])
                if len(outer.ids) in hold:
                    outer.held.set()
                    outer.let_go.wait(60)
                    return
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(hold={2, 5})
    yield made
    made.let_go.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    prepared.put_into(tmp_path)
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    environment = {
        **kept,
        "CURFEW_DATA": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "CURFEW_OUTBOUND_NETWORKS": "127.0.0.1/32",
    }
    with Nursery("tests.notifications.sender", environment) as made:
        yield made


def test_two_senders_are_killed_with_a_message_in_their_hands(nursery: Nursery, receiver: Receiver) -> None:
    out, err = nursery.start("prepare", receiver.url, str(MESSAGES)).communicate()
    assert out, err
    ids = json.loads(out.strip().splitlines()[-1])
    for _ in range(2):
        sender = nursery.start("deliver")
        assert receiver.held.wait(120)
        sender.kill9()
        receiver.held.clear()
    last = nursery.start("deliver")
    last.communicate(timeout=120)
    assert last.returncode == 0
    arrived = Counter(receiver.ids)
    assert set(arrived) == set(ids)
    assert sorted(arrived.values()) == [1] * (MESSAGES - 2) + [2, 2]  # twice only what a kill held, under the same id
