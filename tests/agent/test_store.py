"""The agent's picture: specs leave with their last user, events with their hour."""

from __future__ import annotations

import datetime as dt

import pytest

from agent.cluster import store as module
from agent.cluster.store import Store
from agent.wire.codec import iso
from agent.wire.resources import RESOURCES
from tests.fakes import kube_objects as make

pytestmark = pytest.mark.unit
BY_NAME = {r.name: r for r in RESOURCES}
NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


def test_pods_of_one_template_share_their_spec_until_the_last_is_gone() -> None:
    store, template = Store(), make.pod_template("web")
    pods = [make.pod(f"web-{n}", template=template) for n in range(3)]
    for pod in pods:
        store.put(BY_NAME["pods"], pod)
    assert store.counts() == {"pods": 3, "specs": 1}
    for pod in pods[:2]:
        store.remove(BY_NAME["pods"], pod)
    assert store.counts() == {"pods": 1, "specs": 1}
    store.put(BY_NAME["pods"], make.pod("web-2", template=make.pod_template("web", make.container(cpu="2"))))
    assert store.counts() == {"pods": 1, "specs": 1}, "a new spec takes the place of the old"
    store.retain(BY_NAME["pods"], set())
    assert store.counts() == {}
    assert store.digest == Store().digest


def test_one_source_does_not_forget_what_another_told() -> None:
    store = Store()
    store.put(BY_NAME["deployments"], make.deployment("a"))
    store.put(BY_NAME["statefulsets"], make.stateful_set("a"))
    store.retain(BY_NAME["deployments"], set())
    assert store.counts()["workloads"] == 1


def test_events_leave_after_an_hour_and_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EVENTS", 5)
    store = Store()
    for minutes in range(70):
        last = iso(NOW - dt.timedelta(minutes=minutes))
        store.put(BY_NAME["events"], make.event(f"e{minutes}", last=last))
    assert store.counts()["events"] == 70
    store.prune_events(BY_NAME["events"], NOW)
    kept = {key for key, _ in store.cut(full=True).set["events"]}
    assert kept == {make.uid("default", f"e{n}", "event") for n in range(5)}
    store.prune_events(BY_NAME["events"], NOW + dt.timedelta(hours=2))
    assert store.counts() == {}


def test_an_object_without_a_name_is_counted_not_fatal() -> None:
    store = Store()
    assert store.put(BY_NAME["nodes"], {"kind": "Node"}) == ""
    assert store.put(BY_NAME["pods"], {"metadata": None}) == ""
    assert store.skipped == 2
    assert store.counts() == {}
