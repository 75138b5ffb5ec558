"""What sleep asks of an API server: lists, single objects, merge patches, deletions. Plain JSON objects in and out.

Every method raises a ProviderError: Conflict (409), Throttled (429), TimedOut, Unreachable, PermissionDenied naming the
right, BadAnswer, InvalidRequest; a server's own failure (5xx) is transient.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API serves a kind; `version` is the one to fall back on when the group names none."""

    group: str
    version: str
    plural: str
    namespaced: bool = True


class KubeApi(Protocol):
    """One cluster's API server."""

    def version_of(self, group: str) -> str | None:
        """The group's preferred version; None when the group is not served."""
        ...

    def list(self, resource: Resource) -> list[Object]:
        """Every object of a kind, in all namespaces, page by page; [] when the kind is not served."""
        ...

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None: ...

    def patch(self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None:
        """Apply an RFC 7386 merge patch; None when the object is gone."""
        ...

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        """Delete the object of that uid; False when it is gone already."""
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

    def list(self, resource: Resource) -> list[Object]:
        return list(self._pages(resource))

    def _pages(self, resource: Resource) -> Iterator[Object]:
        path = self._path(resource, "", "")
        if path is None:
            return
        token = ""
        while True:
            query = {"limit": str(PAGE), **({"continue": token} if token else {})}
            try:
                answer = self._call("GET", path, query=query)
            except NotFound:
                return
            found = answer.get("items")
            if not isinstance(found, list):
                raise BadAnswer("The API server's list has no items.")
            yield from found
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token:
                return

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

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        path = self._path(resource, namespace, name)
        if path is None:
            return False
        try:
            self._call("DELETE", path, body={"preconditions": {"uid": uid}, "propagationPolicy": "Background"})
        except NotFound:
            return False
        return True

    def _path(self, resource: Resource, namespace: str, name: str) -> str | None:
        version = self.version_of(resource.group)
        if version is None:
            return None
        root = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
        place = f"/namespaces/{quote(namespace, safe='')}" if namespace and resource.namespaced else ""
        return f"{root}{place}/{resource.plural}" + (f"/{quote(name, safe='')}" if name else "")

    def _call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Object:
        return _read(method, path, self._send(method, path, query=query, body=body))

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> Any:
        """The raw answer; `how` goes to urllib3."""
        from urllib3 import exceptions as broken

        configuration = self._api.configuration
        headers = {"Accept": "application/json", "User-Agent": "curfew"}
        token = configuration.get_api_key_with_prefix("authorization")
        if token:
            headers["Authorization"] = token
        if body is not None:
            headers["Content-Type"] = MERGE if method == "PATCH" else "application/json"
        url = configuration.host.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        try:
            return self._api.rest_client.pool_manager.request(
                method,
                url,
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                timeout=_timeout(),
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


def _timeout() -> Any:
    from urllib3 import Timeout

    return Timeout(connect=TIMEOUTS[0], read=TIMEOUTS[1])


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
    if status == 409:
        return Conflict("The object was changed at the same moment.", detail=words)
    if status == 429:
        pause = float(retry_after) if retry_after and retry_after.isdigit() else None
        return Throttled("The API server asks for fewer requests.", detail=words, retry_after=pause)
    if status in (400, 405, 415, 422):
        return InvalidRequest(f"The API server refused a change: {words[:200]}", detail=words)
    return ProviderError(
        f"The API server failed ({status}).",
        code="server_error",
        transient=status >= 500,
        next_step="Nothing to do: it is tried again by itself.",
        detail=words,
    )
