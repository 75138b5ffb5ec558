"""One thread for one resource: list it, follow it, list it again when the server has forgotten where we were."""

from __future__ import annotations

import logging
import random
import threading
import time

from agent.cluster.kube import Access, Gone, Kube, KubeError
from agent.cluster.store import Store
from agent.transport import Backoff, Unreachable, jittered
from agent.wire.listing import BadListing
from agent.wire.resources import Resource

log = logging.getLogger("curfew.agent.watch")
QUIET_SECONDS = 75.0
WATCH_SECONDS = (280, 560)
ABSENT_SECONDS = 60.0
LONGEST_WAIT = 15.0
_random = random.SystemRandom()


class Watcher(threading.Thread):
    """Keeps the store's records of one resource right until `stop` is set."""

    def __init__(self, resource: Resource, access: Access, store: Store, stop: threading.Event) -> None:
        super().__init__(name=f"watch-{resource.name}", daemon=True)
        self.resource, self._store = resource, store
        self._kube = Kube(access)
        self._stopping = stop
        self._backoff = Backoff(0.5, LONGEST_WAIT)
        store.health(resource.name)

    def close(self) -> None:
        """End a read that waits; the thread ends when `stop` is set."""
        self._kube.close()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow(self.list_once())
            except Gone as gone:
                log.info("%s: listing again, %s", self.resource.name, str(gone) or "the version is too old")
                self._wait(self._backoff.failed())
            except (KubeError, Unreachable, BadListing) as problem:
                self._failed(problem)

    def list_once(self) -> str:
        """List the resource whole; return the version to follow from. Raises KubeError, Gone, Unreachable, BadListing."""
        seen: set[str] = set()

        def found(obj: dict[str, object]) -> None:
            key = self._store.put(self.resource, obj)
            if key:
                seen.add(key)

        version = self._kube.list(self.resource.path, found)
        self._store.retain(self.resource, seen)
        self._store.relisted(self.resource.name)
        self._succeeded()
        return version

    def _follow(self, version: str) -> None:
        """Apply events from the version on. Raises Gone to have the list read again, KubeError for a refusal."""
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                for kind, obj in self._kube.watch(
                    self.resource.path, version, seconds=_random.randint(*WATCH_SECONDS), quiet=QUIET_SECONDS
                ):
                    version = self._apply(kind, obj) or version
                    self._succeeded()
            except (Unreachable, BadListing) as cut:
                if time.monotonic() - began >= QUIET_SECONDS:
                    continue  # silence is how a cluster without news looks
                self._interrupted(cut)
            except KubeError as refused:
                if refused.status in {401, 403, 404}:
                    raise
                self._interrupted(refused, refused.retry_after)
            else:
                self._wait(0.2 if time.monotonic() - began > 1 else self._backoff.failed())

    def _apply(self, kind: str, obj: dict[str, object]) -> str:
        if kind == "DELETED":
            self._store.remove(self.resource, obj)
        elif kind in {"ADDED", "MODIFIED"}:
            self._store.put(self.resource, obj)
        metadata = obj.get("metadata")
        return str(metadata.get("resourceVersion") or "") if isinstance(metadata, dict) else ""

    def _succeeded(self) -> None:
        self._backoff.succeeded()
        self._store.report(self.resource.name, "ok")

    def _interrupted(self, problem: Exception, at_least: float = 0.0) -> None:
        """A watch was cut: one cut is nothing, the second in a row is a state to tell of."""
        if self._backoff.failures:
            self._store.report(self.resource.name, "error", str(problem))
        self._wait(self._backoff.failed(min(at_least, 60.0)))

    def _failed(self, problem: Exception) -> None:
        state, wait = "error", 0.0
        if isinstance(problem, KubeError):
            state, wait = problem.source_state, min(problem.retry_after, 60.0)
        if state == "absent" and self.resource.optional:
            self._store.retain(self.resource, set())
            self._store.report(self.resource.name, "absent", "the cluster does not have this kind")
            self._wait(jittered(ABSENT_SECONDS))
            return
        if self._store.health(self.resource.name).state != state:
            log.warning("%s: %s", self.resource.name, problem)
        self._store.report(self.resource.name, state, str(problem))
        self._wait(self._backoff.failed(wait))

    def _wait(self, seconds: float) -> None:
        self._stopping.wait(seconds)
