"""The agent against an API server and a platform: everything that goes wrong on both sides."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agent.cluster.kube import Access, Kube
from agent.cluster.live import Settings
from agent.transport import Endpoint, read_token
from tests.agent.conftest import running, settings, settled, until
from tests.agent.platform import Platform
from tests.fakes import kube_objects as make
from tests.fakes.kube import FakeKube
from tests.fakes.server import Answer

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("quick")]


def test_first_message_is_the_whole_cluster(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)):
        settled(kube, platform)
        first = platform.messages[0]
        assert (first.kind, first.sequence) == ("full", 1)
        assert platform.cluster is not None
        assert platform.cluster.version == "v1.36.1-eks-0f1e2d3"
        assert platform.cluster.distribution == "eks"
        assert platform.cluster.name == "testing"
        assert len(platform.snapshot.nodes) == 4
        assert len(platform.snapshot.pods) == 30


def test_changes_arrive_as_deltas(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)):
        settled(kube, platform)
        pod = kube.all("pods", "")[0]["metadata"]
        kube.change("nodes", "", kube.all("nodes", "")[0]["metadata"]["name"], {"spec": {"unschedulable": True}})
        kube.delete("pods", pod["namespace"], pod["name"])
        kube.create(make.deployment("fresh", "team-0", replicas=5))
        settled(kube, platform)
        assert {m.kind for m in platform.messages[1:]} == {"delta"}
        assert f"{pod['namespace']}/{pod['name']}" not in platform.snapshot.pods
        assert platform.snapshot.workloads["Deployment/team-0/fresh"].replicas == 5
        changed = sum(len(m.changes) for m in platform.messages[1:])
        assert changed <= 5, "a delta holds what changed, not more"


def test_status_heartbeats_of_nodes_are_no_change(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)) as agent:
        settled(kube, platform)
        name = kube.all("nodes", "")[0]["metadata"]["name"]
        conditions = [{"type": "Ready", "lastHeartbeatTime": make.stamp(999)}]
        version = kube.change("nodes", "", name, {"status": {"conditions": conditions}})["metadata"]["resourceVersion"]
        kube.change("nodes", "", name, {"metadata": {"labels": {"seen": version}}})
        settled(kube, platform)
        digest = agent.store.digest
        kube.change(
            "nodes", "", name, {"status": {"conditions": [{"type": "Ready", "lastHeartbeatTime": make.stamp(1999)}]}}
        )
        time.sleep(0.5)
        assert agent.store.digest == digest


def test_a_forgotten_version_is_listed_anew(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)) as agent:
        settled(kube, platform)
        before = agent.store.health("pods").relists
        with kube.store.lock:  # what happens now is never seen by a watch
            for pod in kube.all("pods", "")[:5]:
                kube.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
            kube.store.compact()
            kube.cut()
        settled(kube, platform)
        assert agent.store.health("pods").relists > before
        assert len(platform.snapshot.pods) == 25


def test_a_cut_watch_goes_on_where_it_was(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)) as agent:
        settled(kube, platform)
        before = agent.store.health("pods").relists
        for turn in range(5):
            kube.cut()
            kube.create(make.pod(f"after-cut-{turn}", "team-0"))
        settled(kube, platform)
        assert agent.store.health("pods").relists == before, "a cut needs no list"


def test_a_watch_that_opens_in_the_moment_of_the_stop_does_not_hold_it(
    kube: FakeKube, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, watch = threading.Event(), Kube.watch

    def late(self: Kube, *args: Any, **how: Any) -> Iterator[Any]:
        began.set()
        time.sleep(0.5)
        yield from watch(self, *args, **how)

    with running(settings(kube.url, platform)):
        settled(kube, platform)
        monkeypatch.setattr(Kube, "watch", late)
        kube.cut()
        assert began.wait(5)


def test_the_api_server_is_restarted(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)) as agent:
        settled(kube, platform)
        kube.down()
        until(lambda: agent.store.health("nodes").state == "error", what="the cause is shown")
        until(lambda: platform.beats[-1].sources["nodes"].state == "error")
        assert platform.beats[-1].sources["nodes"].detail
        until(lambda: platform.beats[-1].raw["api_server"]["reachable"] is False)
        kube.create(make.pod("made-in-the-dark", "team-0"))
        kube.up()
        settled(kube, platform)
        until(lambda: {s.state for s in platform.beats[-1].sources.values()} == {"ok"})


@pytest.mark.parametrize(
    ("status", "state"), [(401, "unauthorized"), (403, "forbidden"), (429, "error"), (500, "error"), (503, "error")]
)
def test_a_refusing_api_server_is_named_and_survived(
    kube: FakeKube, platform: Platform, status: int, state: str
) -> None:
    with running(settings(kube.url, platform)) as agent:
        settled(kube, platform)
        records = dict(platform.state.records["pods"])
        fault = kube.fail("/api/v1/pods", status=status, message="not today", times=-1)
        kube.store.compact()
        kube.cut()
        until(lambda: agent.store.health("pods").state == state)
        until(lambda: platform.beats[-1].sources["pods"].state == state)
        assert "not today" in platform.beats[-1].sources["pods"].detail
        assert platform.state.records["pods"] == records, "what is known stays, it is only old"
        kube.delete("pods", *_first_pod(kube))
        kube.faults.remove(fault)
        settled(kube, platform)


def _first_pod(kube: FakeKube) -> tuple[str, str]:
    metadata = kube.all("pods", "")[0]["metadata"]
    return metadata["namespace"], metadata["name"]


def test_one_refused_kind_does_not_hold_up_the_others(kube: FakeKube, platform: Platform) -> None:
    kube.deny(resource="horizontalpodautoscalers")
    with running(settings(kube.url, platform)):
        message = until(lambda: platform.messages and platform.messages[0], what="a first message")
        assert message.sources["horizontalpodautoscalers"].state == "forbidden"
        assert 'cannot list resource "horizontalpodautoscalers"' in message.sources["horizontalpodautoscalers"].detail
        assert message.sources["nodes"].state == "ok"
        assert "autoscalers" not in platform.state.records
        kube.create(make.autoscaler("app", "team-0"))
        kube.denied.clear()
        settled(kube, platform)
        assert "team-0/app" in platform.snapshot.autoscalers


def test_a_slow_and_a_breaking_api_server(kube: FakeKube, platform: Platform) -> None:
    kube.fail("GET /api/v1/pods?limit", cut_after=3000, times=2)
    kube.fail("GET /apis/apps/v1/deployments?limit", delay=1.0)
    with running(settings(kube.url, platform)):
        until(lambda: not kube.faults)
        settled(kube, platform)


def test_kinds_that_come_and_go(platform: Platform) -> None:
    with FakeKube(absent=("karpenter.sh", "metrics.k8s.io")) as kube:
        kube.seed(nodes=2, pods=6, karpenter=False, usage=False)
        with running(settings(kube.url, platform)) as agent:
            settled(kube, platform)
            assert agent.store.health("nodepools").state == "absent"
            until(lambda: agent.store.health("metrics").state == "absent")
            kube.store.install("karpenter.sh")
            kube.create(make.node_pool("general"))
            settled(kube, platform)
            assert platform.snapshot.node_pools["general"].limits == {"cpu": "1000", "memory": "4000Gi"}
            kube.store.uninstall("karpenter.sh")
            kube.cut()
            until(lambda: "node_pools" not in platform.state.records)


def test_usage_is_sampled(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)):
        sample = until(lambda: platform.samples and platform.samples[0])
        assert set(sample.nodes) == {n["metadata"]["name"] for n in kube.all("nodes", "")}
        wanted = kube.all("pods", "metrics.k8s.io")[0]
        key = f"{wanted['metadata']['namespace']}/{wanted['metadata']['name']}"
        box = wanted["containers"][0]
        assert sample.pods[key][box["name"]].cpu == int(box["usage"]["cpu"].removesuffix("n"))
        assert sample.pods[key][box["name"]].memory == int(box["usage"]["memory"].removesuffix("Ki")) * 1024
        assert sample.window_seconds == 15
        until(lambda: len(platform.samples) >= 3)
        numbers = [s.number for s in platform.samples]
        assert numbers == list(range(1, len(numbers) + 1)), "each sample once, in order"


def test_the_platform_is_away_for_a_while(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)) as agent:
        settled(kube, platform)
        platform.away = True
        for number in range(10):
            kube.create(make.pod(f"meanwhile-{number}", "team-0"))
        until(lambda: agent.sender.figures.failures >= 3)
        assert "cannot be reached" in agent.sender.figures.last_problem
        platform.away = False
        settled(kube, platform)
        until(lambda: platform.beats[-1].raw["delivery"]["problem"] == "")
        until(lambda: len(platform.samples) > 3)
        numbers = [s.number for s in platform.samples]
        assert numbers == sorted(set(numbers)), "no sample twice"


def test_lost_answers_do_no_harm(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)):
        settled(kube, platform)
        platform.deaf = True
        kube.create(make.pod("heard-unanswered", "team-0"))
        until(lambda: "team-0/heard-unanswered" in platform.state.records["pods"])
        time.sleep(0.3)
        platform.deaf = False
        kube.create(make.pod("later", "team-0"))
        settled(kube, platform)
        assert 409 not in platform.verdicts, "a repeated message is accepted, not fought over"
        assert [m.kind for m in platform.messages].count("full") == 1


def test_a_platform_that_forgot_gets_everything_anew(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)):
        settled(kube, platform)
        platform.forget()
        settled(kube, platform)
        assert platform.messages[-1].kind == "full" or [m.kind for m in platform.messages].count("full") >= 2


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 500, 502, 503])
def test_a_refusing_platform_is_waited_for(kube: FakeKube, platform: Platform, status: int) -> None:
    with running(settings(kube.url, platform)) as agent:
        settled(kube, platform)
        agent.sender._backoff.longest = 0.1
        platform.fail("snapshot", Answer(status, {"code": "testing"}), times=3)
        kube.create(make.pod("patience", "team-0"))
        if status in {401, 403, 413}:  # these wait a minute; the wait is what is tested in test_sender
            until(lambda: agent.sender.figures.failures)
            agent.sender.wake.set()
            until(lambda: agent.sender.figures.failures >= 2)
            agent.sender.wake.set()
            until(lambda: agent.sender.figures.failures >= 3)
            agent.sender.wake.set()
        settled(kube, platform)


def test_two_agents_of_one_cluster_do_not_fight(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)) as first:
        settled(kube, platform)
        with running(settings(kube.url, platform)) as second:
            until(lambda: platform.held.session == second.outbox.session)
            until(lambda: first.sender.figures.standby, what="the first stands by")
            kube.create(make.pod("seen-by-the-second", "team-0"))
            settled(kube, platform)
            assert platform.held.session == second.outbox.session
            fulls = [m.session for m in platform.messages if m.kind == "full"]
            assert fulls.count(first.outbox.session) == 1
            assert fulls.count(second.outbox.session) == 1


def test_a_rotated_service_account_token_is_used(platform: Platform, tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "token"
    file.write_text("first\n")
    with FakeKube(token="first") as kube:
        kube.seed(nodes=1, pods=2)
        chosen: Settings = settings(kube.url, platform, access=Access(Endpoint(kube.url), read_token("", str(file))))
        with running(chosen) as agent:
            until(lambda: agent.store.health("pods").state == "ok")
            kube.token = "second"
            kube.cut()
            until(lambda: agent.store.health("pods").state == "unauthorized")
            file.write_text("second")
            until(lambda: agent.store.health("pods").state == "ok")


def test_a_dead_part_ends_the_process(kube: FakeKube, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.cluster.live import ClusterAgent

    monkeypatch.setattr("threading.excepthook", lambda hook: None)
    agent = ClusterAgent(settings(kube.url, platform))
    monkeypatch.setattr(agent.heartbeat, "beat", lambda: 1 / 0)
    agent.start()
    try:
        assert agent.wait() == 1
    finally:
        agent.stop()


def test_sync_now_hurries_the_sender(kube: FakeKube, platform: Platform) -> None:
    chosen = settings(kube.url, platform)
    assert chosen.pace is not None
    with running(chosen) as agent:
        settled(kube, platform)
        until(lambda: len(agent.samples) == 0)
        agent.meter.interval = 600
        chosen.pace.snapshot = 120.0
        time.sleep(1.0)
        kube.create(make.pod("urgent", "team-0"))
        time.sleep(0.3)
        platform.told = {"sync_now": True}
        settled(kube, platform, seconds=5)
