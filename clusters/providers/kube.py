"""What sleep and policies ask of an API server: lists, watches, single objects, patches, evictions, deletions. Plain JSON
objects in and out.

Every method raises a ProviderError: Conflict (409), Throttled (429), TimedOut, Unreachable, PermissionDenied naming the
right, BadAnswer, InvalidRequest; a server's own failure (5xx) is transient.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from core.providers import (
    AuthenticationFailed,
    BadAnswer,
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProviderError,
    Throttled,
    TimedOut,
    Unreachable,
)

PAGE = 500
TIMEOUTS = (3.0, 20.0)
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML
STRATEGIC = "application/strategic-merge-patch+json"
RESIZE = "/api/v1/namespaces/{}/pods/{}/resize"
PROBE_SECONDS = 10.0
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API serves a kind; `version` is the one to fall back on when the group names none."""

    group: str
    version: str
    plural: str
    namespaced: bool = True


@dataclass(eq=False)
class Contested(Conflict):
    """Fields that an apply asks for belong to somebody else; `owners`: (field manager, field). Nothing was changed."""

    message: str = "Another field manager owns these fields."
    code: str = "contested"
    transient: bool = False
    owners: tuple[tuple[str, str], ...] = ()


@dataclass(eq=False)
class Refused(Throttled):
    """A disruption budget does not allow the eviction now."""

    code: str = "budget"


class KubeApi(Protocol):
    """One cluster's API server."""

    def version_of(self, group: str) -> str | None:
        """The group's preferred version; None when the group is not served."""
        ...

    def list(self, resource: Resource, *, fields: str = "") -> list[Object]:
        """Every object of a kind, in all namespaces, page by page; [] when the kind is not served. `fields` selects."""
        ...

    def watch(self, resource: Resource, *, fields: str = "", seconds: float = 30.0) -> Iterator[tuple[str, Object]]:
        """(ADDED | MODIFIED | DELETED, object), what is there first, until the server ends it after `seconds`."""
        ...

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None: ...

    def patch(self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None:
        """Apply an RFC 7386 merge patch; None when the object is gone."""
        ...

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
        """Server-side apply: what is in `wanted` is the manager's, what it wants no longer is removed. Raises Contested;
        `force` takes the fields over. `dry_run`: what it would come to."""
        ...

    def evict(self, namespace: str, name: str, *, uid: str) -> bool:
        """Ask to evict the pod of that uid; False when it is gone. Raises Refused while a budget does not allow it."""
        ...

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        """Delete the object of that uid; False when it is gone already."""
        ...

    def can_resize(self) -> bool:
        """Whether the server resizes pods while they run (the subresource pods/resize)."""
        ...

    def resize(self, namespace: str, name: str, containers: Sequence[Mapping[str, Any]]) -> bool:
        """Give a running pod's containers other resources; False when it is gone. InvalidRequest when it may not be."""
        ...

    def time_service(self, namespace: str, target: str, path: str) -> float | None:
        """Seconds that a service (`name:port`) takes to answer through the API server; None when it fails to."""
        ...


class HttpKube:
    """`KubeApi` over a `kubernetes.client.ApiClient` that the caller opened; nothing is tried twice in here."""

    def __init__(self, api: Any, *, manager: str = "curfew") -> None:
        self._api = api
        self._manager = manager
        self._versions: dict[str, str] | None = None

    def version_of(self, group: str) -> str | None:
        if not group:
            return "v1"
        if self._versions is None:
            answer = self._call("GET", "/apis")
            self._versions = {
                str(g.get("name")): str((g.get("preferredVersion") or {}).get("version"))
                for g in answer.get("groups") or ()
            }
        return self._versions.get(group)

    def list(self, resource: Resource, *, fields: str = "") -> list[Object]:
        return list(self._pages(resource, fields))

    def _pages(self, resource: Resource, fields: str, versions: set[str] | None = None) -> Iterator[Object]:
        """Objects page by page; the list's version is added to `versions`."""
        path = self._path(resource, "", "")
        if path is None:
            return
        token = ""
        while True:
            query = {"limit": str(PAGE), **({"continue": token} if token else {})}
            query |= {"fieldSelector": fields} if fields else {}
            try:
                answer = self._call("GET", path, query=query)
            except NotFound:
                return
            found = answer.get("items")
            if not isinstance(found, list):
                raise BadAnswer("The API server's list has no items.")
            if versions is not None:
                versions.add(str((answer.get("metadata") or {}).get("resourceVersion") or ""))
            yield from found
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token:
                return

    def watch(self, resource: Resource, *, fields: str = "", seconds: float = 30.0) -> Iterator[tuple[str, Object]]:
        path = self._path(resource, "", "")
        if path is None:
            return
        seen: set[str] = set()
        for obj in self._pages(resource, fields, seen):
            yield "ADDED", obj
        query = {"watch": "1", "timeoutSeconds": str(max(1, round(seconds)))}
        query["resourceVersion"] = max(seen, default="", key=lambda v: (len(v), v))
        query |= {"fieldSelector": fields} if fields else {}
        yield from self._stream(path, query, seconds)

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        path = self._path(resource, namespace, name)
        try:
            return self._call("GET", path) if path else None
        except NotFound:
            return None

    def patch(self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None:
        path = self._path(resource, namespace, name)
        try:
            return self._call("PATCH", path, query={"fieldManager": self._manager}, body=patch) if path else None
        except NotFound:
            return None

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
        path = self._path(resource, namespace, name)
        if path is None:
            raise NotFound(f"The cluster does not serve {resource.plural}.{resource.group}.")
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        query |= {"dryRun": "All"} if dry_run else {}
        return self._call("PATCH", path, query=query, body=wanted, content=APPLY)

    def evict(self, namespace: str, name: str, *, uid: str) -> bool:
        path = self._path(Resource("", "v1", "pods"), namespace, name)
        wanted = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            self._call("POST", f"{path}/eviction", body=wanted)
        except NotFound:
            return False
        except Conflict:  # another pod by this name: the one that was meant is gone
            return False
        return True

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        path = self._path(resource, namespace, name)
        if path is None:
            return False
        try:
            self._call("DELETE", path, body={"preconditions": {"uid": uid}, "propagationPolicy": "Background"})
        except NotFound:
            return False
        return True

    def can_resize(self) -> bool:
        served = self._call("GET", "/api/v1").get("resources") or ()
        return any(isinstance(one, dict) and one.get("name") == "pods/resize" for one in served)

    def resize(self, namespace: str, name: str, containers: Sequence[Mapping[str, Any]]) -> bool:
        path = RESIZE.format(quote(namespace, safe=""), quote(name, safe=""))
        body = {"spec": {"containers": tuple(containers)}}
        try:
            self._call("PATCH", path, query={"fieldManager": self._manager}, body=body, content=STRATEGIC)
        except NotFound:
            return False
        return True

    def time_service(self, namespace: str, target: str, path: str) -> float | None:
        place = f"/api/v1/namespaces/{quote(namespace, safe='')}/services/{quote(target, safe=':')}/proxy"
        began = time.monotonic()
        try:
            answer = self._send("GET", f"{place}/{quote(path.lstrip('/'), safe='/')}", read=PROBE_SECONDS)
        except (TimedOut, Unreachable):
            return None
        return time.monotonic() - began if answer.status < 500 else None

    def _path(self, resource: Resource, namespace: str, name: str) -> str | None:
        version = self.version_of(resource.group)
        if version is None:
            return None
        root = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
        place = f"/namespaces/{quote(namespace, safe='')}" if namespace and resource.namespaced else ""
        return f"{root}{place}/{resource.plural}" + (f"/{quote(name, safe='')}" if name else "")

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = MERGE,
    ) -> Object:
        return _read(method, path, self._send(method, path, query=query, body=body, content=content))

    def _stream(self, path: str, query: Mapping[str, str], seconds: float) -> Iterator[tuple[str, Object]]:
        """The lines of a watch; it ends when the server ends it, or says that what was asked for is too old."""
        from urllib3 import exceptions as broken

        answer = self._send("GET", path, query=query, read=seconds + TIMEOUTS[1], preload_content=False)
        try:
            if answer.status >= 400:
                _read("GET", path, answer)
            rest = b""
            for chunk in answer.stream(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    if event.get("type") in ("ADDED", "MODIFIED", "DELETED"):
                        yield str(event["type"]), event["object"]
                    elif event.get("type") == "ERROR":
                        return
        except broken.TimeoutError as late:
            raise TimedOut("The watch went silent.", detail=str(late)) from None
        except (broken.HTTPError, ValueError, KeyError, TypeError, AttributeError, OSError) as lost:
            raise Unreachable("The watch broke off.", detail=str(lost)) from None
        finally:
            answer.close()

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = MERGE,
        read: float | None = None,
        **how: Any,
    ) -> Any:
        """The raw answer; `content` is a patch's kind, `read` the seconds to wait; `how` goes to urllib3."""
        from urllib3 import exceptions as broken

        configuration = self._api.configuration
        headers = {"Accept": "application/json", "User-Agent": "curfew"}
        token = configuration.get_api_key_with_prefix("authorization")
        if token:
            headers["Authorization"] = token
        if body is not None:
            headers["Content-Type"] = content if method == "PATCH" else "application/json"
        url = configuration.host.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        try:
            return self._api.rest_client.pool_manager.request(
                method,
                url,
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                timeout=_timeout(read),
                retries=False,
                redirect=False,
                **how,
            )
        except (broken.ConnectTimeoutError, broken.NewConnectionError) as lost:
            raise Unreachable("The cluster's API server cannot be reached.", detail=str(lost)) from None
        except broken.TimeoutError as late:
            raise TimedOut("The cluster's API server did not answer in time.", detail=str(late)) from None
        except broken.HTTPError as lost:
            raise Unreachable("The connection to the cluster's API server broke.", detail=str(lost)) from None


def _timeout(read: float | None = None) -> Any:
    from urllib3 import Timeout

    return Timeout(connect=TIMEOUTS[0], read=TIMEOUTS[1] if read is None else read)


def _read(method: str, path: str, answer: Any) -> Object:
    try:
        body = json.loads(answer.data)
        assert isinstance(body, dict)
    except (ValueError, AssertionError):
        if answer.status < 400:
            raise BadAnswer("The API server's answer is not JSON.", detail=repr(answer.data[:200])) from None
        body = {}
    if answer.status < 400:
        return body
    raise error_of(answer.status, body, f"{method} {path}", answer.headers.get("Retry-After"))


def error_of(status: int, body: Mapping[str, Any], what: str, retry_after: str | None = None) -> ProviderError:
    """A refusal in the words of the API server."""
    words = str(body.get("message") or "")[:500]
    if status == 401:
        return AuthenticationFailed("The cluster did not accept the credentials.", detail=words)
    if status == 403:
        step = "Grant it to Curfew in the cluster's RBAC, then try again."
        return PermissionDenied(f"The cluster does not allow {what}.", next_step=step, detail=words, permission=what)
    if status == 404:
        return NotFound("The cluster does not know this object.", detail=words)
    causes = [c for c in (body.get("details") or {}).get("causes") or () if isinstance(c, dict)]
    if status == 409 and any(c.get("reason") == "FieldManagerConflict" for c in causes):
        owners = tuple((_manager_in(str(c.get("message"))), str(c.get("field"))) for c in causes)
        names = ", ".join(sorted({manager for manager, _ in owners}))
        return Contested(f"{names} owns fields of this object.", detail=words, owners=owners)
    if status == 409:
        return Conflict("The object was changed at the same moment.", detail=words)
    if status == 429:
        pause = float(retry_after) if retry_after and retry_after.isdigit() else None
        if any(c.get("reason") == "DisruptionBudget" for c in causes):
            budget = "; ".join(str(c.get("message")) for c in causes)
            return Refused("A disruption budget does not allow it now.", detail=budget, retry_after=pause)
        return Throttled("The API server asks for fewer requests.", detail=words, retry_after=pause)
    if status in (400, 405, 415, 422):
        return InvalidRequest(f"The API server refused a change: {words[:200]}", detail=words)
    return ProviderError(
        f"The API server failed ({status}).",
        code="server_error",
        transient=status >= 500,
        next_step="Wait a minute, then try again.",
        detail=words,
    )


def _manager_in(message: str) -> str:
    """The manager that a FieldManagerConflict names: `conflict with "kubectl" using apps/v1`."""
    found = re.search(r'conflict with "([^"]*)"', message)
    return found[1] if found else "somebody"
