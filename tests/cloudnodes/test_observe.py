"""From what a provider says to the row, the ledger, the audit log and the open pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from accounts.models import CloudAccount
from audit.models import AuditEntry
from cloudnodes import rules, services
from cloudnodes.enums import Power, Scales, State
from cloudnodes.models import CloudNode, NodeType
from cloudnodes.providers.base import InstanceState, Scaling
from core.actor import Actor
from core.providers import Unreachable
from core.sleepable import SleepState
from costs.models import CatalogPrice, Interval, ResourcePrice, UsageEvent
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import START, Time

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
S = InstanceState


def fresh(node: CloudNode) -> CloudNode:
    return CloudNode.objects.all_orgs().select_related("node_type").get(id=node.id)


def look(node: CloudNode, cloud: MemoryCloud, time: Time) -> bool:
    return services.observe(node_id=node.id, instance=cloud.describe([node.provider_id])[node.provider_id], at=time.now)


def intervals(node: CloudNode) -> list[tuple[str, float, float | None, Decimal | None]]:
    rows = Interval.objects.all_orgs().filter(resource_id=node.id).order_by("started_at")
    return [
        (
            r.phase,
            (r.started_at - START).total_seconds(),
            None if r.ended_at is None else (r.ended_at - START).total_seconds(),
            r.price,
        )
        for r in rows
    ]


def verbs(node: CloudNode) -> list[str]:
    return list(
        AuditEntry.objects.all_orgs().filter(target_id=str(node.id)).order_by("seq").values_list("verb", flat=True)
    )


def test_scan_makes_types_and_nodes_once(scan: Callable[[], list[CloudNode]], cloud: MemoryCloud, time: Time) -> None:
    cloud.add("i-1", S.STOPPED)
    cloud.add("i-2", S.RUNNING, node_type="flux-dev", gpu_tier="", instance_type="g4dn.xlarge")
    cloud.add("i-3", S.RUNNING, node_type="")
    first = scan()
    time.go(60)
    second = scan()
    assert [(n.provider_id, n.gpu_tier, n.observed_state, n.node_type.name) for n in second] == [
        ("i-1", "a10g", "asleep", "FLUX Dev"),
        ("i-2", "t4", "awake", "FLUX Dev"),
    ]
    assert [n.id for n in first] == [n.id for n in second]
    assert NodeType.objects.all_orgs().count() == 1
    assert UsageEvent.objects.all_orgs().count() == 2
    assert verbs(second[0]) == ["node.found"]


def test_a_types_words_come_from_tags(scan: Callable[[], list[CloudNode]], cloud: MemoryCloud) -> None:
    cloud.add(
        "i-1", tags={"curfew:description": "text to image", "curfew:port": "8188", "curfew:health-path": "/ready"}
    )
    cloud.add("i-2", tags={"curfew:port": "many"})
    scan()
    row = NodeType.objects.all_orgs().get()
    assert (row.description, row.port, row.health_path) == ("text to image", 8188, "/ready")


def test_slug_spelling_gives_way_to_a_better_one(scan: Callable[[], list[CloudNode]], cloud: MemoryCloud) -> None:
    cloud.add("i-1", node_type="flux-dev")
    scan()
    cloud.add("i-2", node_type="FLUX Dev")
    scan()
    assert NodeType.objects.all_orgs().get().name == "FLUX Dev"


@pytest.mark.parametrize(
    ("provider", "state", "phase"),
    [
        ("aws", S.STARTING, "asleep"),
        ("aws", S.RUNNING, "awake"),
        ("aws", S.STOPPING, "asleep"),
        ("aws", S.STOPPED, "asleep"),
        ("azure", S.STARTING, "awake"),
        ("azure", S.RUNNING, "awake"),
        ("azure", S.STOPPING, "awake"),
        ("azure", S.STOPPED_BILLING, "awake"),
        ("azure", S.STOPPED, "asleep"),
        ("gcp", S.STARTING, "awake"),
        ("gcp", S.RUNNING, "awake"),
        ("gcp", S.STOPPED, "asleep"),
        ("docker", S.RUNNING, "awake"),
        ("docker", S.STOPPED, "asleep"),
    ],
)
def test_what_each_provider_bills(provider: str, state: InstanceState, phase: str) -> None:
    assert rules.phase_of(provider, state, Scaling.MANUAL) == phase


def test_unknown_proves_nothing_and_to_zero_costs_nothing() -> None:
    assert rules.phase_of("aws", S.UNKNOWN, Scaling.MANUAL) is None
    assert rules.phase_of("gcp", S.RUNNING, Scaling.TO_ZERO) == "gone"


def test_a_day_in_the_ledger(node: CloudNode, cloud: MemoryCloud, time: Time) -> None:
    time.go(3600)
    cloud.put("i-1", S.RUNNING, launched_at=time.now - timedelta(seconds=20))
    time.go(10)
    look(node, cloud, time)
    time.go(1800)
    cloud.put("i-1", S.STOPPED, launched_at=None)
    look(node, cloud, time)
    # seen ten seconds late, but the provider tells when it was launched
    assert intervals(node) == [
        ("asleep", 0, 3580, Decimal(0)),
        ("awake", 3580, 5410, Decimal("1.2")),
        ("asleep", 5410, None, Decimal(0)),
    ]
    assert verbs(node) == ["node.found", "node.changed_outside", "node.changed_outside"]
    row = fresh(node)
    assert (row.desired_state, row.cause, row.cause_label) == ("asleep", "outside", "Stopped outside Curfew")


def test_replayed_and_late_observations_change_nothing(node: CloudNode, cloud: MemoryCloud, time: Time) -> None:
    old = cloud.machines["i-1"].instance
    asked = time.go(5)
    time.go(5)
    cloud.put("i-1", S.RUNNING)
    running = cloud.machines["i-1"].instance
    assert services.observe(node_id=node.id, instance=running, at=time.now) is True
    seen = (fresh(node), intervals(node), verbs(node))
    for _ in range(3):
        assert services.observe(node_id=node.id, instance=running, at=time.now) is False
    # asked earlier, answered later: it tells of the past
    assert services.observe(node_id=node.id, instance=old, at=asked) is False
    assert (fresh(node), intervals(node), verbs(node)) == seen
    assert list(UsageEvent.objects.all_orgs().order_by("id").values_list("key", flat=True)) == ["1:asleep", "2:awake"]
    assert fresh(node).observed_state == "awake"


def test_batch_stamps_the_same_and_commits_the_changed(
    account: CloudAccount,
    cloud: MemoryCloud,
    scan: Callable[[], list[CloudNode]],
    time: Time,
    django_assert_max_num_queries: Callable,
) -> None:
    for number in range(30):
        cloud.add(f"i-{number:02}")
    nodes = scan()
    time.go(5)
    found = cloud.describe([n.provider_id for n in nodes])
    with django_assert_max_num_queries(1):
        assert services.observe_many(nodes=nodes, found=found, at=time.now) == 0
    assert {n.observed_at for n in scan()} == {time.now}
    cloud.put("i-07", S.RUNNING)
    time.go(5)
    assert (
        services.observe_many(nodes=scan(), found=cloud.describe([n.provider_id for n in nodes]), at=time.now) == 0
    )  # the scan saw it
    assert fresh(nodes[7]).observed_state == "awake"


def test_still_billing_needs_a_person_and_costs_money(
    account: CloudAccount, cloud: MemoryCloud, scan: Callable[[], list[CloudNode]], time: Time
) -> None:
    account.provider = "azure"
    account.save(update_fields=["provider"])
    cloud.add("vm-1", S.RUNNING)
    (node,) = scan()
    time.go(60)
    cloud.put("vm-1", S.STOPPED_BILLING)
    look(node, cloud, time)
    row = fresh(node)
    assert (row.observed_state, row.still_billing, row.desired_state) == ("trouble", True, "asleep")
    assert intervals(node) == [("awake", 0, None, Decimal("1.2"))]
    time.go(60)
    cloud.put("vm-1", S.STOPPED)
    look(node, cloud, time)
    assert (fresh(node).observed_state, fresh(node).still_billing) == ("asleep", False)
    assert intervals(node)[-1] == ("asleep", 120, None, Decimal(0))


def test_missing_once_is_lost_missing_twice_is_gone(node: CloudNode, cloud: MemoryCloud, time: Time) -> None:
    time.go(60)
    machine = cloud.machines.pop("i-1")
    look(node, cloud, time)
    assert (fresh(node).observed_state, fresh(node).gone_at) == ("lost", None)
    assert intervals(node) == [("asleep", 0, None, Decimal(0))]
    time.go(30)
    look(node, cloud, time)
    assert fresh(node).gone_at == START + timedelta(seconds=60)
    assert intervals(node) == [("asleep", 0, 60, Decimal(0))]
    assert verbs(node) == ["node.found", "node.gone"]
    time.go(30)
    look(node, cloud, time)
    assert verbs(node) == ["node.found", "node.gone"]
    cloud.machines["i-1"] = machine
    time.go(30)
    look(node, cloud, time)
    assert (fresh(node).observed_state, fresh(node).gone_at) == ("asleep", None)
    assert intervals(node)[-1] == ("asleep", 150, None, Decimal(0))


def test_a_hiccup_leaves_no_gap(node: CloudNode, cloud: MemoryCloud, time: Time) -> None:
    machine = cloud.machines.pop("i-1")
    time.go(5)
    look(node, cloud, time)
    cloud.machines["i-1"] = machine
    time.go(5)
    look(node, cloud, time)
    assert fresh(node).observed_state == "asleep"
    assert intervals(node) == [("asleep", 0, None, Decimal(0))]


def test_unreadable_account_loses_the_awake_never_the_asleep(
    account: CloudAccount, cloud: MemoryCloud, scan: Callable[[], list[CloudNode]], time: Time
) -> None:
    cloud.add("i-1", S.STOPPED)
    cloud.add("i-2", S.RUNNING)
    asleep, awake = scan()
    time.go(5)
    assert services.mark_unreadable(account_id=account.id, error=Unreachable(), at=time.now) == 1
    assert services.mark_unreadable(account_id=account.id, error=Unreachable(), at=time.now) == 0
    assert (fresh(asleep).observed_state, fresh(awake).observed_state) == ("asleep", "lost")
    assert intervals(awake) == [("awake", 0, None, Decimal("1.2"))]
    time.go(5)
    services.observe_many(nodes=[fresh(asleep), fresh(awake)], found=cloud.describe(["i-1", "i-2"]), at=time.now)
    assert (fresh(asleep).observed_state, fresh(awake).observed_state) == ("asleep", "awake")
    assert intervals(awake) == [("awake", 0, None, Decimal("1.2"))]


def test_prices_label_then_book_then_unknown(
    cloud: MemoryCloud, scan: Callable[[], list[CloudNode]], time: Time
) -> None:
    CatalogPrice.objects.create(
        provider="aws",
        region="us-east-1",
        instance_type="x8.large",
        hourly=Decimal("1.006"),
        source="EC2 price list",
        as_of=date(2031, 1, 1),
    )
    cloud.add("i-1", hourly_cost=Decimal("0.5"))
    cloud.add("i-2", hourly_cost=None, instance_type="x8.large")
    cloud.add("i-3", hourly_cost=None, instance_type="x9.unheard")
    cloud.add("i-4", hourly_cost=None, instance_type="x8.large", lifecycle="spot")
    assert [(n.hourly_cost, n.hourly_cost_source) for n in scan()] == [
        (Decimal("0.5"), "label on the instance"),
        (Decimal("1.006"), "EC2 price list, 2031-01-01"),
        (None, "unknown: not on its label and not in the price book"),
        (None, "unknown: not on its label and not in the price book"),
    ]
    assert [p.awake for p in ResourcePrice.objects.all_orgs().order_by("id")] == [
        Decimal("0.5"),
        Decimal("1.006"),
        None,
        None,
    ]


def test_new_list_price_holds_from_now_on(cloud: MemoryCloud, scan: Callable[[], list[CloudNode]], time: Time) -> None:
    cloud.add("i-1", S.RUNNING, hourly_cost=None, instance_type="x9.large")
    (node,) = scan()
    assert intervals(node) == [("awake", 0, None, None)]
    time.go(600)
    CatalogPrice.objects.create(
        provider="aws",
        region="us-east-1",
        instance_type="x9.large",
        hourly=Decimal("1.006"),
        source="EC2 price list",
        as_of=date(2031, 1, 1),
    )
    assert services.reprice_all(actor=Actor.system("price_book")) == 1
    assert services.reprice_all(actor=Actor.system("price_book")) == 0
    assert intervals(node) == [("awake", 0, 600, None), ("awake", 600, None, Decimal("1.006"))]
    assert "node.repriced" in verbs(node)


def test_contested_after_two_reversals(
    node: CloudNode, cloud: MemoryCloud, time: Time, worker: object, alice: object
) -> None:
    for _ in range(2):
        cloud.put("i-1", S.RUNNING)
        time.go(5)
        look(node, cloud, time)
        services.request_stop(actor=alice.actor, node_id=node.id)
        worker.until_done()
        time.go(20)
    cloud.put("i-1", S.RUNNING)
    look(node, cloud, time)
    row = fresh(node)
    assert (row.observed_state, row.reversals) == ("contested", 2)
    time.go(16 * 60)
    services.observe_many(nodes=[row], found=cloud.describe(["i-1"]), at=time.now)
    assert fresh(node).observed_state == "awake"


def test_tag_removed_is_unmanaged_and_still_metered(node: CloudNode, cloud: MemoryCloud, time: Time) -> None:
    time.go(5)
    cloud.put("i-1", S.RUNNING, node_type="")
    look(node, cloud, time)
    assert (fresh(node).observed_state, fresh(node).managed) == ("unmanaged", False)
    assert intervals(node)[-1][0] == "awake"


def test_to_zero_is_never_metered_until_manual(
    cloud: MemoryCloud, scan: Callable[[], list[CloudNode]], time: Time
) -> None:
    cloud.add("svc", S.RUNNING, scaling=Scaling.TO_ZERO)
    (node,) = scan()
    assert (node.observed_state, node.hourly_cost) == ("unmanaged", Decimal(0))
    assert intervals(node) == []
    time.go(60)
    cloud.put("svc", S.RUNNING, scaling=Scaling.MANUAL)
    look(node, cloud, time)
    assert intervals(node) == [("awake", 60, None, Decimal("1.2"))]
    time.go(60)
    cloud.put("svc", S.RUNNING, scaling=Scaling.TO_ZERO)
    look(node, cloud, time)
    assert intervals(node) == [("awake", 60, 120, Decimal("1.2"))]


def test_pages_hear_of_changes_and_of_nothing_else(
    node: CloudNode, cloud: MemoryCloud, time: Time, published: list
) -> None:
    published.clear()
    time.go(5)
    look(node, cloud, time)
    assert published == []
    cloud.put("i-1", S.RUNNING)
    time.go(5)
    look(node, cloud, time)
    assert {m["topic"] for _, m in published} == {"nodes", "money", "audit"}


def test_disconnect_closes_the_ledger_and_forgets(
    account: CloudAccount, cloud: MemoryCloud, scan: Callable[[], list[CloudNode]], time: Time, alice: object
) -> None:
    from accounts import services as accounts

    cloud.add("i-1", S.RUNNING)
    (node,) = scan()
    time.go(3600)
    accounts.disconnect_account(actor=alice.actor, account_id=account.id)
    assert intervals(node) == [("awake", 0, 3600, Decimal("1.2"))]
    assert not CloudNode.objects.all_orgs().exists()
    assert verbs(node) == ["node.found", "node.forgotten"]


def test_state_words() -> None:
    at = START
    base = rules.Facts(provider_state=S.RUNNING)
    cases = {
        SleepState.AWAKE: base,
        SleepState.ASLEEP: replace(base, provider_state=S.STOPPED, unread=True),
        SleepState.WAKING: replace(base, operation="node.start", missing=True),
        SleepState.FALLING: replace(base, provider_state=S.STOPPING),
        SleepState.TROUBLE: replace(base, provider_state=S.STOPPED_BILLING),
        SleepState.LOST: replace(base, provider_state=S.UNKNOWN),
        SleepState.UNMANAGED: replace(base, scaling="to_zero"),
        SleepState.CONTESTED: replace(base, reversals=2, reversed_at=at),
    }
    assert {word: rules.state_of(facts, at) for word, facts in cases.items()} == {word: word for word in cases}


def test_words_of_rows_are_those_of_the_providers() -> None:
    assert sorted(Power.values) == sorted(s.value for s in InstanceState)
    assert sorted(Scales.values) == sorted(s.value for s in Scaling)
    assert sorted(State.values) == sorted(s.value for s in SleepState)
    assert S.RUNNING in rules.UP
    assert S.STOPPED_BILLING in rules.DOWN
