"""The sandbox's simulated clusters: the same story each time, in through the ordinary way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clusters import services
from clusters.models import Cluster, Sample
from clusters.sandbox import reports
from clusters.sandbox.fleet import FLEETS, fleet_named
from tests.clusters.conftest import START, Time
from tests.personas import Persona, make_account

ARN = "arn:aws:eks:us-east-1:111111111111:cluster/lark-prod"


@pytest.mark.unit
def test_a_fleet_follows_its_rhythm_and_fits_its_machines() -> None:
    prod, _, farm = FLEETS
    noon, night = datetime(2031, 6, 12, 17, tzinfo=UTC), datetime(2031, 6, 12, 5, tzinfo=UTC)
    assert prod.load(noon) > 0.8 > 0.2 > prod.load(night)
    assert farm.load(night) > farm.load(noon)
    assert reports.wanted_sizes(prod, noon)["burst"] > reports.wanted_sizes(prod, night)["burst"]
    tables = reports.tables_at(prod, noon)
    assert tables == reports.tables_at(prod, noon)
    for name, node in tables["nodes"].items():
        pods = [p for p in tables["pods"].values() if p.get("node") == name]
        asked = sum(tables["specs"][p["spec"]]["requests"]["cpu"] for p in pods)
        assert asked <= node["allocatable"]["cpu"]
    empty = reports.tables_at(prod, noon, {"general": 0, "burst": 0})
    assert "nodes" not in empty
    assert {p["phase"] for p in empty["pods"].values()} == {"Pending"}
    assert fleet_named("arn:aws:eks:eu-west-1:1:cluster/lark-prod") is None


@pytest.mark.integration
@pytest.mark.django_db
def test_history_is_played_through_the_ordinary_way_in(
    time: Time, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = make_account(alice.organization, number="111111111111", is_sandbox=True)
    made = services.create_cluster(
        actor=alice.actor, name="lark-prod", account_id=account.id, external_id=ARN, distribution="eks"
    ).cluster
    monkeypatch.undo()
    end = START
    assert services.play_history(cluster=made, start=end - timedelta(days=1), end=end) == 8
    row = Cluster.objects.all_orgs().get()
    assert row.node_count > 2
    assert row.used_cpu_milli
    assert Sample.objects.all_orgs().filter(span="1h").count() >= 24
    hours = Sample.objects.all_orgs().filter(span="1h")
    assert all(row.requested_cpu_milli <= row.cpu_milli for row in hours)
    assert services.beat_sandbox() == 1
    row.refresh_from_db()
    assert row.state == "live"
    services.mark_asleep(actor=alice.actor, cluster_id=row.id)
    assert services.beat_sandbox() == 0, "the agent sleeps with its cluster"
