"""What the Kubernetes provider adds to lists and patches: watch, apply, evict."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from clusters.providers.kube import Contested, HttpKube, Refused, Resource
from core.providers import Unreachable
from tests.fakes import kube_objects as make
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.integration
PODS, POOLS = Resource("", "v1", "pods"), Resource("karpenter.sh", "v1", "nodepools", False)


@pytest.fixture
def server() -> Iterator[FakeKube]:
    with FakeKube() as server:
        yield server


@pytest.fixture
def kube(server: FakeKube) -> Iterator[HttpKube]:
    from kubernetes.client import ApiClient, Configuration

    with ApiClient(Configuration(host=server.url)) as api:
        yield HttpKube(api)


def pod(name: str, **labels: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": labels}}


def test_a_watch_tells_what_is_there_and_what_comes(server: FakeKube, kube: HttpKube) -> None:
    server.create({**pod("old"), "spec": {}})
    server.create({**pod("placed"), "spec": {"nodeName": "n1"}})
    seen: list[tuple[str, str, float]] = []

    def listen() -> None:
        for kind, obj in kube.watch(PODS, fields="spec.nodeName=", seconds=2):
            seen.append((kind, obj["metadata"]["name"], time.monotonic()))

    listener = threading.Thread(target=listen)
    listener.start()
    while not server.watchers:
        time.sleep(0.01)
    made = time.monotonic()
    server.create({**pod("new"), "spec": {}})
    listener.join(10)
    assert [(k, n) for k, n, _ in seen] == [("ADDED", "old"), ("ADDED", "new")]
    assert seen[1][2] - made < 0.5


def test_a_watch_that_breaks_off_says_so(server: FakeKube, kube: HttpKube) -> None:
    threading.Timer(0.3, server.cut).start()
    with pytest.raises(Unreachable):
        list(kube.watch(PODS, seconds=20))


def test_apply_names_who_owns_the_fields(server: FakeKube, kube: HttpKube) -> None:
    server.create(make.node_pool("general"))
    wanted = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": "general"},
        "spec": {"weight": 7},
    }
    dry = kube.apply(POOLS, "", "general", wanted, manager="ours", dry_run=True)
    assert dry["spec"]["weight"] == 7
    assert server.get("nodepools", "", "general")["spec"].get("weight") != 7
    kube.apply(POOLS, "", "general", wanted, manager="theirs")
    with pytest.raises(Contested) as refused:
        kube.apply(POOLS, "", "general", {**wanted, "spec": {"weight": 9}}, manager="ours")
    assert refused.value.owners == (("theirs", ".spec.weight"),)
    assert not refused.value.transient
    forced = kube.apply(POOLS, "", "general", {**wanted, "spec": {"weight": 9}}, manager="ours", force=True)
    assert forced["spec"]["weight"] == 9


def test_evictions_are_refused_by_budgets_in_their_words(server: FakeKube, kube: HttpKube) -> None:
    held = server.create({**pod("held", app="x"), "spec": {}})
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "x-pdb", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}},
        "status": {"disruptionsAllowed": 0},
    }
    server.create(budget)
    with pytest.raises(Refused) as refused:
        kube.evict("shop", "held", uid=held["metadata"]["uid"])
    assert "x-pdb" in refused.value.detail
    server.change("poddisruptionbudgets", "shop", "x-pdb", {"status": {"disruptionsAllowed": 1}})
    assert kube.evict("shop", "held", uid=held["metadata"]["uid"])
    assert not kube.evict("shop", "held", uid=held["metadata"]["uid"])
