"""An agent, its cluster and its platform, all real processes' worth of HTTP over loopback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.cluster import live, watch
from agent.cluster.kube import Access, Kube
from agent.cluster.live import ClusterAgent, Settings
from agent.cluster.sender import Pace
from agent.cluster.store import Store
from agent.transport import Endpoint
from agent.wire.resources import RESOURCES
from tests.agent.platform import TOKEN, Platform
from tests.fakes.kube import FakeKube


def until(true: Callable[[], Any], *, seconds: float = 15.0, what: str = "") -> Any:
    """Wait for a truth; fail with a name when it does not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what or true}")


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with FakeKube(bookmark_seconds=0.3) as server:
        server.seed(nodes=4, pods=30)
        yield server


@pytest.fixture
def platform() -> Iterator[Platform]:
    with Platform() as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that fit a test."""
    monkeypatch.setattr(watch, "ABSENT_SECONDS", 0.3)
    monkeypatch.setattr(watch, "LONGEST_WAIT", 0.5)
    monkeypatch.setattr(live, "PROBE_SECONDS", 0.5)


def settings(kube_url: str, platform: Platform, **more: Any) -> Settings:
    more.setdefault("access", Access(Endpoint(kube_url)))
    return Settings(
        platform=Endpoint(platform.url), token=lambda: TOKEN, name="testing", pace=Pace(0.2, 0.1, 0.3), **more
    )


@contextmanager
def running(chosen: Settings) -> Iterator[ClusterAgent]:
    agent = ClusterAgent(chosen)
    agent.meter.interval = 0.5
    agent.sender._backoff.longest = 0.3
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()
        assert not any(t.is_alive() for t in agent._threads), "a thread did not end"


def truth(kube: FakeKube) -> dict[str, dict[str, Any]]:
    """What the records should be: everything listed anew by a store of its own."""
    import json

    store, client = Store(), Kube(Access(Endpoint(kube.url)))
    for resource in RESOURCES:
        if resource.name in {p for _, p in kube.store.tables}:
            client.list(resource.path, lambda obj, r=resource: store.put(r, obj))
    client.close()
    return {c: {k: json.loads(text) for k, text in table} for c, table in store.cut(full=True).set.items()}


def settled(kube: FakeKube, platform: Platform, *, seconds: float = 15.0) -> None:
    """Wait until the platform's records are the cluster's."""
    wanted = truth(kube)
    until(lambda: platform.state.records == wanted, seconds=seconds, what="platform equals cluster")
