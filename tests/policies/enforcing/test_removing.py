"""Taking nodes away: under budgets and marks, through the group, and never leaving a node closed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from audit.models import AuditEntry
from clusters.models import Cluster as Row
from clusters.services import steering
from core import clock
from operations import services as operations
from operations.models import Operation
from policies.enforcing import executors, looking, services
from policies.enforcing.enums import REMOVE
from policies.enforcing.models import Enforcement, NodeAction
from policies.models import NodeTemplate, PolicyAssignment
from tests.personas import Persona
from tests.policies.enforcing.conftest import QUICK
from tests.policies.enforcing.world import BIG, SMALL, Cloud, Cluster, budget, deployment

pytestmark = [pytest.mark.django_db, pytest.mark.integration]


@pytest.fixture
def fleet(row: Row, kube: Cluster, cloud: Cloud) -> Callable[..., None]:
    """Three nodes, of which the pods need one."""

    def fill(*objects: Any) -> None:
        cloud.template_asg("workers", 1, 3, 5)
        for obj in objects or (deployment("web", 2), deployment("api", 1)):
            kube.create(obj)
        kube.live()
        assert len(kube.all("nodes")) == 3

    return fill


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second look: the cluster changes after it."""
    monkeypatch.setattr(
        executors.RemoveNodes, "_look_again", lambda self, context, *more: context.checkpoint(looked=True)
    )


def begun(kube: Cluster, work: Any) -> None:
    """Run until a node is closed."""
    for _ in range(8):
        work(1)
        if kube.closed():
            return
    raise AssertionError("no node was closed")


def the_action() -> NodeAction:
    return NodeAction.objects.all_orgs().filter(kind="remove").latest("started_at")


def test_a_node_is_emptied_and_ended_through_its_group(
    row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any
) -> None:
    fleet()
    apply_policy()
    assert looking.plan_cluster(cluster_id=row.id) == "begun"
    assert looking.plan_cluster(cluster_id=row.id) == "planned", "one at a time"
    work()
    action = the_action()
    assert (action.outcome, action.ended_nodes, action.cordoned) == ("done", action.nodes, [])
    assert cloud.sizes("workers") == (1, 2, 5, 2), "the group wants one less, so it starts none again"
    assert len(kube.all("nodes")) == 2
    assert kube.waiting() == []
    assert kube.closed() == []
    looking.plan_cluster(cluster_id=row.id)
    work()
    assert cloud.sizes("workers") == (1, 1, 5, 1)
    assert looking.plan_cluster(cluster_id=row.id) == "planned", "the group is at its minimum"
    verbs = set(AuditEntry.objects.all_orgs().values_list("verb", flat=True))
    assert {"policy.removal_begun", "policy.action_done"} <= verbs


def test_recommend_only_says_what_it_would_do(
    row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any
) -> None:
    fleet()
    apply_policy("recommend")
    assert looking.plan_cluster(cluster_id=row.id) == "no report"
    assert not NodeAction.objects.all_orgs().exists()
    assert cloud.changes == kube.writes == []


def test_a_budget_that_never_allows_it_gives_the_node_back(
    row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(deployment("web", 3), budget("web"))
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    kube.forever.add("web-pdb")  # after the plan was made: the budget closes for good
    monkeypatch.setattr(
        executors.RemoveNodes, "_look_again", lambda self, context, *more: context.checkpoint(looked=True)
    )
    work(12)
    assert len(kube.closed()) == 1, "it waits for the budget, closed"
    assert "budget" in Operation.objects.all_orgs().get(kind="policy.remove_nodes").step
    monkeypatch.setattr(executors, "DRAIN_SECONDS", -1.0)
    work()
    action = the_action()
    assert action.outcome == "given_up"
    assert "web-pdb" in action.words
    assert kube.closed() == []
    assert cloud.sizes("workers") == (1, 3, 5, 3)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (deployment("web", 3, annotations={"karpenter.sh/do-not-disrupt": "true"}), "do-not-disrupt"),
        (deployment("web", 3, volumes=[{"name": "d", "hostPath": {"path": "/d"}}]), "own disk"),
        (deployment("web", 3, namespace="kube-system"), "kube-system"),
    ],
)
def test_what_may_not_be_moved_keeps_its_node(
    what: Any, why: str, row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Even if the plan was blind to it, the last look before an eviction is not."""
    fleet(what)
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    assert not NodeAction.objects.all_orgs().exists(), "the plan sees it"
    monkeypatch.setattr(looking, "guarded", lambda facts, *more: facts)
    monkeypatch.setattr(
        executors.RemoveNodes, "_look_again", lambda self, context, *more: context.checkpoint(looked=True)
    )
    cluster = Row.objects.all_orgs().select_related("organization").get(id=row.id)
    policy = looking.policy_of(cluster)
    assert policy is not None
    node = kube.all("nodes")[0]["metadata"]["name"]
    assert services.begin(cluster=cluster, policy=policy, kind=looking.Kind.REMOVE, reason="blind", nodes=[node])
    work()
    action = the_action()
    assert action.outcome == "given_up"
    assert why in action.words
    assert kube.closed() == []
    assert len(kube.all("pods")) == 3


def test_maintenance_wins_in_the_middle(
    row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any, alice: Persona
) -> None:
    fleet(deployment("web", 3), budget("web"))
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    begun(kube, work)
    steering.begin_maintenance(actor=alice.actor, cluster_id=row.id, reason="upgrade")
    work()
    action = the_action()
    assert (action.outcome, kube.closed()) == ("given_up", [])
    assert "maintenance" in action.words
    assert looking.plan_cluster(cluster_id=row.id) == "no report"
    assert "maintenance" in Enforcement.objects.all_orgs().get().holds


@pytest.mark.usefixtures("blind")
def test_a_cancelled_removal_lets_go(
    row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any, alice: Persona
) -> None:
    fleet(deployment("web", 3), budget("web"))
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    kube.forever.add("web-pdb")
    begun(kube, work)
    operation = Operation.objects.all_orgs().get(kind="policy.remove_nodes")
    operations.cancel_operation(actor=alice.actor, operation_id=operation.id)
    work()
    assert kube.closed() == []
    assert the_action().outcome == "given_up"


@pytest.mark.parametrize("status", [409, 500, 503])
def test_an_api_server_that_falters_delays_and_loses_nothing(
    status: int, row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any
) -> None:
    fleet()
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    kube.fail("/api/v1/nodes/", status=status, times=3)
    kube.fail("/eviction", status=status, times=2)
    work()
    assert the_action().outcome == "done"
    assert cloud.sizes("workers")[1] == 2
    assert kube.closed() == []


def test_throttling_and_a_group_at_its_minimum(
    row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any
) -> None:
    fleet()
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    throttled = b"<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>"
    answers = [(400, throttled)] * 5
    cloud.before = lambda what: answers.pop() if what.startswith("Terminate") and answers else None
    work()
    assert the_action().outcome == "done"
    assert answers == []
    assert cloud.sizes("workers")[1] == 2


@pytest.mark.usefixtures("blind")
def test_what_ended_without_a_word_is_found_by_the_sweep(
    row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any
) -> None:
    fleet(deployment("web", 3), budget("web"))
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    kube.forever.add("web-pdb")
    begun(kube, work)
    Operation.objects.all_orgs().update(status="failed", finished_at=clock.now())  # as if its end was never told
    assert services.release_forgotten() == 1
    work()
    assert kube.closed() == []
    assert services.release_forgotten() == 0


def test_a_node_that_somebody_else_closed_is_left_alone(
    row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any
) -> None:
    fleet()
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    name = the_action().nodes[0]
    kube.change("nodes", "", name, {"spec": {"unschedulable": True}})
    work()
    assert the_action().outcome == "given_up"
    assert kube.get("nodes", "", name)["spec"]["unschedulable"] is True


def test_policies_switched_off_stop_what_is_under_way(
    row: Row, kube: Cluster, cloud: Cloud, fleet: Any, apply_policy: Any, work: Any
) -> None:
    fleet(deployment("web", 3), budget("web"))
    apply_policy()
    looking.plan_cluster(cluster_id=row.id)
    PolicyAssignment.objects.all_orgs().update(mode="off")
    work()
    assert (the_action().outcome, kube.closed()) == ("given_up", [])
    assert cloud.sizes("workers") == (1, 3, 5, 3)


@pytest.fixture
def pair(row: Row, kube: Cluster, cloud: Cloud, alice: Persona, apply_policy: Any) -> str:
    """Two m5.xlarge: one nearly full, one with a pod that an m5.large holds and one that fits beside the full one."""
    NodeTemplate.objects.create(
        organization_id=alice.organization.id,
        name="m5",
        purchasing="on_demand",
        families=["m5"],
        architectures=["amd64"],
        is_default=True,
        created_at=row.created_at,
        updated_at=row.created_at,
    )
    cloud.template_asg("workers", 1, 2, 4)
    for name, cpu in (("full", "3400m"), ("large", "1700m"), ("small", "400m")):
        kube.create(deployment(name, 1, cpu=cpu))
        kube.live()
    apply_policy(consolidation={**QUICK["consolidation"], "level": "aggressive"})
    return homes(kube)["large"]


def homes(kube: Cluster) -> dict[str, str]:
    """Where the pod of each deployment is."""
    return {p["metadata"]["labels"]["app"]: p["spec"].get("nodeName", "") for p in kube.all("pods")}


def test_a_node_is_replaced_by_a_cheaper_one_that_takes_only_what_has_no_other_place(
    row: Row, kube: Cluster, cloud: Cloud, pair: str, work: Any
) -> None:
    before = homes(kube)
    assert before["small"] == before["large"] != before["full"]
    assert looking.plan_cluster(cluster_id=row.id) == "begun"
    work()
    action = the_action()
    assert (action.outcome, action.ended_nodes) == ("done", [pair]), action.words
    after = homes(kube)
    assert after["small"] == before["full"], "the empty new node was closed while there was room elsewhere"
    assert after["large"] not in before.values()
    assert (kube.waiting(), kube.closed()) == ([], [])
    assert sorted(cloud.running().values()) == [SMALL, BIG]
    assert cloud.sizes("workers") == (1, 2, 4, 2)
    assert looking.plan_cluster(cluster_id=row.id) == "planned", "nothing is left to gain"


def test_a_long_wait_for_the_new_node_leaves_patience_for_what_follows(
    row: Row, kube: Cluster, cloud: Cloud, pair: str, work: Any
) -> None:
    looking.plan_cluster(cluster_id=row.id)
    removal = Operation.objects.all_orgs().get(kind=REMOVE)
    while "began_at" not in removal.state:
        work(1)
        removal.refresh_from_db()
    assert "replaced" not in removal.state
    removal.state["began_at"] = (clock.now() - timedelta(hours=1)).isoformat()
    removal.save(update_fields=["state"])
    kube.fail("/eviction", status=500, times=2)
    work()
    assert (the_action().outcome, kube.closed(), kube.waiting()) == ("done", [], [])


@pytest.mark.usefixtures("blind")
def test_a_closed_new_node_opens_as_soon_as_a_pod_waits(
    row: Row, kube: Cluster, cloud: Cloud, pair: str, work: Any
) -> None:
    kube.create(budget("small"))
    kube.live()
    old = {n["metadata"]["name"] for n in kube.all("nodes")}
    assert looking.plan_cluster(cluster_id=row.id) == "begun"
    kube.forever.add("small-pdb")
    for _ in range(20):
        work(1)
        new = set(kube.closed()) - old
        if new:
            break
    assert len(new) == 1, "it waits for the small pod, which its budget holds"
    kube.create(deployment("late", 1, cpu="3000m"))
    kube.live()
    assert looking.react(cluster_id=row.id) == [], "no second machine while one is about to open"
    work(1)
    assert not new & set(kube.closed())
    assert len(looking.react(cluster_id=row.id)) == 1, "it does not fit there, so now one is bought"


@pytest.mark.usefixtures("blind")
def test_a_replacement_without_capacity_moves_nothing(
    row: Row, kube: Cluster, cloud: Cloud, pair: str, work: Any
) -> None:
    before = homes(kube)
    looking.plan_cluster(cluster_id=row.id)
    cloud.full.add((SMALL, "on-demand"))
    work()
    assert the_action().outcome == "given_up"
    assert (homes(kube), kube.closed()) == (before, [])
    assert sorted(cloud.running().values()) == [BIG, BIG]
