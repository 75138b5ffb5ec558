"""Learning from the cloud's own log who changed a node outside; idleness by the cloud's own figures of a machine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.models import CloudAccount
from audit.models import AuditEntry
from cloudnodes import attribution, automatic, services
from cloudnodes.automatic_models import NodeActivity
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import InstanceState
from cloudnodes.providers.load import Load, Switched
from core.providers import PermissionDenied, ProviderError
from operations.models import Operation
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import START, Time
from tests.personas import Persona

pytestmark = pytest.mark.django_db
S = InstanceState


class Log:
    """What the cloud's log says from the n-th question on."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent = 0
        self.error: ProviderError | None = None

    def who_switched(self, provider_id: str, *, how: str, since: datetime, until: datetime) -> Switched | None:
        self.asked.append(how)
        if self.error is not None:
            raise self.error
        return None if len(self.asked) <= self.silent else Switched("user bob", "StopInstances", until)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    one = Log()
    monkeypatch.setattr(MemoryCloud, "lacks_to_tell", lambda self: [], raising=False)
    monkeypatch.setattr(MemoryCloud, "who_switched", lambda self, *a, **k: one.who_switched(*a, **k), raising=False)
    return one


@pytest.fixture
def stopped(cloud: MemoryCloud, scan: Callable, time: Time) -> CloudNode:
    """A node that somebody has just stopped in the console."""
    cloud.add("i-1", S.RUNNING, launched_at=time.now - timedelta(hours=1))
    node = scan()[0]
    time.go(60)
    cloud.put("i-1", S.STOPPED, launched_at=None)
    services.observe(node_id=node.id, instance=cloud.describe(["i-1"])["i-1"], at=time.now)
    return node


def minutes(time: Time, count: int) -> None:
    for _ in range(count):
        time.go(60)
        attribution.attribute_due()


def learned(node: CloudNode) -> list[AuditEntry]:
    return list(AuditEntry.objects.for_org(node.organization_id).filter(verb=attribution.ATTRIBUTED))


def test_it_is_asked_until_the_log_knows_and_written_once(
    stopped: CloudNode, log: Log, time: Time, alice: Persona, client_of: Callable[[Persona], Client]
) -> None:
    log.silent = 2
    minutes(time, 60)
    assert log.asked == ["stop"] * 3  # after 1, 5 and 10 minutes
    (entry,) = learned(stopped)
    assert entry.changes["by"] == [None, "user bob"]
    stopped.refresh_from_db()
    assert stopped.cause_label == "Stopped outside Curfew by user bob"
    assert "By user bob, StopInstances at" in client_of(alice).get("/cloud-nodes/drift").content.decode()


def test_a_log_that_stays_silent_is_given_up(stopped: CloudNode, log: Log, time: Time) -> None:
    log.silent = 99
    minutes(time, 120)
    assert len(log.asked) == len(attribution.ASKED_AT)
    assert learned(stopped) == []


def test_without_the_right_nothing_breaks(stopped: CloudNode, log: Log, time: Time) -> None:
    log.error = PermissionDenied("no")
    minutes(time, 3)
    assert learned(stopped) == []


def test_the_page_names_the_missing_right_and_what_grants_it(
    stopped: CloudNode,
    log: Log,
    alice: Persona,
    bob: Persona,
    client_of: Callable[[Persona], Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing: list[str] = ["cloudtrail:LookupEvents"]
    monkeypatch.setattr(MemoryCloud, "lacks_to_tell", lambda self: missing, raising=False)
    client = client_of(alice)
    assert 'hx-get="/cloud-nodes/drift/untold"' in client.get("/cloud-nodes/drift").content.decode()
    words = client.get("/cloud-nodes/drift/untold").content.decode()
    assert "cloudtrail:LookupEvents" in words
    assert "user whose keys are connected" in words
    CloudAccount.objects.for_org(alice.organization).update(method="role")
    assert "TellWho = yes" in client.get("/cloud-nodes/drift/untold").content.decode()
    assert client_of(bob).get("/cloud-nodes/drift/untold").status_code == 403
    cache.clear()
    missing.clear()
    assert client.get("/cloud-nodes/drift/untold").content.decode().strip() == ""


def test_two_workers_learn_it_once(stopped: CloudNode, log: Log, time: Time) -> None:
    time.go(61)
    (change,) = attribution._due(time.now)
    assert [attribution._attribute(change), attribution._attribute(change)] == [True, False]
    assert len(learned(stopped)) == 1


class Machine:
    """What the cloud tells of the machine."""

    def __init__(self) -> None:
        self.told: Load | ProviderError | None = Load(3.0, 800.0, START)
        self.asked = 0

    def load(self, provider_id: str, *, instance_type: str, now: datetime) -> Load | None:
        self.asked += 1
        if isinstance(self.told, ProviderError):
            raise self.told
        return self.told


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    one = Machine()
    monkeypatch.setattr(MemoryCloud, "load", lambda self, *a, **k: one.load(*a, **k), raising=False)
    return one


@pytest.fixture
def mute(cloud: MemoryCloud, scan: Callable, time: Time) -> CloudNode:
    """A running node without any metrics of its own."""
    cloud.add("i-1", S.RUNNING, launched_at=time.now - timedelta(hours=1))
    return scan()[0]


def watch(time: Time, minutes: float) -> None:
    for _ in range(int(minutes * 4)):
        time.go(15)
        automatic.watch()


def stops() -> int:
    return Operation.objects.all_orgs().filter(kind="node.stop").count()


def test_a_mute_node_is_judged_by_its_clouds_figures(
    mute: CloudNode, machine: Machine, time: Time, alice: Persona
) -> None:
    watch(time, 5)
    assert machine.asked == 0, "without a rule nobody needs it, and it costs money"
    automatic.set_rule(actor=alice.actor, idle_minutes=30, warn_minutes=5)
    watch(time, 29)
    assert stops() == 0
    assert 10 <= machine.asked <= 13, "not at every look"
    row = NodeActivity.objects.for_org(mute.organization_id).get(node=mute)
    assert (row.verdict, row.why) == ("idle", "its machine at 3% of a processor and 1 kB/s of network")
    watch(time, 4)
    assert stops() == 1


@pytest.mark.parametrize(
    "told",
    [None, PermissionDenied("no"), Load(110.0, 0.0, START), Load(0.0, 9e6, START)],
    ids=["silent", "refused", "computes", "serves"],
)
def test_whatever_is_not_proven_idle_stays_awake(
    mute: CloudNode, machine: Machine, time: Time, alice: Persona, told: Load | ProviderError | None
) -> None:
    machine.told = told
    automatic.set_rule(actor=alice.actor, idle_minutes=10, warn_minutes=2)
    watch(time, 60)
    assert stops() == 0
    if isinstance(told, PermissionDenied):
        assert machine.asked <= 5
