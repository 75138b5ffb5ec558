"""Cloud nodes as Sleepables, scans as the discoverer does them, and the menu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import CloudAccount
from audit import verbs
from cloudnodes import discovery, services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import InstanceState, Scaling
from core import discovery as scans
from core import menu, periodic, sleepable
from core.errors import NotFound
from operations.models import Operation
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import Time, Worker, nodes_of
from tests.cloudnodes.test_observe import fresh
from tests.personas import Persona

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
S = InstanceState


def test_views(cloud: MemoryCloud, scan: Callable, olga: Persona, mallory: Persona) -> None:
    cloud.add("i-1", S.RUNNING, tags={"curfew:owner": "mina", "Team": "lookdev"})
    cloud.add("i-2", S.RUNNING, scaling=Scaling.TO_ZERO)
    one, two = scan()
    kind = sleepable.kind_named("cloud_node")
    with CaptureQueriesContext(connection) as seen:
        first, second = kind.list(olga.actor)
    assert len(seen) == 3
    assert (first.id, first.name, first.state, first.hourly_cost, first.owner, first.url, first.protections) == (
        one.id,
        "FLUX Dev on AWS",
        "awake",
        Decimal("1.2"),
        "mina",
        f"/cloud-nodes/{one.id}/",
        (),
    )
    assert first.detail == "A10G · g5.xlarge · us-east-1"
    assert (second.state, second.protections) == ("unmanaged", ("scales to zero by itself",))
    assert kind.list(mallory.actor) == []
    assert kind.list(olga.actor, [two.id]) == [second]
    assert kind.list(replace(olga.actor, permissions=frozenset())) == []
    with pytest.raises(NotFound):
        sleepable.get(mallory.actor, "cloud_node", one.id)


def test_requests_carry_cause_and_key(
    node: CloudNode, olga: Persona, worker: Worker, cloud: MemoryCloud, time: Time
) -> None:
    kind = sleepable.kind_named("cloud_node")
    first = kind.request_wake(
        olga.actor, node.id, reason="Morning", options={"cause": "schedule", "idempotency_key": "mon-0900", "else": 1}
    )
    assert kind.request_wake(olga.actor, node.id, reason="Morning", options={"idempotency_key": "mon-0900"}) == first
    worker.until_done()
    assert (fresh(node).cause, fresh(node).cause_label) == ("schedule", "Woken by Olga: Morning")
    time.go(60)
    kind.request_sleep(olga.actor, node.id, reason="Evening", options={"cause": "schedule"})
    worker.until_done()
    from costs.models import Interval

    assert Interval.objects.all_orgs().get(ended_at=None).cause == "schedule"


def test_discoverer(account: CloudAccount, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch, time: Time) -> None:
    asked: list[str] = []

    def provider_for(connection: object, region: str = "") -> MemoryCloud:
        asked.append(region)
        return cloud

    monkeypatch.setattr(discovery, "provider_for", provider_for)
    assert discovery.NODES in scans.for_provider("docker")
    cloud.add("i-1")
    cloud.add("i-2", node_type="")
    assert discovery.discover(account, object()) == {"cloud_nodes": 1, "new_cloud_nodes": 1}
    account.settings = {"regions": ["eu-west-1", "us-east-1"]}
    asked.clear()
    time.go(60)
    assert discovery.discover(account, object()) == {"cloud_nodes": 2, "new_cloud_nodes": 0}
    assert asked == ["us-east-1", "eu-west-1"]


def test_scan_asks_for_what_it_did_not_find(
    account: CloudAccount, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    monkeypatch.setattr(discovery, "provider_for", lambda connection, region="": cloud)
    cloud.add("i-1")
    cloud.add("i-2")
    discovery.discover(account, object())
    time.go(60)
    cloud.put("i-1", S.STOPPED, node_type="")  # its tag was removed
    cloud.machines.pop("i-2")
    for _ in range(2):
        time.go(60)
        discovery.discover(account, object())
    one, two = nodes_of(account)
    assert (one.observed_state, one.managed, one.gone_at) == ("unmanaged", False, None)
    assert two.gone_at is not None


def test_registered_parts(olga: Persona) -> None:
    assert [e["url"] for e in menu.side_menu(olga.actor, "/cloud-nodes/dialog") if e["current"]] == ["/cloud-nodes/"]
    tasks = {p.task: p.seconds for p in periodic.all_tasks()}
    assert (tasks["cloudnodes.poll"], tasks["cloudnodes.reprice"]) == (2, 3600)
    mine = {v.name for v in verbs.all_verbs() if v.name.startswith("node.")}
    assert {
        "node.wake_requested",
        "node.sleep_requested",
        "node.woke",
        "node.fell_asleep",
        "node.changed_outside",
        "node.gone",
    } <= mine


def test_blast_radius_of_a_disconnect_names_the_nodes(
    cloud: MemoryCloud, scan: Callable, account: CloudAccount, alice: Persona
) -> None:
    from accounts import services as accounts

    cloud.add("i-1", S.RUNNING)
    cloud.add("i-2")
    scan()
    services.request_start(actor=alice.actor, provider="aws", instance_name="i-2")
    words = accounts.disconnect_effects(actor=alice.actor, account=account)
    assert "2 cloud nodes leave Curfew; 1 of them is on now and stays on, at $1.20 an hour." in words
    assert "1 operation under way on them ends without its result being known." in words
    assert Operation.objects.all_orgs().count() == 1
