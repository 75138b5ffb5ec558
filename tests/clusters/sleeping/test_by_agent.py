"""A cluster that is reached by its agent alone: the same night, the same crashes, through signed orders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from accounts import selectors as accounts
from clusters import services as cluster_services
from clusters.enums import State
from clusters.models import Cluster
from clusters.orders.kube import AgentKube
from clusters.orders.models import AgentOrder
from clusters.sleeping import executors, gateway, hands, services
from clusters.sleeping.sleepable import state_of
from core import clock
from core.errors import InvalidInput
from core.sleepable import SleepState
from operations import runner
from operations.models import Operation
from tests.clusters.sleeping import fleet
from tests.clusters.sleeping.aws import MotoCloud
from tests.clusters.sleeping.by_agent import UID, Agent
from tests.clusters.sleeping.conftest import ended
from tests.clusters.sleeping.life import LivingKube
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
Work = Callable[[], list[str]]


class Ended(BaseException):
    """The worker's process is gone."""


@pytest.fixture
def agent(alice: Persona, kube: LivingKube, cloud: MotoCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    made = cluster_services.create_cluster(actor=alice.actor, name=fleet.NAME)
    row = made.cluster
    Cluster.objects.for_org(row.organization_id).filter(id=row.id).update(
        uid=UID, state=State.LIVE, state_since=clock.now(), heard_at=clock.now()
    )
    token = accounts.agent_token(made.token)
    assert token is not None
    found = Agent(row, token, kube.url)
    monkeypatch.setattr(gateway, "AgentKube", lambda cluster: AgentKube(cluster, pause=found.beat))
    monkeypatch.setattr(gateway, "open_groups", lambda cluster: cloud.groups(fleet.NAME))
    monkeypatch.setattr(executors, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(hands, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(runner, "backoff", lambda attempt: 0.0)
    return found


def row_of(agent: Agent) -> Cluster:
    row: Cluster = Cluster.objects.all_orgs().get(id=agent.cluster.id)
    return row


def test_it_is_unmanaged_until_its_agent_carries_out_orders(agent: Agent, alice: Persona) -> None:
    assert state_of(row_of(agent), None, None) is SleepState.UNMANAGED
    agent.beat()
    assert state_of(row_of(agent), None, None) is SleepState.AWAKE
    with pytest.raises(InvalidInput) as refused:
        services.set_rules(
            actor=alice.actor, cluster_id=agent.cluster.id, selective=False, groups=[], critical=[], keep=[],
            to_zero=True, on_demand=False,
        )  # fmt: skip
    assert "stay awake" in refused.value.errors["to_zero"][0]


def test_a_night_through_the_agent_leaves_no_trace(
    agent: Agent, kube: LivingKube, cloud: MotoCloud, alice: Persona, work: Work
) -> None:
    fleet.build(kube, cloud, count=40, asgs=4, managed=1)
    agent.beat()
    objects, groups = kube.picture(), cloud.state()
    sleep = services.request_sleep(actor=alice.actor, cluster_id=agent.cluster.id)
    work()
    assert ended(sleep)[0] == "succeeded", ended(sleep)
    assert sleep.result.get("failed") is None, sleep.result
    assert row_of(agent).state == "asleep"
    assert kube.all("nodeclaims") == []
    assert max(agent.batches) >= 10, "objects go together"
    changes, orders = len(kube.writes), len(agent.batches)
    assert orders < changes + 40, (orders, changes)
    wake = services.request_wake(actor=alice.actor, cluster_id=agent.cluster.id)
    work()
    assert ended(wake)[0] == "succeeded", ended(wake)
    assert kube.picture() == objects
    assert cloud.state() == groups


def small(kube: LivingKube, cloud: MotoCloud) -> None:
    cloud.prepare(fleet.NAME)
    cloud.asg("workers", 0, 1, 3)
    for n in range(6):
        kube.create(fleet.deployment(f"w{n}", replicas=n % 3 + 1))
    kube.live()


def night(agent: Agent, alice: Persona, work: Work) -> list[Operation]:
    sleep = services.request_sleep(actor=alice.actor, cluster_id=agent.cluster.id)
    work()
    wake = services.request_wake(actor=alice.actor, cluster_id=agent.cluster.id)
    work()
    return [sleep, wake]


@pytest.mark.parametrize("when", ["asked", "done"])
def test_killed_at_any_order_everything_comes_back(
    agent: Agent, kube: LivingKube, cloud: MotoCloud, alice: Persona, work: Work, monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:  # fmt: skip
    """Two orders of the night: the worker ends after it has asked, or when it was carried out and before it knows.
    An order of a worker that is gone is not delivered when its successor begins: its time is over."""
    small(kube, cloud)
    agent.beat()
    before = kube.picture(), cloud.state()
    real = AgentKube._ask
    point, count = [0], [0]

    def ask(self: AgentKube, calls: Any) -> Any:
        count[0] += 1
        mine = count[0] == point[0]
        if mine and when == "asked":
            agent.away = 1
            monkeypatch.setattr(AgentKube, "_ask", real)
            self._pause = _end
        answer = real(self, calls)
        if mine:
            raise Ended
        return answer

    def _end(_seconds: float) -> None:
        raise Ended

    met = 0
    for number in (3, 9):
        point[0], count[0] = number, 0
        monkeypatch.setattr(AgentKube, "_ask", ask)
        for request in (services.request_sleep, services.request_wake):
            operation = request(actor=alice.actor, cluster_id=agent.cluster.id)
            try:
                work()
            except Ended:
                met += 1
                monkeypatch.setattr(AgentKube, "_ask", ask)
                AgentOrder.objects.all_orgs().filter(answered_at=None).update(expires_at=clock.now())
                agent.away = 0
                past = clock.now() - timedelta(seconds=1)
                Operation.objects.all_orgs().filter(id=operation.id).update(lease_expires_at=past)
                runner.reap_expired()
                work()
            assert ended(operation)[0] == "succeeded", (number, ended(operation))
        assert (kube.picture(), cloud.state()) == before, number
    assert met >= 1


def test_answers_that_are_lost_cost_another_look(
    agent: Agent, kube: LivingKube, cloud: MotoCloud, alice: Persona, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clusters.orders import kube as ways

    monkeypatch.setattr(ways, "ANSWER_SECONDS", 0.05)
    small(kube, cloud)
    agent.beat()
    before = kube.picture(), cloud.state()
    real, count = agent._deliver, [0]

    def deliver(order: str, content: dict[str, Any]) -> None:
        count[0] += 1
        if count[0] % 5:
            real(order, content)

    agent.orders._deliver = deliver
    sleep, wake = night(agent, alice, work)
    assert (ended(sleep)[0], ended(wake)[0]) == ("succeeded", "succeeded"), (ended(sleep), ended(wake))
    assert (kube.picture(), cloud.state()) == before


def test_an_agent_that_is_silent_is_named_and_nothing_is_half_done(
    agent: Agent, kube: LivingKube, cloud: MotoCloud, alice: Persona, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clusters.orders import kube as ways

    monkeypatch.setattr(ways, "ANSWER_SECONDS", 0.05)
    small(kube, cloud)
    agent.beat()
    before = kube.picture()
    agent.away = 10_000
    sleep = services.request_sleep(actor=alice.actor, cluster_id=agent.cluster.id)
    work()
    status, error, _ = ended(sleep)
    assert status == "failed"
    assert "did not answer" in error
    assert kube.picture() == before


def test_an_order_is_for_one_cluster_and_its_token(agent: Agent, alice: Persona, mallory: Persona) -> None:
    from clusters.orders import delivery

    order = delivery.ask(row_of(agent), [{"method": "GROUPS"}])
    other = cluster_services.create_cluster(actor=mallory.actor, name="other")
    token = accounts.agent_token(other.token)
    assert token is not None
    status, _ = delivery.take_answer(token=token, order_id=order, body=b'{"results": []}', gzip=False)
    assert status == 404
    for odd in (b"", b"[]", b'{"results": 1}', b"[" * 100_000):
        assert delivery.take_answer(token=agent.token, order_id=order, body=odd, gzip=False)[0] == 400
    assert AgentOrder.objects.all_orgs().get(id=order).answered_at is None


def test_an_agent_that_has_just_begun_is_not_handed_orders_that_it_would_refuse(agent: Agent) -> None:
    """It says who its cluster is as soon as the API server has told; until then orders wait, and it is asked to hurry."""
    from clusters.orders import delivery

    agent.beat()
    order = delivery.ask(row_of(agent), [{"method": "GROUPS"}])
    body = {"format": 1, "session": "new", "at": clock.now().isoformat(), "sequence": 0, "cluster": {"uid": ""}}
    _, answer = cluster_services.record_heartbeat(token=agent.token, body=json.dumps(body).encode())
    assert (answer.get("orders"), answer["intervals"]["heartbeat"]) == ([], 1)
    agent.beat()
    assert AgentOrder.objects.all_orgs().get(id=order).status == "done"
