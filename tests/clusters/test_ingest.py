"""Reports and heartbeats: in order, out of order, twice, cut off, too new, from elsewhere; silence; money."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEntry
from clusters import selectors, services
from clusters.models import Alert, Cluster, ClusterNode, Sample, UsageHistograms
from clusters.services.reports import load
from core.actor import Actor
from costs import totals
from costs.models import Interval
from tests.clusters.conftest import Joined, Time
from tests.clusters.report import Reporter, pack
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
Join = Callable[..., Joined]


def test_a_full_report_fills_the_cluster(join: Join, time: Time, prices: None) -> None:
    joined = join(nodes=4, pods=30)
    row = joined.report()
    assert (row.state, row.node_count, row.pod_count) == ("live", 4, 30)
    assert (row.distribution, row.cloud, row.region, row.version) == ("eks", "aws", "eu-west-1", "v1.33.2-eks")
    nodes = ClusterNode.objects.all_orgs().filter(cluster_id=joined.id)
    assert row.hourly_cost == sum(n.hourly_price for n in nodes)
    assert row.unpriced_nodes == 0
    assert load(row) == joined.reporter.tables
    assert row.cpu_milli == sum(n.cpu_milli for n in nodes) > 0


def test_a_delta_changes_only_what_it_says(join: Join, time: Time, prices: None) -> None:
    joined = join(nodes=4, pods=30)
    joined.report()
    gone = min(joined.reporter.tables["nodes"])
    del joined.reporter.tables["nodes"][gone]
    time.go(10)
    status, answer = joined.send(joined.reporter.delta())
    assert (status, answer["accepted"]) == (200, 2)
    row = joined.row
    assert row.node_count == 3
    assert load(row) == joined.reporter.tables
    assert ClusterNode.objects.all_orgs().get(cluster_id=joined.id, name=gone).gone_at == time.now


def test_a_repeated_message_is_answered_and_changes_nothing(join: Join, time: Time) -> None:
    joined = join()
    body = joined.reporter.full()
    assert joined.send(body)[0] == 200
    before = joined.row.sequence, Sample.objects.all_orgs().count()
    status, answer = joined.send(body)
    assert (status, answer["accepted"]) == (200, 1)
    assert (joined.row.sequence, Sample.objects.all_orgs().count()) == before


def test_a_missing_message_asks_for_everything(join: Join, time: Time) -> None:
    joined = join()
    joined.report()
    joined.reporter.tables["nodes"].popitem()
    joined.reporter.delta()  # lost on the way
    joined.reporter.tables["pods"].popitem()
    status, answer = joined.send(joined.reporter.delta())
    assert (status, answer["code"]) == (409, "resync_required")
    assert joined.row.node_count == 3
    assert joined.send(joined.reporter.full())[0] == 200
    assert load(joined.row) == joined.reporter.tables


@pytest.mark.parametrize(
    ("damage", "status", "code"),
    [
        (lambda body: body[:-20], 400, "malformed"),
        (lambda body: b"", 400, "malformed"),
        (lambda body: b"\x1f\x8b" + b"x" * 50, 400, "malformed"),
        (lambda body: gzip.compress(b"[" * 100_000), 400, "malformed"),
        (lambda body: pack({**json.loads(gzip.decompress(body)), "format": 2}), 415, "unsupported_format"),
        (lambda body: pack({**json.loads(gzip.decompress(body)), "digest": "0" * 32}), 409, "resync_required"),
    ],
    ids=["cut off", "empty", "not gzip", "deep", "newer", "wrong digest"],
)
def test_a_damaged_message_is_refused_whole(join: Join, time: Time, damage: Callable, status: int, code: str) -> None:
    joined = join()
    found, answer = joined.send(damage(joined.reporter.full()))
    assert (found, answer["code"]) == (status, code)
    assert joined.row.node_count == 0
    assert load(joined.row) == {}


def test_records_of_a_wrong_shape_are_refused(join: Join, time: Time) -> None:
    joined = join()
    name = next(iter(joined.reporter.tables["nodes"]))
    joined.reporter.tables["nodes"][name]["allocatable"] = {"cpu": "a lot"}
    assert joined.send(joined.reporter.full())[0] == 400
    assert joined.row.node_count == 0


def test_another_session_takes_over_and_the_former_stands_by(join: Join, time: Time) -> None:
    joined = join()
    joined.report()
    other = Reporter(joined.reporter.tables, uid=joined.reporter.uid, session="s2")
    assert joined.send(other.full())[0] == 200
    time.go(5)
    status, answer = joined.send(joined.reporter.full())
    assert (status, answer["code"]) == (409, "superseded")
    assert joined.beat()[1]["standby"] is True


def test_a_token_used_in_another_cluster_is_refused(join: Join, time: Time) -> None:
    joined = join()
    joined.report()
    stranger = Reporter(joined.reporter.tables, uid="somebody-else")
    status, answer = joined.send(stranger.full())
    assert (status, answer["code"]) == (403, "other_cluster")


def test_one_cluster_cannot_be_connected_twice(join: Join, time: Time) -> None:
    first = join("first")
    first.report()
    second = join("second")
    second.reporter.uid = first.reporter.uid
    assert second.send(second.reporter.full())[0] == 403
    assert second.row.state == "connecting"


def test_silence_is_a_loss_within_45_seconds_and_a_heartbeat_ends_it(join: Join, time: Time) -> None:
    joined = join()
    joined.report()
    joined.beat()
    time.go(35)
    assert services.mark_lost() == 0
    time.go(5)
    assert services.mark_lost() == 1
    row = joined.row
    assert row.state == "lost"
    assert "has not been heard since" in row.cause
    assert Alert.objects.all_orgs().get(cluster_id=row.id, ended_at=None).kind == "lost"
    assert services.mark_lost() == 0
    assert joined.beat()[0] == 200
    assert joined.row.state == "live"
    assert not Alert.objects.all_orgs().filter(cluster_id=row.id, ended_at=None).exists()
    verbs = list(AuditEntry.objects.all_orgs().filter(target_id=str(row.id)).values_list("verb", flat=True))
    assert verbs.count("cluster.lost") == 1


def test_asleep_on_purpose_is_never_lost(join: Join, time: Time, alice: Persona) -> None:
    joined = join()
    joined.report()
    services.mark_asleep(actor=alice.actor, cluster_id=joined.id)
    time.go(3600)
    assert services.mark_lost() == 0
    assert joined.row.state == "asleep"
    services.mark_awake(actor=alice.actor, cluster_id=joined.id)
    assert joined.row.state == "connecting"
    joined.beat()
    assert joined.row.state == "live"


def test_a_heartbeat_that_cannot_reach_the_api_names_the_cause(join: Join, time: Time) -> None:
    joined = join()
    joined.report()
    joined.beat(api_server={"reachable": False, "problem": "401 Unauthorized"})
    assert joined.row.state == "error"
    assert "401 Unauthorized" in joined.row.cause
    joined.beat()
    assert (joined.row.state, joined.row.cause) == ("live", "")


def test_a_newer_agent_is_an_error_with_its_cause_and_not_a_loss(join: Join, time: Time) -> None:
    joined = join()
    joined.report()
    joined.beat()
    for _ in range(5):
        time.go(15)
        assert joined.beat(format=2)[0] == 415
        services.mark_lost()
    assert joined.row.state == "error"
    assert "newer format" in joined.row.cause
    assert joined.row.node_count == 3, "what was known stays"
    joined.beat()
    assert (joined.row.state, joined.row.cause) == ("live", "")
    assert joined.send(b"noise")[0] == 400
    assert joined.row.state == "live"


def test_a_report_that_does_not_arrive_is_said_while_heartbeats_do(join: Join, time: Time) -> None:
    joined = join()
    joined.report()
    joined.beat(delivery={"problem": "the platform cannot read the message: cut off"})
    assert joined.row.state == "live"
    assert "did not arrive: the platform cannot read the message: cut off" in joined.row.cause
    joined.beat(delivery={"problem": ""})
    assert joined.row.cause == ""


def test_a_heartbeat_of_a_quiet_cluster_takes_two_queries(join: Join, time: Time) -> None:
    joined = join()
    joined.report()
    joined.beat()
    time.go(15)
    body = joined.reporter.beat()
    with CaptureQueriesContext(
        connection,
    ) as seen:
        assert services.record_heartbeat(token=joined.token, body=body)[0] == 200
    assert len(seen) == 2


def test_the_ledger_is_price_times_time_to_the_micro_dollar(
    join: Join, time: Time, prices: None, alice: Persona
) -> None:
    joined = join(nodes=6, pods=10)
    spent = Decimal(0)
    joined.report()
    begin = time.now
    for _ in range(5):
        seconds = 1234
        spent += joined.row.hourly_cost * seconds / 3600
        time.go(seconds)
        joined.reporter.tables["nodes"].popitem()
        assert joined.send(joined.reporter.delta())[0] == 200
    sums = totals.between(alice.actor, begin, time.now).by_resource()
    assert abs(sums[joined.id] - spent) < Decimal("0.000001")
    assert Interval.objects.all_orgs().filter(resource_id=joined.id, ended_at=None).count() == 1


def test_nodes_without_a_price_are_counted_and_said(join: Join, time: Time) -> None:
    row = join().report()
    assert (row.hourly_cost, row.unpriced_nodes) == (None, 3)


def test_shares_add_up_to_the_node_price(join: Join, time: Time, prices: None, alice: Persona) -> None:
    joined = join(nodes=8, pods=80)
    row = joined.report(usage=joined.reporter.usage(at=time.now))
    summary = selectors.summary_of(actor=alice.actor, cluster=row)
    assert summary is not None
    parts = {name: Decimal(value) for name, value in summary.costs.items() if name != "waiting_pods"}
    assert abs(parts["workloads"] + parts["idle"] + parts["overhead"] - row.hourly_cost) < Decimal("0.000001")
    assert min(parts.values()) >= 0
    assert row.grade
    assert row.used_cpu_milli == 8 * 2000


def test_usage_makes_history_and_histograms(join: Join, time: Time) -> None:
    joined = join()
    joined.report(usage=joined.reporter.usage(at=time.now))
    time.go(60)
    assert joined.send(joined.reporter.delta(usage=joined.reporter.usage(at=time.now)))[0] == 200
    spans = dict(Sample.objects.all_orgs().filter(cluster_id=joined.id).values_list("span", "n"))
    assert set(spans) == {"5m", "1h", "1d"}
    assert spans["1d"] >= 2
    assert UsageHistograms.objects.all_orgs().get(cluster_id=joined.id).containers > 0


def test_hours_from_before_feed_histograms_and_make_no_history(join: Join, time: Time) -> None:
    joined = join()
    before = time.now - timedelta(days=3)
    assert joined.beat(usage_until="wanted")[1]["usage_until"] is None
    samples = [{**sample, "past": True, "nodes": {}} for sample in joined.reporter.usage(at=before)]
    row = joined.report(usage=samples)
    assert UsageHistograms.objects.all_orgs().get(cluster_id=joined.id).containers > 0
    assert not Sample.objects.all_orgs().filter(at__lt=time.now - timedelta(days=2)).exists()
    assert row.used_cpu_milli is None, "what was used three days ago is not used now"
    assert joined.beat(usage_until="wanted")[1]["usage_until"] == before.isoformat()
    assert "usage_until" not in joined.beat()[1]


def test_a_clock_hours_ahead_is_set_right(join: Join, time: Time) -> None:
    joined = join()
    ahead = time.now + timedelta(hours=5)
    body = joined.reporter.full(usage=joined.reporter.usage(at=ahead))
    assert services.ingest_snapshot(token=joined.token, body=body, sent_at=ahead.timestamp())[0] == 200
    assert Sample.objects.all_orgs().filter(at__gt=time.now).count() == 0


def test_a_disconnected_cluster_leaves_the_ledger_closed_and_its_token_dead(
    join: Join, time: Time, prices: None, alice: Persona, client: Client
) -> None:
    joined = join()
    joined.report()
    time.go(3600)
    services.disconnect_cluster(actor=alice.actor, cluster_id=joined.id)
    assert Interval.objects.all_orgs().get(resource_id=joined.id).ended_at == time.now
    answer = client.post(
        "/api/agent/cluster/heartbeat",
        joined.reporter.beat(),
        content_type="application/json",
        headers={"Authorization": f"Agent {joined.made.token}"},
    )
    assert answer.status_code == 401
    assert not Cluster.objects.all_orgs().exists()


def test_over_http_with_the_agents_token_only(
    join: Join, time: Time, client: Client, alice: Persona, client_of: Callable
) -> None:
    joined = join()
    body = joined.reporter.full()
    url = "/api/agent/cluster/snapshot"
    packed = {"Content-Encoding": "gzip"}
    assert client.post(url, body, content_type="application/json", headers=packed).status_code == 401
    assert client_of(alice).post(url, body, content_type="application/json", headers=packed).status_code == 403
    mine = {**packed, "Authorization": f"Agent {joined.made.token}"}
    answer = client.post(url, body, content_type="application/json", headers=mine)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    enrol = {**packed, "Authorization": f"Agent {joined.made.enrolment}"}
    assert client.post(url, body, content_type="application/json", headers=enrol).status_code == 401


def test_a_price_that_changes_counts_from_then_on(join: Join, time: Time, prices: None, alice: Persona) -> None:
    from costs.models import CatalogPrice

    joined = join(nodes=2, pods=4)
    before = joined.report().hourly_cost
    CatalogPrice.objects.update(hourly=Decimal(2))
    time.go(3600)
    assert services.reprice_all(actor=Actor.system("price_book")) == 1
    row = joined.row
    assert row.hourly_cost == 4 != before
    assert [i.price for i in Interval.objects.all_orgs().filter(resource_id=joined.id).order_by("started_at")] == [
        before,
        4,
    ]


def test_another_organization_sees_nothing(join: Join, time: Time, mallory: Persona) -> None:
    join().report()
    found = selectors.get_registry(actor=mallory.actor, filters=selectors.Filters())
    assert (found.heads_up.clusters, list(found.page.object_list)) == (0, [])


def test_two_messages_at_once_do_not_mix(join: Join, time: Time) -> None:
    from clusters.inventory import ingest
    from clusters.services import reports
    from clusters.services.heartbeats import cluster_of

    joined = join()
    joined.report()
    stale = cluster_of(joined.token)
    joined.reporter.tables["pods"].popitem()
    body = joined.reporter.delta()
    message = ingest.read(body)
    prepared = reports.prepare(stale, message, time.now)
    assert joined.send(body)[0] == 200
    assert reports.store(stale, message, prepared, time.now) is False
    assert load(joined.row) == joined.reporter.tables


def test_quiet_clusters_get_their_look(join: Join, time: Time) -> None:
    joined = join()
    joined.report()
    time.go(600)
    joined.beat()
    assert services.add_quiet_looks() == 1
    assert services.add_quiet_looks() == 0
    time.go(86_400 * 10)
    assert services.forget_old() > 0
    assert not Sample.objects.all_orgs().filter(span="5m").exists()
