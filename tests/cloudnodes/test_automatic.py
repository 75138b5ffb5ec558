"""Automatic off with warning and keep-alive, automatic on for workflows, runs that pay their share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from audit.models import AuditEntry
from cloudnodes import automatic, ensuring, runs, services
from cloudnodes.automatic_models import NodeActivity, WorkflowRun
from cloudnodes.ensuring import Wanted
from cloudnodes.models import CloudNode
from cloudnodes.providers import metrics
from cloudnodes.providers.base import InstanceState
from cloudnodes.providers.metrics import Reading
from core.errors import Conflict, InvalidState, QuotaExceeded
from core.providers import CapacityUnavailable
from costs import services as costs
from costs.budget_rules import Rules
from costs.models import Interval
from notifications.models import Channel, Delivery
from operations.models import Operation
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import START, Time, Worker
from tests.personas import Persona

pytestmark = pytest.mark.django_db
S = InstanceState


class Metrics:
    """What every node's metrics endpoint says; None: no answer."""

    def __init__(self) -> None:
        self.reading: Reading | None = Reading(running=0.0, done=10.0, gpu_percent=0.0)
        self.asked = 0

    def read(self, url: str, *, timeout: float = 3.0) -> Reading | None:
        self.asked += 1
        return self.reading


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    one = Metrics()
    monkeypatch.setattr(metrics, "read", one.read)
    return one


@pytest.fixture
def awake(cloud: MemoryCloud, scan: Callable, time: Time) -> CloudNode:
    """A node that answers NIM's way, up since an hour."""
    cloud.add(
        "i-1",
        S.RUNNING,
        launched_at=time.now - timedelta(hours=1),
        endpoint="http://10.0.0.1:8000",
        health_endpoint="http://10.0.0.1:8000/v1/health/ready",
    )
    return scan()[0]


def ticks(time: Time, minutes: float, step: float = 15) -> None:
    """Beat's ticks for a while."""
    for _ in range(int(minutes * 60 / step)):
        time.go(step)
        automatic.watch()


def orders(kind: str = "node.stop") -> list[Operation]:
    return list(Operation.objects.all_orgs().filter(kind=kind))


def known(node: CloudNode) -> NodeActivity:
    return NodeActivity.objects.for_org(node.organization_id).get(node=node)


def test_idle_is_warned_of_and_then_put_to_sleep_once(
    awake: CloudNode, told: Metrics, time: Time, alice: Persona, client_of: Callable[[Persona], Client]
) -> None:
    Channel.objects.for_org(alice.organization).create(
        organization=alice.organization, name="all", kind="email", addresses=["a@b.test"], created_at=time.now
    )
    automatic.set_rule(actor=alice.actor, idle_minutes=20, warn_minutes=5)
    ticks(time, 14)
    assert not Delivery.objects.for_org(alice.organization).exists()
    stops = known(awake).stops_at
    page = client_of(alice).get("/cloud-nodes/automatic").content.decode()
    assert stops is not None
    assert "1 counting down" in page
    assert "idle, asleep" in client_of(alice).get("/cloud-nodes/").content.decode()
    detail = client_of(alice).get(f"/cloud-nodes/{awake.id}/").content.decode()
    assert "Keep awake for an hour" in detail
    assert "Idle: no request, GPU at 0%" in detail
    ticks(time, 2.5)
    assert [d.event for d in Delivery.objects.for_org(alice.organization)] == ["node.idle_warning"]
    assert orders() == []
    ticks(time, 8)
    (order,) = orders()
    assert order.payload["cause"] == "idle"
    assert order.reason.startswith("Idle for 20 min: no request, GPU at 0%")
    assert abs((order.created_at - stops).total_seconds()) <= 60
    assert Delivery.objects.for_org(alice.organization).count() == 1


def test_work_silence_and_keep_alive_stay_the_hand(awake: CloudNode, told: Metrics, time: Time, alice: Persona) -> None:
    automatic.set_rule(actor=alice.actor, idle_minutes=10, warn_minutes=2)
    for n in range(20):  # a request every two minutes, each over long before the next look
        told.reading = Reading(running=0.0, done=10.0 + n, gpu_percent=0.0)
        ticks(time, 2)
    told.reading = None
    ticks(time, 30)
    assert known(awake).verdict == "unknown"
    told.reading = Reading(running=0.0, done=99.0, gpu_percent=0.0)
    ticks(time, 9)
    assert orders() == []
    automatic.keep_awake(actor=alice.actor, node_id=awake.id, minutes=60)
    ticks(time, 58)
    assert orders() == []
    ticks(time, 8)
    assert len(orders()) == 1


def test_without_a_rule_nothing_sleeps_and_a_nodes_own_rule_wins(
    awake: CloudNode, told: Metrics, time: Time, alice: Persona
) -> None:
    ticks(time, 30)
    assert orders() == []
    automatic.set_rule(actor=alice.actor, idle_minutes=1, warn_minutes=0)
    automatic.set_rule(actor=alice.actor, idle_minutes=None, node_id=awake.id)
    ticks(time, 5)
    assert orders() == []
    automatic.remove_rule(actor=alice.actor, node_id=awake.id)
    ticks(time, 1)
    assert len(orders()) == 1


def test_a_kill_at_any_point_orders_once(
    awake: CloudNode, told: Metrics, time: Time, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies right after each of its steps; the next tick goes on, and in the end there is one order."""
    automatic.set_rule(actor=alice.actor, idle_minutes=5, warn_minutes=1)
    dying = {"record_look": 7, "_warn": 1, "_stop": 1}

    def mortal(name: str) -> None:
        real = getattr(automatic, name)

        def run(*args: object, **kwargs: object) -> object:
            answer = real(*args, **kwargs)
            if dying[name]:
                dying[name] -= 1
                raise KeyboardInterrupt
            return answer

        monkeypatch.setattr(automatic, name, run)

    for name in dying:
        mortal(name)
    for _ in range(80):
        time.go(15)
        try:
            automatic.watch()
        except KeyboardInterrupt:
            continue
    assert dying == {"record_look": 0, "_warn": 0, "_stop": 0}
    assert len(orders()) == 1


def test_nodes_are_asked_as_often_however_many_workers_tick(awake: CloudNode, told: Metrics, time: Time) -> None:
    for _ in range(20):
        time.go(15)
        for _worker in range(5):
            automatic.watch()
    assert told.asked == 10  # five minutes, every thirty seconds


def test_a_workflow_wakes_the_cheapest_and_waits(
    cloud: MemoryCloud, scan: Callable, time: Time, alice: Persona, worker: Worker
) -> None:
    cloud.add("i-1", hourly_cost=Decimal(3))
    cloud.add("i-2", hourly_cost=Decimal(1))
    scan()
    wanted = Wanted(node_type="flux dev", provider="aws", workflow_id="w1")
    answers = [ensuring.ensure(actor=alice.actor, wanted=wanted) for _ in range(100)]
    assert {a.node.provider_id for a in answers} == {"i-2"}
    assert len({a.operation.id for a in answers if a.operation}) == 1
    worker.until_done()
    found = ensuring.ensure(actor=alice.actor, wanted=wanted)
    assert (found.ready, found.node.provider_id, found.chosen_because) == (True, "i-2", "it is this workflow's node")
    assert cloud.starts == {"i-2": 1}
    other = ensuring.ensure(actor=alice.actor, wanted=Wanted(node_type="FLUX Dev", workflow_id="w2"))
    assert (other.ready, other.node.provider_id) == (True, "i-2")


def test_a_failed_start_is_told_with_its_next_step_and_not_repeated(
    node: CloudNode, cloud: MemoryCloud, alice: Persona, worker: Worker, api_of: Callable[[Persona], APIClient]
) -> None:
    cloud.fail["start"] = [
        CapacityUnavailable("AWS has no g5.xlarge left in us-east-1a.", next_step="Try another zone.")
    ]
    api = api_of(alice)
    body = {"node_type": "FLUX Dev", "workflow_id": "w1"}
    assert api.post("/api/nodes/ensure", body, format="json").status_code == 202
    worker.until_done()
    answer = api.post("/api/nodes/ensure", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "node_not_started")
    assert "no g5.xlarge left" in answer.json()["detail"]
    assert answer.json()["next_step"]
    assert len(orders("node.start")) == 1
    assert api.post("/api/nodes/ensure", {**body, "retry": True}, format="json").status_code == 202
    worker.until_done()
    ready = api.post("/api/nodes/ensure", body, format="json").json()
    assert (ready["ready"], ready["node"]["status"]) == (True, "running")


def test_rules_and_budgets_may_forbid_an_automatic_start(node: CloudNode, alice: Persona, time: Time) -> None:
    automatic.set_rule(actor=alice.actor, idle_minutes=None, auto_start=False)
    with pytest.raises(InvalidState, match="Their rule forbids it"):
        ensuring.ensure(actor=alice.actor, wanted=Wanted(node_type="FLUX Dev"))
    automatic.remove_rule(actor=alice.actor)
    facts = {
        "organization_id": alice.organization.id,
        "resource_kind": "lamp",
        "resource_id": uuid4(),
        "resource_label": "",
    }
    costs.set_price(actor=alice.actor, **facts, awake=Decimal(50), asleep=None, source="t", valid_from=START)
    costs.record_event(actor=alice.actor, **facts, phase="awake", at=START, key="1", source="t")
    costs.set_budget(actor=alice.actor, amount=Decimal(10), rules=Rules(refuse_starts=True))
    time.go(3600)
    with pytest.raises(QuotaExceeded, match="is used up"):
        ensuring.ensure(actor=alice.actor, wanted=Wanted(node_type="FLUX Dev"))
    with pytest.raises(QuotaExceeded):
        services.request_start(actor=alice.actor, node_id=node.id)
    assert orders("node.start") == []
    # what costs nothing is woken all the same; of what it costs nobody knows, it is not
    for price in (None, Decimal(0)):
        CloudNode.objects.all_orgs().filter(id=node.id).update(hourly_cost=price)
        with nullcontext() if price == 0 else pytest.raises(QuotaExceeded):
            services.request_start(actor=alice.actor, node_id=node.id)
    assert len(orders("node.start")) == 1


def test_a_run_pays_its_share_and_teaches_the_estimate(
    awake: CloudNode, time: Time, alice: Persona, api_of: Callable[[Persona], APIClient]
) -> None:
    api = api_of(alice)
    estimate = {"node_type": "FLUX Dev", "provider": "aws", "params": {"steps": 20}}
    assert api.post("/budgetguard/api/cost-estimate", estimate, format="json").json()["basis"] == "no_data"
    for n, minutes in enumerate((10, 20, 60)):
        body = {"node_type": "FLUX Dev", "workflow_id": f"w{n}", "params": {"steps": 20}}
        assert api.post("/budgetguard/api/nodes/ensure", body, format="json").status_code == 200
        time.go(minutes * 60)
        ask = {"workflow_id": f"w{n}", "node_type": "FLUX Dev", "provider": "aws"}
        answer = api.post("/budgetguard/api/cost-actual", ask, format="json").json()
        assert (answer["basis"], Decimal(answer["cost"])) == ("run", Decimal("1.2") * minutes / 60)
        time.go(600)
        assert api.post("/budgetguard/api/cost-actual", ask, format="json").json()["cost"] == answer["cost"]
    found = api.post("/budgetguard/api/cost-estimate", estimate, format="json").json()
    assert (found["basis"], found["runs"], Decimal(found["cost"])) == ("earlier_runs_alike", 3, Decimal("0.4"))
    assert {k: Decimal(v) for k, v in found["range"].items()} == {"low": Decimal("0.2"), "high": Decimal("1.2")}
    assert [r["workflow_id"] for r in api.get("/api/workflow-runs").json()["results"]] == ["w2", "w1", "w0"]


def test_runs_that_nobody_ends_end_with_their_node(
    awake: CloudNode, cloud: MemoryCloud, told: Metrics, time: Time, alice: Persona
) -> None:
    runs.begin(actor=alice.actor, node=awake, workflow_id="w", ready=True)
    time.go(600)
    cloud.put("i-1", S.STOPPED)
    services.observe(node_id=awake.id, instance=cloud.describe(["i-1"])["i-1"], at=time.now)
    time.go(600)
    automatic.watch()
    run = WorkflowRun.objects.for_org(awake.organization_id).get()
    assert (run.outcome, run.ended_at, run.cost) == ("abandoned", START + timedelta(seconds=600), Decimal("0.2"))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 60)), min_size=1, max_size=6), st.decimals(0, 9, places=4)
)
def test_runs_together_cost_what_their_node_cost_while_any_ran(windows: list, price: Decimal) -> None:
    row = Interval(started_at=START, ended_at=START + timedelta(hours=3), price=price, phase="awake")
    spans: list[tuple[datetime, datetime]] = [
        (START + timedelta(minutes=a), START + timedelta(minutes=a + length)) for a, length in windows
    ]
    costs_of = [runs.cost_of(a, b, [s for j, s in enumerate(spans) if j != i], [row]) for i, (a, b) in enumerate(spans)]
    minutes = len({m for a, length in windows for m in range(a, a + length)})
    assert abs(sum(c.cost for c in costs_of) - price * minutes / 60) < Decimal("1e-15")


def test_favourites(node: CloudNode, alice: Persona, client_of: Callable[[Persona], Client]) -> None:
    client = client_of(alice)
    client.post(f"/cloud-nodes/{node.id}/favourite", {"on": "1"})
    assert "Start favourites (1)" in client.get("/cloud-nodes/automatic").content.decode()
    client.post("/cloud-nodes/favourites/start")
    assert [o.resource_id for o in orders("node.start")] == [node.id]
    assert client.post(f"/cloud-nodes/{node.id}/favourite", {"on": "0", "next": "//evil.test"})["Location"].startswith(
        "/cloud"
    )


def test_rules_are_saved_on_the_page_and_audited(
    node: CloudNode, alice: Persona, client_of: Callable[[Persona], Client]
) -> None:
    client = client_of(alice)
    assert client.post("/cloud-nodes/automatic", {"idle_minutes": "30", "auto_start": "on"}).status_code == 302
    assert client.post("/cloud-nodes/automatic", {"target": f"node:{node.id}", "idle_minutes": ""}).status_code == 302
    page = client.get("/cloud-nodes/automatic").content.decode()
    assert 'never <span class="dim">(its own)' in page
    assert client.post("/cloud-nodes/automatic", {"idle_minutes": "0"}).status_code == 422
    assert client.post("/cloud-nodes/automatic", {"target": "node:x", "idle_minutes": "5"}).status_code == 422
    lines = AuditEntry.objects.for_org(alice.organization).filter(verb="node.rule_changed")
    assert lines.count() == 2


def test_the_page_does_not_promise_sleep_to_a_node_that_tells_nothing(
    awake: CloudNode, told: Metrics, time: Time, alice: Persona, client_of: Callable[[Persona], Client]
) -> None:
    client = client_of(alice)
    automatic.set_rule(actor=alice.actor, idle_minutes=30, warn_minutes=5, auto_start=True)
    CloudNode.objects.all_orgs().filter(id=awake.id).update(tags={}, health_endpoint="")
    assert "never while it tells nothing" in client.get("/cloud-nodes/automatic").content.decode()
    # its cloud tells for it
    row = automatic.activity_row(awake)
    row.verdict, row.why, row.sampled_at = "busy", "its machine used 80% of a processor", time.now
    row.save()
    page = client.get("/cloud-nodes/automatic").content.decode()
    assert "its machine used 80% of a processor" in page
    assert "never while it tells nothing" not in page
    assert "1 tells nothing" not in page


def test_a_nodes_page_has_its_rule_its_mark_and_what_a_run_would_cost(
    node: CloudNode, alice: Persona, bob: Persona, time: Time, client_of: Callable[[Persona], Client]
) -> None:
    client, url = client_of(alice), f"/cloud-nodes/{node.id}/"
    page = client.get(url).content.decode()
    assert "never asleep by itself" in page
    assert "no data yet" in page
    automatic.set_rule(actor=alice.actor, idle_minutes=30, warn_minutes=5, auto_start=False, node_id=node.id)
    assert client.post(f"/cloud-nodes/{node.id}/favourite", {"on": "1", "next": url})["Location"] == url
    for minutes in (30, 60, 90):
        WorkflowRun.objects.for_org(alice.organization).create(
            organization=alice.organization,
            workflow_id=f"w{minutes}",
            node=node,
            resource_id=node.id,
            type_slug=node.node_type.slug,
            provider=node.provider,
            gpu_tier=node.gpu_tier,
            person="Ann",
            asked_at=time.now,
            started_at=time.now - timedelta(minutes=minutes),
            ended_at=time.now,
            outcome="done",
        )
    page = client.get(url).content.decode()
    assert "asleep after 30 idle min, no workflow may wake it" in page
    assert f"?edit=node:{node.id}#rule" in page
    assert 'aria-pressed="true"' in page
    assert "$1.20" in page
    assert "the median of 3 earlier runs, from $0.60 to $1.80" in page
    assert f"?edit=node:{node.id}#rule" not in client_of(bob).get(url).content.decode()


def test_a_node_that_is_being_put_to_sleep_is_a_conflict(awake: CloudNode, alice: Persona) -> None:
    services.request_stop(actor=alice.actor, node_id=awake.id)
    with pytest.raises(Conflict):
        ensuring.ensure(actor=alice.actor, wanted=Wanted(node_type="FLUX Dev"))
