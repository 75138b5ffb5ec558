"""Real agents as processes, a fake API server and the real platform as a process of its own, and everything that goes
wrong between them: nothing is lost, the state is right again soon, and the page says why while it is not.

The long form is `python -m tests.campaigns.cluster_faults`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import kube_objects as make
from tests.live.cluster import Connected, Lark

pytestmark = pytest.mark.integration
SECONDS = 60.0


@pytest.fixture(scope="module")
def lark() -> Iterator[Lark]:
    """One platform with heartbeats every second, so that minutes of faults pass in seconds."""
    with Lark() as house:
        yield house


@pytest.fixture
def prod(lark: Lark, tmp_path: Path) -> Iterator[Connected]:
    with lark.connect(tmp_path) as cluster:
        cluster.kube.seed(nodes=3, pods=12)
        yield cluster


def test_an_agent_killed_twice_is_lost_meanwhile_and_misses_nothing(prod: Connected) -> None:
    prod.agents.start()
    prod.settled(SECONDS)
    for turn in range(2):
        prod.agents.kill9()
        prod.kube.create(make.pod(f"born-in-the-dark-{turn}", "team-0"))
        if not turn:
            prod.shows("lost", "has not been heard since", SECONDS)
        prod.agents.start()
        prod.settled(SECONDS)
    assert prod.state() == "live"
    assert prod.alerts() == []


def test_two_agents_at_once_take_turns_and_the_second_takes_over(prod: Connected) -> None:
    prod.agents.start("one", clock_off=-7 * 3600)
    prod.settled(SECONDS)
    prod.agents.start("two", clock_off=9 * 3600)
    prod.until(lambda: "standing by" in prod.agents.log("one"), SECONDS, "the first stands by")
    prod.kube.create(make.pod("seen-by-the-second", "team-0"))
    prod.settled(SECONDS)
    assert abs(prod.row()["newest_sample_age"]) < 330, "hours off at the agent are no hours off in the history"
    prod.agents.kill9("two")
    prod.kube.create(make.pod("seen-by-the-first-again", "team-0"))
    prod.settled(SECONDS)
    assert prod.state() == "live"


def test_messages_lost_doubled_late_cut_and_of_a_newer_format(prod: Connected) -> None:
    prod.agents.start()
    prod.settled(SECONDS)
    prod.road.next(
        "twice", "truncated", "late", "lost", "", "unanswered", "busy", ""
    )  # with pauses, so that waits stay short
    for number in range(7):
        prod.kube.create(make.pod(f"on-a-bad-road-{number}", "team-0"))
        prod.until(lambda wanted=number: len(prod.road.happened) >= min(wanted + 1, 6), SECONDS, "the next mishap")
    prod.settled(SECONDS)
    how = {name for name, _ in prod.road.verdicts}
    assert {"twice", "again", "out of order", "truncated"} <= how
    assert all(status == 400 for name, status in prod.road.verdicts if name == "truncated")
    assert all(status == 200 for name, status in prod.road.verdicts if name == "again"), "twice is as good as once"
    assert prod.state() == "live"


def test_an_agent_of_a_newer_format_is_told_of_and_not_lost(prod: Connected) -> None:
    prod.road.newer = True
    prod.agents.start()
    prod.shows("error", "newer format", SECONDS)
    prod.until(lambda: ("newer", 415) in prod.road.verdicts, SECONDS, "a message of the newer format is refused")
    prod.agents.kill9()
    prod.road.newer = False  # the agent that this server offers
    prod.agents.start()
    prod.settled(SECONDS)


def test_a_refusing_api_server_is_named_on_the_page(prod: Connected) -> None:
    prod.agents.start()
    prod.settled(SECONDS)
    for status, state, place, words in (
        (401, "error", "nodes", "may not list nodes: "),
        (403, "error", "nodes", "may not list nodes: "),
        (429, "error", "nodes", "fails to list nodes: "),
        (500, "error", "nodes", "fails to list nodes: "),
        (500, "live", "pods", "fails to list them: pods"),  # one failing kind leaves the cluster awake
    ):
        fault = prod.kube.fail(f"/api/v1/{place}", status=status, message="not today", times=-1)
        prod.kube.store.compact()
        prod.kube.cut()
        prod.shows(state, words, SECONDS)
        prod.kube.create(make.pod(f"made-meanwhile-{status}-{place}", "team-0"))
        prod.kube.faults.remove(fault)
        prod.settled(SECONDS)
        prod.until(lambda: prod.row()["cause"] == "", SECONDS, "the words are gone")
    assert prod.alerts() == []


def test_a_slow_and_then_a_restarted_api_server(prod: Connected) -> None:
    slow = prod.kube.fail("/api/v1/pods", delay=1.5, times=-1)
    prod.agents.start()
    prod.settled(SECONDS)
    prod.kube.faults.remove(slow)
    prod.kube.down()
    prod.shows("error", "API server", SECONDS)
    prod.kube.up()
    prod.kube.create(make.pod("after-the-restart", "team-0"))
    prod.settled(SECONDS)
    assert prod.state() == "live"
