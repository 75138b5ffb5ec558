"""A platform with quick agents, clusters connected to it, and what their pages say: for the trials of faults."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fakes import kube_objects as make
from tests.fakes.kube import FakeKube
from tests.live.agents import Agents, Road, digest_of
from tests.live.client import Browser
from tests.live.processes import wait_for
from tests.live.server import Curfew, Embedded

OWNER = "alice@larkspur.test"


class Lark:
    """One organization on a platform of its own, whose agents beat every second."""

    def __init__(self, *, heartbeat: int = 1) -> None:
        self.curfew: Curfew = Embedded(CURFEW_AGENT_HEARTBEAT_SECONDS=str(heartbeat))
        self._number = 0

    def __enter__(self) -> Self:
        self.curfew.__enter__()
        self.api = self.curfew.member("Larkspur", OWNER)
        self.browser = self.curfew.browser(OWNER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.curfew.__exit__(kind, error, trace)

    @contextmanager
    def connect(self, folder: Path) -> Iterator[Connected]:
        """A new cluster, its API server, its road and its agents; nothing runs yet."""
        self._number += 1
        answer = self.api.post("/api/clusters", {"name": f"lark-{self._number}"})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        with (
            FakeKube(bookmark_seconds=1.0) as kube,
            Road(self.curfew.base_url) as road,
            Agents(kube, road, made["agent_token"], folder) as agents,
        ):
            system = make.namespace("kube-system")  # the uid of this one is the cluster's
            kube.delete("namespaces", "", "kube-system")
            kube.create({**system, "metadata": {**system["metadata"], "uid": f"uid-of-lark-{self._number}"}})
            yield Connected(self, self.browser, made["id"], kube, road, agents)


class Connected:
    """One cluster of the trials."""

    def __init__(
        self, lark: Lark, browser: Browser, cluster_id: str, kube: FakeKube, road: Road, agents: Agents
    ) -> None:
        self.lark, self.browser, self.id = lark, browser, cluster_id
        self.kube, self.road, self.agents = kube, road, agents
        self.waited: list[float] = []

    def row(self) -> dict[str, Any]:
        """State, cause, digest and counts as the database holds them."""
        return dict(self.lark.curfew.inspector.ask("cluster", cluster_id=self.id))

    def state(self) -> str:
        return str(self.row()["state"])

    def alerts(self) -> list[str]:
        """Titles of the open alerts about silence and unreadable servers."""
        return list(self.row()["alerts"])

    def until(self, question: Callable[[], Any], seconds: float, what: str) -> Any:
        child = next(iter(self.agents.running.values()), None)
        try:
            return wait_for(question, what=what, seconds=seconds, every=0.2)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.row()}\n{child.tail(1500) if child else ''}") from None

    def settled(self, seconds: float) -> float:
        """Wait until the platform holds exactly what the API server holds, and says that it lives; returns how long."""
        began = time.monotonic()
        wanted = digest_of(self.kube)

        def right() -> bool:
            row = self.row()
            return row["digest"] == wanted and row["state"] == "live"

        self.until(right, seconds, "the platform holds what the cluster holds")
        self.waited.append(time.monotonic() - began)
        return self.waited[-1]

    def shows(self, state: str, words: str, seconds: float) -> None:
        """Wait until the cluster is in a state, and its page says these words."""

        def told() -> bool:
            return self.state() == state and words in self.page()

        self.until(told, seconds, f"{state}, and the page says {words!r}")

    def page(self) -> str:
        """The page of the cluster as a person sees it, without marks."""
        answer = self.browser.http.get(f"/clusters/{self.id}/?tab=compliance")
        assert answer.status_code == 200, answer.status_code
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)).replace("&#x27;", "'").replace("&quot;", '"')
