"""`KubeApi` through the cluster's agent: signed batches in heartbeat answers, answers from the agent.

An order lives shorter than the lease of an operation: by the time that another worker may take over, nothing that a killed
one asked for is delivered any more. The caller looks before it changes, each change names the version that was read, and a
deletion its uid; so an answer that is lost costs another look, as with any API server that does not answer in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from clusters.models import Cluster
from clusters.orders import delivery
from clusters.packed import unpack
from clusters.providers.kube import Object, Resource, error_of
from core import clock
from core.providers import BadAnswer, InvalidRequest, NotFound, ProviderError, TimedOut, Unreachable

ANSWER_SECONDS = 25.0
PAUSE = 0.1
READS = frozenset({"GET", "LIST"})
Place = tuple[str, str, str, str]  # group, plural, namespace, name
Calls = list[dict[str, Any]]
Answers = list[bool]


class AgentKube:
    """One cluster's API server, reached by its agent; belongs to one thread."""

    def __init__(self, cluster: Cluster, *, pause: Callable[[float], None] | None = None) -> None:
        self._cluster = cluster
        self._pause = pause or time.sleep
        self._versions: dict[str, str] | None = None
        self._fetched: dict[Place, Object | None] = {}
        self._written: Calls | None = None

    # what sleep asks for

    def version_of(self, group: str) -> str | None:
        if not group:
            return "v1"
        if self._versions is None:
            answer = self._one({"method": "GROUPS"}, "GET /apis")
            self._versions = {
                str(g.get("name")): str((g.get("preferredVersion") or {}).get("version"))
                for g in answer.get("groups") or ()
            }
        return self._versions.get(group)

    def list(self, resource: Resource, *, fields: str = "") -> list[Object]:
        if fields:
            raise _cannot("list by fields")
        call = self._call("LIST", resource)
        if call is None:
            return []
        try:
            found = self._one(call, f"list {resource.plural}").get("items")
        except NotFound:
            return []
        if not isinstance(found, list):
            raise BadAnswer("The agent's list has no items.")
        return found

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        place = (resource.group, resource.plural, namespace, name)
        if place in self._fetched:
            return self._fetched.pop(place)
        call = self._call("GET", resource, namespace, name)
        return self._maybe(call, f"get {resource.plural}")

    def patch(self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None:
        return self._write(self._call("PATCH", resource, namespace, name, body=dict(patch)), f"patch {resource.plural}")

    def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        wanted: Mapping[str, Any],
        *,
        manager: str,
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        if dry_run or not force:
            raise _cannot("apply without taking over")
        call = self._call("APPLY", resource, namespace, name, body=dict(wanted), manager=manager)
        if call is None:
            raise NotFound(f"The cluster does not serve {resource.plural}.{resource.group}.")
        return self._one(call, f"patch {resource.plural}")

    def watch(self, resource: Resource, *, fields: str = "", seconds: float = 30.0) -> Iterator[tuple[str, Object]]:
        raise _cannot("watch")

    def evict(self, namespace: str, name: str, *, uid: str) -> bool:
        raise _cannot("evict pods")

    def can_resize(self) -> bool:
        return False

    def resize(self, namespace: str, name: str, containers: Sequence[Mapping[str, Any]]) -> bool:
        raise _cannot("resize pods")

    def time_service(self, namespace: str, target: str, path: str) -> float | None:
        raise _cannot("call services")

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        call = self._call("DELETE", resource, namespace, name, uid=uid)
        return self._maybe(call, f"delete {resource.plural}") is not None

    # batches

    def prefetch(self, wanted: Sequence[tuple[Resource, str, str]]) -> None:
        """Read many objects in one order; each is handed out once by `get`."""
        self._fetched.clear()
        calls, places = [], []
        for resource, namespace, name in wanted:
            call = self._call("GET", resource, namespace, name)
            if call is not None:
                calls.append(call)
                places.append((resource.group, resource.plural, namespace, name))
        for place, result in zip(places, self._ask(calls) if calls else [], strict=True):
            if result.get("status") == 404:
                self._fetched[place] = None
            elif result.get("status") == 200 and isinstance(result.get("body"), dict):
                self._fetched[place] = result["body"]

    @contextmanager
    def together(self) -> Iterator[Calls]:
        """Within it, changes are noted instead of made; `flush` makes them in one order."""
        self._written = []
        try:
            yield self._written
        finally:
            self._written = None
            self._fetched.clear()

    def flush(self, calls: Sequence[Mapping[str, Any]]) -> Answers:
        """Make noted changes; for each whether it went through. Raises ProviderError when the agent did not answer."""
        return [r.get("status") == 200 for r in self._ask([dict(call) for call in calls])] if calls else []

    # orders

    def _call(self, method: str, resource: Resource, namespace: str = "", name: str = "", **more: Any) -> Any:
        version = self.version_of(resource.group)
        if version is None:
            return None
        place = {"namespace": namespace if resource.namespaced else "", "name": name}
        return {
            "method": method,
            "group": resource.group,
            "version": version,
            "plural": resource.plural,
            **{key: value for key, value in place.items() if value},
            **more,
        }

    def _write(self, call: dict[str, Any] | None, what: str) -> Object | None:
        if call is not None and self._written is not None:
            self._written.append(call)
            return {}
        return self._maybe(call, what)

    def _maybe(self, call: dict[str, Any] | None, what: str) -> Object | None:
        if call is None:
            return None
        try:
            return self._one(call, what)
        except NotFound:
            return None

    def _one(self, call: dict[str, Any], what: str) -> Object:
        (result,) = self._ask([call])
        status = result.get("status")
        if status is None:
            raise Unreachable(
                "The agent got no answer from the API server.", detail=str(result.get("lost") or "")[:300]
            )
        if status == 200 and isinstance(result.get("body"), dict):
            body: Object = result["body"]
            return body
        if status == 200:
            raise BadAnswer("The agent's answer holds no object.")
        error = result.get("error")
        raise error_of(int(status), error if isinstance(error, dict) else {}, what)

    def _ask(self, calls: Calls) -> Calls:
        """One order: written, waited for, read; reads alone are asked for once more when their answer was lost and
        the agent lives. Raises ProviderError."""
        began = clock.now()
        try:
            return self._ask_once(calls)
        except TimedOut:
            self._cluster.refresh_from_db(fields=["heard_at"])
            lives = self._cluster.heard_at is not None and self._cluster.heard_at >= began
            if not lives or any(call["method"] not in READS for call in calls):
                raise
            return self._ask_once(calls)

    def _ask_once(self, calls: Calls) -> Calls:
        order = delivery.ask(self._cluster, calls)
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            row = delivery.answer_of(self._cluster, order)
            if row is None:
                raise Unreachable("The cluster was disconnected.")
            if row.answered_at is not None:
                return _results(row.status, row.detail, row.answer, len(calls))
            if time.monotonic() >= until:
                delivery.withdraw(self._cluster, order)
                raise TimedOut("The cluster's agent did not answer in time.", detail=_heard(self._cluster))
            self._pause(PAUSE)


def _cannot(what: str) -> InvalidRequest:
    """Orders are for sleep and placement; nodes are not steered through an agent."""
    return InvalidRequest(
        f"The cluster's agent does not {what} for us.",
        code="not_by_agent",
        next_step="Connect the cluster with a kubeconfig or through its EKS account.",
    )


def _heard(cluster: Cluster) -> str:
    return (
        f"It was heard last at {cluster.heard_at:%Y-%m-%d %H:%M:%S} UTC." if cluster.heard_at else "It was never heard."
    )


def _results(status: str, detail: str, packed: Any, count: int) -> list[dict[str, Any]]:
    if status != "done":
        raise ProviderError(
            f"The agent {status or 'did not carry out'} the order: {detail}"[:300],
            code="order_refused",
            transient=status == "failed",
            next_step="Install the agent anew with orders allowed, then try again.",
        )
    try:
        found = unpack(packed)["results"]
        assert isinstance(found, list)
        assert len(found) == count
        assert all(isinstance(one, dict) for one in found)
    except (ValueError, KeyError, TypeError, AssertionError):
        raise BadAnswer("The agent's answer cannot be read.") from None
    return found
