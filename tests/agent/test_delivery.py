"""Whatever happens to a cluster and to messages on their way: the platform ends with the cluster's state, each sample once."""

from __future__ import annotations

import copy
import datetime as dt
import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cluster.metrics import SampleWriter
from agent.cluster.outbox import Outbox, Parcel, Samples
from agent.cluster.sender import Pace, Sender
from agent.cluster.store import Store
from agent.transport import Reply, Unreachable
from agent.wire.codec import to_wire
from agent.wire.delta import digest_of
from agent.wire.model import Cluster
from agent.wire.resources import RESOURCES
from clusters.inventory import ingest
from clusters.inventory.model import Snapshot
from tests.fakes import kube_objects as make

pytestmark = pytest.mark.unit
BY_NAME = {r.name: r for r in RESOURCES}
NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


class World:
    """A cluster's objects, the agent's store and outbox, and the platform's held state, without HTTP."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.time = 0.0
        self.store, self.samples = Store(), Samples()
        self.outbox = Outbox(self.store, self.samples, self.head, clock=lambda: self.time)
        self.held, self.state = ingest.Held(), ingest.State()
        self.received: list[ingest.Sample] = []
        self.pushed = 0
        self.sent: list[bytes] = []
        for obj in make.cluster(nodes=3, pods=8, seed=seed, usage=False):
            self.put(obj)

    def head(self) -> dict[str, Any]:
        return {"cluster": to_wire(Cluster("uid-1")), "sources": self.store.sources()}

    def resource(self, obj: dict[str, Any]) -> Any:
        plural = {"NodePool": "nodepools", "Namespace": "namespaces"}.get(obj["kind"], obj["kind"].lower() + "s")
        return BY_NAME[plural]

    def put(self, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        self.objects[obj["kind"], f"{metadata.get('namespace', '')}/{metadata['name']}"] = obj
        self.store.put(self.resource(obj), obj)

    def change(self) -> None:
        """Do something to the cluster."""
        kind, key = self.rng.choice(sorted(self.objects)) if self.objects else ("", "")
        deed = self.rng.randrange(6)
        if deed == 0 or not kind:
            self.put(make.pod(f"new-{self.rng.randrange(10)}", "team-0", node_name="n"))
        elif deed == 1:
            self.store.remove(self.resource(self.objects[kind, key]), self.objects.pop((kind, key)))
        elif deed == 2:
            self.put(make.deployment(f"app-{self.rng.randrange(5)}", "team-0", replicas=self.rng.randrange(3)))
        elif deed == 3:  # a list after a gap: some objects are gone without an event
            self.relist(kind)
        else:
            obj = copy.deepcopy(self.objects[kind, key])
            obj["metadata"].setdefault("labels", {})["touched"] = str(self.rng.randrange(3))
            self.put(obj)

    def relist(self, kind: str) -> None:
        mine = [place for place in sorted(self.objects) if place[0] == kind]
        resource = self.resource(self.objects[mine[0]])
        for place in mine:
            if self.rng.random() < 0.3:
                del self.objects[place]
        kept = [obj for place, obj in sorted(self.objects.items()) if place[0] == kind]
        self.store.retain(resource, {self.store.put(resource, obj) for obj in kept})

    def measure(self) -> None:
        writer = SampleWriter(NOW + dt.timedelta(seconds=self.pushed))
        writer.begin("nodes")
        writer.entry("n", [self.pushed, 1])
        writer.end()
        self.samples.push(writer.done())
        self.pushed += 1

    def receive(self, body: bytes) -> int:
        try:
            message = ingest.read(body)
        except ingest.BadMessage as bad:
            return ingest.refusal(bad)[0]
        verdict = ingest.receive(self.held, self.state, message, NOW)
        self.held = verdict.held
        if verdict.applied:
            self.received += verdict.samples
        return verdict.status

    def deliver(self, fate: str) -> None:
        """Send what the outbox has, and let it meet its fate."""
        parcel = self.outbox.next()
        if parcel is None:
            return
        self.sent.append(parcel.body)
        if fate == "lost":
            return
        if fate == "late" and len(self.sent) > 1:
            self.receive(self.rng.choice(self.sent[:-1]))  # an old message arrives first
        if fate == "cut off":
            assert self.receive(parcel.body[: self.rng.randrange(len(parcel.body))]) == 400
            return
        status = self.receive(parcel.body)
        if fate == "twice":
            assert self.receive(parcel.body) == (200 if status == 200 else status)
        if fate == "unanswered":
            return
        self._tell(status)

    def _tell(self, status: int) -> None:
        if status == 200:
            self.outbox.accepted()
        else:
            assert status == 409
            self.outbox.refused()

    def settle(self) -> None:
        for _ in range(30):
            if self.outbox.next() is None:
                return
            self.deliver("arrives")
        raise AssertionError("the two never came to an agreement")

    def truth(self) -> dict[str, dict[str, Any]]:
        fresh = Store()
        for obj in self.objects.values():
            fresh.put(self.resource(obj), obj)
        return {c: {k: json.loads(text) for k, text in table} for c, table in fresh.cut(full=True).set.items()}


FATES = st.sampled_from(["arrives", "arrives", "arrives", "lost", "unanswered", "twice", "late", "cut off"])
DEEDS = st.sampled_from(["change", "change", "change", "measure", "send", "send", "wait", "forget", "heartbeat"])


@given(
    seed=st.integers(0, 50), may_forget=st.booleans(), deeds=st.lists(st.tuples(DEEDS, FATES), min_size=25, max_size=60)
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_platform_equals_cluster_whatever_happens(seed: int, may_forget: bool, deeds: list[tuple[str, str]]) -> None:
    world = World(seed)
    forgot = False
    for deed, fate in deeds:
        if deed == "change":
            world.change()
        elif deed == "measure":
            world.measure()
        elif deed == "send":
            world.deliver(fate)
        elif deed == "wait":
            world.time += 301
        elif deed == "forget" and may_forget:
            world.held, world.state, forgot = ingest.Held(), ingest.State(), True
        else:
            _heartbeat(world)
    _heartbeat(world)
    world.settle()
    _heartbeat(world)
    world.settle()
    assert world.state.records == world.truth()
    assert world.state.digest == world.store.digest == digest_of(world.truth()) == world.held.digest
    numbers = [sample.number for sample in world.received]
    if forgot:  # the platform lost its memory of samples, so repeats of unanswered ones are its own doing
        assert set(numbers) == set(range(1, world.pushed + 1))
    else:
        assert numbers == list(range(1, world.pushed + 1)), "every sample, once, in order"
    snapshot = Snapshot.from_records({"uid": "uid-1"}, world.state.records)
    assert all(pod.spec in snapshot.specs for pod in snapshot.pods.values()), "no pod without its spec"
    used = {pod.spec for pod in snapshot.pods.values()} | {w.template for w in snapshot.workloads.values()}
    assert set(snapshot.specs) <= used, "no spec that nobody uses"


def _heartbeat(world: World) -> None:
    sequence, digest = world.outbox.acknowledged
    body = {"format": 1, "session": world.outbox.session, "sequence": sequence, "digest": digest, "at": NOW.isoformat()}
    reply = ingest.heartbeat_reply(world.held, ingest.read_heartbeat(json.dumps(body).encode()), NOW)
    if reply["resync"]:
        world.outbox.ask_full()


class Line:
    """Stands for the transport: connects the sender to the world, or is down."""

    def __init__(self, world: World) -> None:
        self.world, self.up = world, True
        self.attempts = 0

    def request(self, method: str, path: str, *, body: bytes, **more: Any) -> Reply:
        self.attempts += 1
        if not self.up:
            raise Unreachable("no route")
        status = self.world.receive(body)
        return Reply(status, {}, b'{"code": "resync_required"}' if status == 409 else b"{}")


def test_five_minutes_without_the_platform() -> None:
    world = World(3)
    line = Line(world)
    sender = Sender(world.outbox, line, Pace(), lambda: True)  # type: ignore[arg-type]
    sender.step()
    assert world.state.records == world.truth()
    line.up = False
    until = world.time + 320
    minute = 0.0
    while world.time < until:
        world.change()
        if world.time >= minute:
            world.measure()
            minute += 60
        world.time += sender.step()
    assert 10 <= line.attempts <= 60, "it backs off, and does not give up"
    line.up = True
    fulls = sender.figures.fulls
    sender.step()
    assert sender.figures.fulls == fulls + 1, "after five minutes the whole state is sent"
    while world.outbox.next() is not None:
        sender.step()
    assert world.state.records == world.truth()
    assert [s.number for s in world.received] == list(range(1, world.pushed + 1))


def test_a_long_absence_loses_the_oldest_samples_only() -> None:
    world = World(4)
    world.deliver("arrives")
    for _ in range(200):
        world.measure()
    world.settle()
    assert [s.number for s in world.received] == list(range(141, 201))
    assert world.samples.dropped == 140
    assert world.state.records == world.truth()


def test_samples_are_bounded_in_bytes() -> None:
    samples = Samples(most=1000, size=10_000)
    for _ in range(100):
        samples.push(b"x" * 900)
    assert len(samples) == 11
    assert samples.dropped == 89


def test_an_agent_that_starts_anew_replaces_its_session() -> None:
    world = World(5)
    world.deliver("arrives")
    old = world.outbox.session
    world.outbox = Outbox(world.store, world.samples, world.head, clock=lambda: world.time)
    world.change()
    world.settle()
    assert world.held.session == world.outbox.session != old
    assert world.held.former == (old,)
    assert world.state.records == world.truth()


def test_a_message_of_the_session_before_is_refused_while_the_new_one_lives() -> None:
    world = World(6)
    parcel: Parcel | None = world.outbox.next()
    assert parcel is not None
    late = parcel.body
    world.deliver("arrives")
    world.outbox = Outbox(world.store, world.samples, world.head, clock=lambda: world.time)
    world.settle()
    records = copy.deepcopy(world.state.records)
    verdict = ingest.receive(world.held, world.state, ingest.read(late), NOW)
    assert (verdict.status, verdict.body["code"]) == (409, "superseded")
    assert world.state.records == records
    much_later = NOW + dt.timedelta(seconds=46)
    verdict = ingest.receive(world.held, world.state, ingest.read(late), much_later)
    assert verdict.status == 200, "when the new one is silent, the old one may take over"
