"""Usage from before the agent came, out of a Prometheus: each hour once, in order, and nothing made up."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest

from agent.cluster.kube import Access
from agent.cluster.outbox import Samples
from agent.cluster.prometheus import DAYS, Backfill
from agent.cluster.store import Store
from agent.transport import Endpoint
from agent.wire.codec import iso
from tests.agent.conftest import running, settings, until
from tests.agent.platform import Platform
from tests.fakes.kube import FakeKube
from tests.fakes.server import Answer, FakeServer, Request

pytestmark = pytest.mark.integration
HOUR = 3600
NOW = dt.datetime(2026, 9, 20, 10, 17, tzinfo=dt.UTC)


class Prometheus(FakeServer):
    """Answers range queries of two containers: half a core and 64 MiB, and one whose CPU alone is known."""

    def answer(self, request: Request) -> Answer:
        if request.path != "/api/v1/query_range":
            return Answer(404, {"status": "error"})
        start, end, step = (int(request.query[name]) for name in ("start", "end", "step"))
        moments = range(start, end + 1, step)

        def series(pod: str, value: str) -> dict[str, Any]:
            labels = {"namespace": "shop", "pod": pod, "container": "app"}
            return {"metric": labels, "values": [[moment, value] for moment in moments]}

        if "cpu_usage" in request.query["query"]:
            found = [series("web-0", "0.5"), series("web-1", "0.25"), {"metric": {}, "values": [[start, "1"]]}]
        else:
            found = [series("web-0", str(64 * 1024**2)), series("web-1", "NaN")]
        return Answer(200, {"status": "success", "data": {"resultType": "matrix", "result": found}})


def _run(server: FakeServer, since: dt.datetime | None) -> tuple[Store, list[dict[str, Any]]]:
    import json

    store, samples, found = Store(), Samples(most=5000), []
    done = threading.Event()

    def take() -> None:
        while not done.is_set() or len(samples):
            for one in samples.first(100):
                found.append(json.loads(one.text()))
                samples.taken(one.number)
            done.wait(0.005)

    taker = threading.Thread(target=take)
    taker.start()
    backfill = Backfill(Access(Endpoint(server.url)), store, samples, threading.Event(), lambda: since, now=lambda: NOW)
    backfill._backoff.first = 0.01
    backfill.run()
    backfill.close()
    done.set()
    taker.join()
    return store, found


def test_fourteen_days_are_read_hour_by_hour() -> None:
    with Prometheus() as server:
        store, found = _run(server, None)
    times = [one["at"] for one in found]
    assert times == sorted(set(times))
    assert len(times) == DAYS * 24
    assert times[-1] == "2026-09-20T10:00:00Z"
    assert found[0]["pods"]["shop/web-0"] == {"app": [500_000_000, 64 * 1024**2]}
    assert found[0]["pods"]["shop/web-1"] == {"app": [250_000_000, None]}, "what is not known is not zero"
    assert set(found[0]["pods"]) == {"shop/web-0", "shop/web-1"}
    assert all(one["past"] and not one["nodes"] for one in found)
    assert store.health("prometheus").state == "ok"


def test_what_the_platform_has_is_not_read_again() -> None:
    with Prometheus() as server:
        _, found = _run(server, NOW - dt.timedelta(hours=3))
        assert [one["at"][11:13] for one in found] == ["09", "10"]
        _, found = _run(server, NOW - dt.timedelta(minutes=5))
        assert found == []


def test_a_prometheus_that_breaks_now_and_then_costs_no_hour() -> None:
    with Prometheus() as server:
        server.fail("query_range", Answer(503, {"status": "error"}), times=1)
        server.fail("query_range", Answer(200, {"status": "error"}), times=1)
        _, found = _run(server, NOW - dt.timedelta(days=1))
    assert len({one["at"] for one in found}) == len(found) == 23


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(403, {"status": "error"}), "answered 403"),
        (Answer(200, {"status": "success", "data": {"result": None}}), "range of series"),
        (Answer(200, "<html>", kind="text/html"), "range of series"),
    ],
)
def test_one_that_never_answers_is_given_up_and_told_of(answer: Answer, words: str) -> None:
    with Prometheus() as server:
        server.fail("query_range", answer, times=99)
        store, found = _run(server, None)
    assert found == []
    assert store.health("prometheus").state == "error"
    assert words in store.health("prometheus").detail


@pytest.mark.usefixtures("quick")
def test_an_agent_sends_the_past_before_the_present(kube: FakeKube, platform: Platform) -> None:
    platform.usage_until = iso(dt.datetime.now(dt.UTC) - dt.timedelta(hours=5))
    with Prometheus() as server, running(settings(kube.url, platform, prometheus=Access(Endpoint(server.url)))):
        until(lambda: any(not sample.past for sample in platform.samples), what="a live sample")
        kinds = [sample.past for sample in platform.samples]
        assert kinds == sorted(kinds, reverse=True)
        assert kinds.count(True) in (4, 5)
        assert platform.beats[-1].sources["prometheus"].state == "ok"
        until(lambda: "usage_until" not in platform.beats[-1].raw, what="it asks once")


@pytest.mark.usefixtures("quick")
def test_without_a_prometheus_nothing_is_asked(kube: FakeKube, platform: Platform) -> None:
    with running(settings(kube.url, platform)):
        until(lambda: platform.samples)
        assert all("usage_until" not in beat.raw for beat in platform.beats)
        assert "prometheus" not in platform.beats[-1].sources
