"""What each answer of the platform makes the sender do next, and how long it waits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.cluster.heartbeat import Heartbeat
from agent.cluster.outbox import Outbox, Samples
from agent.cluster.sender import Pace, Sender
from agent.cluster.store import Store
from agent.transport import Reply, Unreachable
from agent.wire.message import decode
from agent.wire.resources import RESOURCES
from tests.fakes import kube_objects as make

pytestmark = pytest.mark.unit
NODES = next(r for r in RESOURCES if r.name == "nodes")


class Script:
    """A transport that answers from a list and keeps what was sent."""

    def __init__(self, *answers: tuple[int, dict[str, Any]] | Exception) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []

    def request(self, method: str, path: str, *, body: bytes = b"", content: Any = None, **more: Any) -> Reply:
        self.bodies.append(body or json.dumps(content).encode())
        answer = self.answers.pop(0) if self.answers else (200, {})
        if isinstance(answer, Exception):
            raise answer
        status, told = answer
        return Reply(status, {"retry-after": str(told.pop("retry_after", 0))}, json.dumps(told).encode())


def sender(*answers: tuple[int, dict[str, Any]] | Exception, ready: bool = True) -> tuple[Sender, Script, Store]:
    store = Store()
    store.put(NODES, make.node("n1"))
    outbox = Outbox(store, Samples(), lambda: {"cluster": {"uid": "u"}})
    script = Script(*answers)
    return Sender(outbox, script, Pace(), lambda: ready), script, store  # type: ignore[arg-type]


def kinds(script: Script) -> list[tuple[str, int]]:
    return [(m.kind, m.sequence) for m in map(decode, script.bodies)]


def test_nothing_is_sent_before_the_picture_is_complete() -> None:
    made, script, _ = sender(ready=False)
    assert made.step() == 1.0
    assert script.bodies == []


def test_nothing_new_nothing_sent() -> None:
    made, script, store = sender()
    made.step()
    assert 9 <= made.step() <= 11
    assert kinds(script) == [("full", 1)]
    store.put(NODES, make.node("n2"))
    made.step()
    assert kinds(script) == [("full", 1), ("delta", 2)]


@pytest.mark.parametrize(
    "problem",
    [Unreachable("gone"), (500, {}), (502, {}), (503, {}), (429, {}), (401, {}), (403, {}), (404, {}), (400, {})],
)
def test_the_same_message_is_repeated(problem: Any) -> None:
    made, script, _ = sender(problem)
    wait = made.step()
    made.step()
    assert script.bodies[0] == script.bodies[1]
    assert wait >= 0.5


def test_the_platform_decides_how_long_to_wait() -> None:
    made, _, _ = sender((429, {"retry_after": 17}), (503, {"retry_after": 41}), (401, {}))
    assert made.step() >= 17
    assert made.step() >= 41
    assert made.step() >= 60


def test_waits_do_not_exceed_half_a_minute_by_themselves() -> None:
    made, _, _ = sender(*[Unreachable("gone")] * 12)
    waits = [made.step() for _ in range(12)]
    assert max(waits) <= 30
    assert waits[-1] >= 15


def test_twice_unreadable_is_sent_whole() -> None:
    made, script, store = sender()
    made.step()
    script.answers = [(400, {"code": "malformed"}), (400, {"code": "malformed"})]
    store.put(NODES, make.node("n2"))
    for _ in range(3):
        made.step()
    assert kinds(script) == [("full", 1), ("delta", 2), ("delta", 2), ("full", 3)]


@pytest.mark.parametrize("code", ["resync_required", "anything"])
def test_a_conflict_is_answered_with_everything(code: str) -> None:
    made, script, store = sender()
    made.step()
    script.answers = [(409, {"code": code})]
    store.put(NODES, make.node("n2"))
    assert made.step() == 0.0
    made.step()
    assert kinds(script) == [("full", 1), ("delta", 2), ("full", 3)]
    assert set(decode(script.bodies[-1]).records["nodes"]) == {"n1", "n2"}


def test_a_platform_that_always_wants_everything_is_not_hammered() -> None:
    made, script, _ = sender(*[(409, {"code": "resync_required"})] * 6)
    waits = [made.step() for _ in range(6)]
    assert sum(waits) > 3, waits
    assert len(script.bodies) == 6


def test_deltas_that_are_refused_again_and_again_are_paced() -> None:
    """Each full snapshot is taken, each delta after it refused: without a pause, everything would go out every time."""
    made, script, store = sender()
    made.step()
    waits = []
    for number in range(6):
        store.put(NODES, make.node(f"x{number}"))
        script.answers = [(409, {"code": "resync_required"}), (200, {})]
        waits.append(made.step())
        made.step()
    assert waits[0] == 0.0
    assert all(wait >= 2.5 for wait in waits[1:])
    assert waits[-1] > 30
    assert made.figures.last_problem == ""
    store.put(NODES, make.node("calm"))
    made.step()
    store.put(NODES, make.node("later"))
    script.answers = [(409, {"code": "resync_required"})]
    assert made.step() == 0.0, "a delta that was taken ends it"


def test_too_large_leaves_the_samples_out() -> None:
    made, script, _ = sender((413, {}))
    from agent.cluster.metrics import SampleWriter
    from tests.agent.test_delivery import NOW

    made.outbox._samples.push(SampleWriter(NOW).done())
    assert made.step() >= 60
    made.step()
    assert [len(decode(b).samples) for b in script.bodies] == [1, 0]


def test_another_format_waits_for_an_update() -> None:
    made, _, _ = sender((415, {"code": "unsupported_format"}))
    assert made.step() >= 600
    assert "update" in made.figures.last_problem


def test_standing_by_and_taking_over() -> None:
    made, script, store = sender((409, {"code": "superseded"}))
    made.step()
    assert made.figures.standby
    store.put(NODES, make.node("n2"))
    made.step()
    assert len(script.bodies) == 1, "an agent that stands by sends no snapshots"
    beat, told = _heartbeat(made, store, (200, {"standby": True}), (200, {"standby": False}))
    beat.beat()
    assert made.figures.standby
    beat.beat()
    assert not made.figures.standby
    made.step()
    assert kinds(script)[-1][0] == "full"
    assert json.loads(told.bodies[0])["delivery"]["standby"] is True


class NoOrders:
    busy = False

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.told_count = 0

    def able(self) -> dict[str, Any]:
        return {"allowed": False, "verbs": []}

    def results(self) -> list[dict[str, str]]:
        return [{"id": "1", "status": "refused", "detail": "", "at": ""}]

    def told(self, count: int) -> None:
        self.told_count += count

    def take(self, raw: Any) -> None:
        self.taken.append(raw)


class NoRules:
    def report(self) -> dict[str, Any]:
        return {}

    def take(self, raw: Any) -> None:
        assert raw is None


def _heartbeat(made: Sender, store: Store, *answers: Any) -> tuple[Heartbeat, Script]:
    script = Script(*answers)
    facts = {"cluster": {"uid": "u"}, "api_server": {"reachable": True}}
    return Heartbeat(script, store, Samples(), made, NoOrders(), NoRules(), lambda: dict(facts)), script  # type: ignore[arg-type]


def test_a_heartbeat_obeys_and_reports() -> None:
    made, script, store = sender()
    made.step()
    beat, told = _heartbeat(
        made,
        store,
        (200, {"resync": True, "intervals": {"heartbeat": 30, "snapshot": 0.1, "usage": "x"}, "orders": ["o"]}),
    )
    assert 28 <= beat.beat() <= 32
    assert (made.pace.heartbeat, made.pace.snapshot, made.pace.usage) == (30.0, 1.0, 60.0)
    made.step()
    assert kinds(script) == [("full", 1), ("full", 2)]
    body = json.loads(told.bodies[0])
    assert (body["sequence"], body["digest"]) == (1, store.digest)
    assert body["counts"] == {"nodes": 1}
    assert body["agent"]["memory_bytes"] > 1_000_000
    orders = beat._orders
    assert isinstance(orders, NoOrders)
    assert (orders.taken, orders.told_count) == ([["o"]], 1)


def test_a_resync_asked_before_the_last_message_arrived_is_moot() -> None:
    made, script, store = sender()
    beat, _ = _heartbeat(made, store, (200, {"resync": True}))
    beat.beat()  # nothing acknowledged yet: the first message is whole anyway
    made.step()
    made.step()
    assert kinds(script) == [("full", 1)]


@pytest.mark.parametrize("answer", [Unreachable("gone"), (500, {}), (401, {})])
def test_a_missed_heartbeat_is_tried_again_in_time(answer: Any) -> None:
    made, _, store = sender()
    beat, _ = _heartbeat(made, store, answer, (429, {"retry_after": 90}))
    assert 12 <= beat.beat() <= 18
    assert beat.failing
    assert beat.beat() >= 90
    orders = beat._orders
    assert isinstance(orders, NoOrders)
    assert orders.told_count == 0, "results are told again"
