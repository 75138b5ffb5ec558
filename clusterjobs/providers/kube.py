"""What Jobs ask of an API server beyond what sleep asks: create, list by label in one namespace, read a pod's log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from clusters.providers.kube import HttpKube, Object, Resource, error_of
from core.providers import BadAnswer, Conflict, NotFound, TimedOut, Unreachable

JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods")
SECRETS = Resource("", "v1", "secrets")
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies")
POD_USAGE = Resource("metrics.k8s.io", "v1beta1", "pods")
_CHUNK = 64 * 1024


class JobsApi(Protocol):
    """One cluster's API server. Every method raises a ProviderError."""

    def version(self) -> str:
        """What it calls itself: v1.36.1."""
        ...

    def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> bool:
        """Create an object; False when one of that name is there already."""
        ...

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None: ...

    def labelled(self, resource: Resource, namespace: str, selector: str) -> list[Object]:
        """Objects of one namespace by label; [] when the kind is not served."""
        ...

    def patch(self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None: ...

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool: ...

    def log(self, namespace: str, pod: str, container: str, *, since: int | None) -> Any:
        """A context with the log's bytes in parts, each line with its time; NotFound when there is none."""
        ...


class HttpJobs(HttpKube):
    """`JobsApi` over HTTP."""

    def version(self) -> str:
        return str(self._call("GET", "/version").get("gitVersion") or "")

    def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> bool:
        path = self._path(resource, namespace, "")
        if path is None:
            raise BadAnswer(f"The cluster does not serve {resource.plural}.")
        try:
            self._call("POST", path, query={"fieldManager": self._manager}, body=body)
        except Conflict:
            return False
        return True

    def labelled(self, resource: Resource, namespace: str, selector: str) -> list[Object]:
        path = self._path(resource, namespace, "")
        if path is None:
            return []
        found: list[Object] = []
        token = ""
        while True:
            query = {"labelSelector": selector, "limit": "500", **({"continue": token} if token else {})}
            try:
                answer = self._call("GET", path, query=query)
            except NotFound:
                return []
            items = answer.get("items")
            if not isinstance(items, list):
                raise BadAnswer("The API server's list has no items.")
            found += items
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token:
                return found

    @contextmanager
    def log(self, namespace: str, pod: str, container: str, *, since: int | None) -> Iterator[Iterator[bytes]]:
        from urllib3 import exceptions as broken

        path = f"{self._path(PODS, namespace, pod)}/log"
        query = {"container": container, "timestamps": "true"}
        if since is not None:
            query["sinceTime"] = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = self._send("GET", path, query=query, preload_content=False)
        try:
            if answer.status >= 400:
                words = answer.read(2000).decode("utf-8", "replace")
                raise error_of(answer.status, {"message": words}, f"GET {path}", None)
            yield answer.stream(_CHUNK, decode_content=True)
        except broken.TimeoutError as late:
            raise TimedOut("The log did not come in time.", detail=str(late)) from None
        except broken.HTTPError as lost:
            raise Unreachable("The connection to the cluster's API server broke.", detail=str(lost)) from None
        finally:
            answer.close()
