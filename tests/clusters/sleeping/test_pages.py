"""The page of a cluster's sleep: what would stop before anything does, the order's steps, the rules, the restore file."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from clusters.models import Cluster, ClusterNode
from clusters.sleeping import services
from clusters.sleeping.models import SleepFight, SleepRules, SleepSnapshot
from clusters.sleeping.selectors import durations_of
from core import clock
from costs.models import Interval
from operations.models import Operation
from tests.clusters.sleeping import fleet
from tests.clusters.sleeping.aws import MotoCloud
from tests.clusters.sleeping.life import LivingKube
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]


@pytest.fixture
def priced(cluster: Cluster, kube: LivingKube, cloud: MotoCloud) -> Cluster:
    """A small cluster whose three nodes cost 0.20 an hour each, in the ledger for a day."""
    from clusters.services.money import note_price
    from core.actor import Actor

    cloud.prepare(fleet.NAME)
    cloud.asg("workers", 1, 2, 3)
    cloud.asg("system", 1, 1, 1)
    system = {"nodeSelector": {"group": "system"}}
    for obj in (fleet.deployment("web"), fleet.deployment("coredns", "kube-system", replicas=1, **system)):
        kube.create(obj)
    kube.live()
    for node in kube.all("nodes"):
        ClusterNode.objects.create(
            organization_id=cluster.organization_id,
            cluster=cluster,
            name=node["metadata"]["name"],
            hourly_price=Decimal("0.2"),
            first_seen_at=clock.now(),
        )
    Cluster.objects.all_orgs().update(hourly_cost=Decimal("0.6"), node_count=3, price_seq=1)
    cluster.refresh_from_db()
    note_price(
        actor=Actor.system("test", cluster.organization_id),
        cluster=cluster,
        hourly=Decimal("0.6"),
        source="tests",
        at=clock.now() - timedelta(hours=24),
        seq=0,
    )
    return cluster


def read(client: Client, cluster: Cluster, part: str = "") -> str:
    answer = client.get(f"/clusters/{cluster.id}/{part}")
    assert answer.status_code == 200
    return answer.content.decode()


def test_what_would_stop_is_shown_before_it_does(
    priced: Cluster, kube: LivingKube, olga: Persona, client_of: Callable[[Persona], Client], work: Callable[[], Any]
) -> None:
    client = client_of(olga)
    assert "Hibernate" in read(client, priced)
    assert client.post(f"/clusters/{priced.id}/sleep/look").status_code == 302
    assert "Reading the cluster" in read(client, priced, "sleep")
    before = kube.picture()
    work()
    page = read(client, priced, "sleep")
    assert kube.picture() == before, "a look changes nothing"
    for words in (
        "Deployment/shop/web",
        "2 of 3 nodes leave",
        "$0.40",
        "1-2-3 becomes 0-0-0",
        "coredns",
        "Put to sleep",
    ):
        assert words in page, words
    assert client.post(f"/clusters/{priced.id}/sleep/now", {"reason": "night"}).status_code == 302
    assert "Falling asleep" in read(client, priced)
    work()
    page = read(client, priced, "sleep")
    assert "Wake now" in page
    assert "Put to sleep" not in page
    assert "$0.40" in page, "what it saves an hour"
    took = [
        (step, seconds >= 0) for step, seconds in durations_of(Operation.objects.all_orgs().get(kind=services.SLEEP))
    ]
    assert took[0] == ("Write down what must be restored", True)
    assert len(took) == len(dict(took)) >= 3
    assert f"<summary>{len(took)} steps</summary>" in page
    saved = json.loads(client.get(f"/clusters/{priced.id}/sleep/restore-file").content)
    assert [e["name"] for e in saved["entries"]] == ["web"]
    assert client.post(f"/clusters/{priced.id}/sleep/wake").status_code == 302
    work()
    assert SleepSnapshot.objects.all_orgs().filter(restored_at=None).count() == 0
    assert kube.picture() == before


def test_the_night_is_in_the_ledger_at_the_price_before_it(
    priced: Cluster, alice: Persona, work: Callable[[], Any]
) -> None:
    services.request_sleep(actor=alice.actor, cluster_id=priced.id)
    work()
    (night,) = Interval.objects.all_orgs().filter(resource_id=priced.id, phase="asleep", ended_at=None)
    assert (night.price, night.awake_price) == (Decimal("0.2"), Decimal("0.6"))
    services.request_wake(actor=alice.actor, cluster_id=priced.id)
    work()
    rows = Interval.objects.all_orgs().filter(resource_id=priced.id).order_by("started_at")
    phases = [row.phase for row in rows]
    assert [p for p, q in zip(phases, ["", *phases], strict=False) if p != q] == ["awake", "asleep", "awake"]


def test_rules_are_kept_and_bad_ones_are_said(
    cluster: Cluster, alice: Persona, olga: Persona, client_of: Callable[[Persona], Client]
) -> None:
    address = f"/clusters/{cluster.id}/sleep/rules"
    form = {
        "scope": "selective",
        "groups": ["asg:workers"],
        "critical": "vault\nmonitoring",
        "keep": "env=critical, team",
    }
    assert client_of(olga).post(address, form).status_code == 403
    client = client_of(alice)
    assert client.post(address, form).status_code == 302
    rules = SleepRules.objects.all_orgs().get()
    assert (rules.groups, rules.critical) == (["asg:workers"], ["monitoring", "vault"])
    assert rules.keep == [["env", "critical"], ["team", ""]]
    wrong = client.post(address, {**form, "groups": []})
    assert wrong.status_code == 422
    assert "Choose at least one group" in wrong.content.decode()
    assert "vault" in wrong.content.decode(), "nothing typed is lost"


@pytest.mark.parametrize("rows", [1, 3])
def test_queries_do_not_grow(
    rows: int, cluster: Cluster, alice: Persona, client_of: Callable[[Persona], Client], django_assert_num_queries: Any
) -> None:
    snapshot = SleepSnapshot.objects.create(
        organization_id=alice.organization.id,
        cluster=cluster,
        cluster_name="x",
        taken_at=clock.now(),
        asleep_at=clock.now(),
    )
    for number in range(rows):
        SleepFight.objects.create(
            organization_id=alice.organization.id,
            snapshot=snapshot,
            target=f"t{number}",
            manager="m",
            verb="v",
            value="1",
            seen_at=clock.now(),
            outcome="reapplied",
        )
    client = client_of(alice)
    client.get(f"/clusters/{cluster.id}/sleep")
    with django_assert_num_queries(QUERIES):
        client.get(f"/clusters/{cluster.id}/sleep", headers={"HX-Request": "true", "HX-Request-Type": "partial"})


QUERIES = 8
