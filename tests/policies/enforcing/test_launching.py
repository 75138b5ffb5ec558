"""Pods that wait get a node: in time, within the template, around pools without capacity, and never two for one."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from clusters.models import Cluster as Row
from clusters.services import steering
from operations import runner
from operations.models import Operation
from policies.enforcing import executors, looking, services, watching
from policies.enforcing.models import Enforcement, NodeAction
from policies.models import NodeTemplate
from tests.personas import Persona
from tests.policies.enforcing.world import Cloud, Cluster, deployment

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
TEMPLATE = {"families": ["m5", "c5"], "architectures": ["amd64"], "excluded_sizes": ["24xlarge", "metal"]}


@pytest.fixture
def template(row: Row, alice: Persona) -> NodeTemplate:
    made: NodeTemplate = NodeTemplate.objects.create(
        organization_id=alice.organization.id,
        name="general",
        purchasing="spot",
        is_default=True,
        created_at=row.created_at,
        updated_at=row.created_at,
        **TEMPLATE,
    )
    return made


@pytest.fixture
def full(row: Row, kube: Cluster, cloud: Cloud, template: NodeTemplate) -> None:
    """One node, and pods that need another."""
    cloud.template_asg("workers", 1, 1, 4)
    kube.create(deployment("web", 5, cpu="900m"))
    kube.live()
    assert len(kube.waiting()) == 1


def launches() -> list[NodeAction]:
    return list(NodeAction.objects.all_orgs().filter(kind="launch").order_by("started_at"))


def test_one_node_comes_joins_its_group_and_takes_the_pods(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    apply_policy()
    assert len(looking.react(cluster_id=row.id)) == 1
    assert looking.react(cluster_id=row.id) == [], "a node is on its way for them"
    work()
    (action,) = launches()
    assert action.outcome == "done", action.words
    assert action.launch["machine"]["lifecycle"] == "spot"
    assert action.launch["machine"]["instance_type"].split(".")[0] in ("m5", "c5")
    assert cloud.sizes("workers") == (1, 2, 4, 2), "the group wants one more and holds it"
    assert kube.waiting() == []
    assert looking.react(cluster_id=row.id) == []


@pytest.mark.parametrize("code", ["InsufficientInstanceCapacity", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded"])
def test_spot_without_capacity_falls_back_to_on_demand(
    code: str, full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    apply_policy()
    looking.react(cluster_id=row.id)
    cloud.code = code
    cloud.full |= {(pool.split("|")[0], "spot") for pool in launches()[0].launch["pools"]}
    work()
    (action,) = launches()
    assert action.outcome == "done", action.words
    assert action.launch["machine"]["lifecycle"] == "on-demand"
    assert [fleet[0].split()[1] for fleet in cloud.fleets] == ["spot", "on-demand"]
    refused = Enforcement.objects.all_orgs().get().refused
    assert refused
    assert all(key.endswith("|spot") for key in refused), "these pools rest for a while"
    assert kube.waiting() == []


def test_without_fallback_the_pods_wait_and_the_reason_is_said(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    apply_policy(autoscaling={"enabled": True, "on_demand_fallback": False})
    looking.react(cluster_id=row.id)
    cloud.full |= {(pool.split("|")[0], "spot") for pool in launches()[0].launch["pools"]}
    work()
    (action,) = launches()
    assert action.outcome == "given_up"
    assert "InsufficientInstanceCapacity" in action.words
    assert len(cloud.running()) == 1
    assert cloud.sizes("workers") == (1, 1, 4, 1)


def test_a_single_full_pool_costs_nothing(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    apply_policy()
    looking.react(cluster_id=row.id)
    first = launches()[0].launch["pools"][0].split("|")[0]
    cloud.full.add((first, "spot"))
    work()
    (action,) = launches()
    assert action.outcome == "done"
    assert action.launch["machine"]["lifecycle"] == "spot"
    assert action.launch["machine"]["instance_type"] != first


def test_throttling_is_waited_for(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    apply_policy()
    looking.react(cluster_id=row.id)
    body = b"<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>slow down</Message></Error></Errors></Response>"
    answers = [(503, body)] * 5
    cloud.before = lambda what: answers.pop() if what == "CreateFleet" and answers else None
    work()
    assert answers == []
    assert launches()[0].outcome == "done"
    assert len(cloud.running()) == 2, "and bought once"


def test_a_lost_answer_does_not_buy_twice(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    apply_policy()
    looking.react(cluster_id=row.id)
    lost = [
        (500, b"<Response><Errors><Error><Code>InternalError</Code><Message>x</Message></Error></Errors></Response>")
    ]
    cloud.after = lambda what: lost.pop() if what == "CreateFleet" and lost else None
    work()
    assert launches()[0].outcome == "done"
    assert len(cloud.running()) == 2


def test_a_group_that_holds_the_machine_already_is_enough(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any
) -> None:
    """The answer to the first request was lost; the second one is refused, because it had been heard."""
    apply_policy()
    looking.react(cluster_id=row.id)
    lost = [(503, b"<ErrorResponse><Error><Code>ServiceUnavailable</Code><Message>x</Message></Error></ErrorResponse>")]
    cloud.after = lambda what: lost.pop() if what == "AttachInstances" and lost else None
    work()
    assert lost == []
    assert launches()[0].outcome == "done", launches()[0].words
    assert cloud.sizes("workers") == (1, 2, 4, 2)


def test_a_machine_that_never_becomes_a_node_is_ended(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_policy()
    looking.react(cluster_id=row.id)
    kube.boots = False
    monkeypatch.setattr(executors, "JOIN_SECONDS", 0.3)
    work()
    (action,) = launches()
    assert action.outcome == "given_up"
    assert len(cloud.running()) == 1
    assert cloud.sizes("workers") == (1, 1, 4, 1)


def test_maintenance_and_a_missing_template_forbid_it(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any, alice: Persona
) -> None:
    apply_policy()
    looking.react(cluster_id=row.id)
    steering.begin_maintenance(actor=alice.actor, cluster_id=row.id)
    assert looking.react(cluster_id=row.id) == []
    work()
    assert launches()[0].outcome == "given_up"
    assert "maintenance" in launches()[0].words
    assert cloud.changes == []


def test_a_cancelled_launch_ends_what_it_bought(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, work: Any, alice: Persona
) -> None:
    from operations import services as operations

    apply_policy()
    looking.react(cluster_id=row.id)
    cloud.before = lambda what: (500, b"<x/>") if what == "AttachInstances" else None
    work(3)
    assert len(cloud.running()) == 2
    operations.cancel_operation(actor=alice.actor, operation_id=Operation.objects.all_orgs().get().id)
    cloud.before = lambda what: None
    work()
    assert len(cloud.running()) == 1
    assert not services.leftovers(launches()[0])
    assert cloud.machines().bought(str(launches()[0].id)) is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.alone
def test_the_watch_reacts_at_once(
    full: None, row: Row, kube: Cluster, cloud: Cloud, apply_policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the pod being unschedulable to the fleet being asked for, with a worker that takes hints. `bench.pending_pods`
    holds it to two seconds; here other tests share the processor, and without the
    watch the next look would come after up to a minute."""
    apply_policy()
    asked, rested = threading.Event(), threading.Event()
    cloud.after = lambda what: asked.set() if what == "CreateFleet" else None

    def send(name: str, kwargs: dict[str, str]) -> None:
        runner.run_operation(kwargs["operation_id"])
        rested.set()

    monkeypatch.setattr("core.tasks._send", send)
    keeper = watching.Keeper()
    other = watching.Keeper()
    try:
        assert keeper.tend() == 1
        assert other.tend() == 0, "one watch a cluster"
        assert asked.wait(15), "the pod that waits already"
        assert rested.wait(15), "this worker does one thing after the other"
        deadline = time.monotonic() + 10
        while kube.waiting() and time.monotonic() < deadline:
            kube.live()
            time.sleep(0.1)
        asked.clear()
        kube.create(deployment("api", 3, cpu="3"))
        kube.live()
        began = time.monotonic()
        assert asked.wait(10)
        assert time.monotonic() - began < 5
    finally:
        keeper.stop()
        other.stop()
    assert Enforcement.objects.all_orgs().get().watch_owner == ""
