"""The Kubernetes API over plain HTTP: streamed lists, watches, patches.

The official client parses each answer whole and into a class of its own for every field; at 10,000 pods that alone
exceeds the agent's budget. This reads one object at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from agent import __version__
from agent.transport import BadAddress, Connection, Endpoint, Reply, Unreachable, read_token
from agent.wire.listing import BadListing, read_lines, read_list

PAGE = 250
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
MERGE_PATCH = "application/merge-patch+json"


class KubeError(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.retry_after = status, reason, message, retry_after

    @property
    def source_state(self) -> str:
        """The word that a source's state uses for it."""
        return {401: "unauthorized", 403: "forbidden", 404: "absent"}.get(self.status, "error")


class Gone(Exception):
    """The resource version is too old: list again."""


@dataclass(frozen=True)
class Access:
    """How to reach an API server: the address, whom to trust, and a token or a client certificate."""

    endpoint: Endpoint
    token: Callable[[], str] | None = None

    @classmethod
    def in_cluster(cls) -> Access:
        """Use the pod's service account. Raises BadAddress outside a cluster."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise BadAddress("not inside a cluster: name the API server with --api-server")
        url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        return cls(Endpoint(url, ca_file=f"{_ACCOUNT}/ca.crt", use_proxy=False), read_token("", f"{_ACCOUNT}/token"))


class Kube:
    """One connection to an API server; belongs to one thread."""

    def __init__(self, access: Access, *, timeout: float = 30.0) -> None:
        self._access = access
        self._connection = Connection(access.endpoint, timeout)
        self.timeout = timeout

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> dict[str, Any]:
        """Return one object. Raises KubeError, Unreachable."""
        return self._call("GET", path).json()

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object and return the answer. Raises KubeError, Unreachable."""
        return self._call("POST", path, json.dumps(body).encode(), "application/json").json()

    def patch(self, path: str, body: dict[str, Any], *, kind: str = MERGE_PATCH) -> dict[str, Any]:
        """Patch an object and return it. Raises KubeError, Unreachable."""
        return self._call("PATCH", path, json.dumps(body).encode(), kind).json()

    def delete(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Delete an object under the body's conditions and return the answer. Raises KubeError, Unreachable."""
        return self._call("DELETE", path, json.dumps(body).encode(), "application/json").json()

    def list(self, path: str, found: Callable[[dict[str, Any]], None], *, page: int = PAGE, fields: str = "") -> str:
        """Call `found` with each object, page by page; return the resource version of the list. `fields`: a selector.

        Raises KubeError, Unreachable, BadListing, and Gone when the list took longer than the server remembers.
        """
        query: dict[str, str] = {"limit": str(page)} if page else {}
        if fields:
            query["fieldSelector"] = fields
        while True:
            answer = self._open("GET", f"{path}?{urlencode(query)}" if query else path)
            try:
                rest = read_list(self._connection.chunks(answer), found)
            except BadListing:
                self._connection.close()
                raise
            metadata = rest.get("metadata") or {}
            token = metadata.get("continue")
            if not token:
                return str(metadata.get("resourceVersion") or "")
            query["continue"] = str(token)

    def watch(self, path: str, version: str, *, seconds: int, quiet: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (type, object) of each event until the server ends the watch; `quiet` seconds of silence end it too.

        Raises Gone, KubeError, Unreachable, BadListing.
        """
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        answer = self._open("GET", f"{path}?{urlencode(query)}", timeout=quiet)
        for event in read_lines(self._connection.chunks(answer)):
            kind, obj = event.get("type"), event.get("object")
            if not isinstance(kind, str) or not isinstance(obj, dict):
                raise BadListing("an event without type or object")
            if kind == "ERROR":
                self._connection.close()
                raise _error(int(obj.get("code") or 500), obj, 0.0)
            yield kind, obj

    def _headers(self, content: str = "") -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"curfew-agent/{__version__}"}
        if self._access.token is not None:
            headers["Authorization"] = f"Bearer {self._access.token()}"
        if content:
            headers["Content-Type"] = content
        return headers

    def _open(self, method: str, path: str, *, timeout: float | None = None) -> Any:
        answer = self._connection.send(method, path, None, self._headers(), timeout)
        if answer.status >= 300:
            raise self._failure(self._connection.read(answer))
        return answer

    def _call(self, method: str, path: str, body: bytes | None = None, content: str = "") -> Reply:
        reply = self._connection.read(self._connection.send(method, path, body, self._headers(content)))
        if not reply.ok:
            raise self._failure(reply)
        return reply

    @staticmethod
    def _failure(reply: Reply) -> Exception:
        return _error(reply.status, reply.json(), reply.retry_after)


def _error(status: int, body: dict[str, Any], retry_after: float) -> Exception:
    reason, message = str(body.get("reason") or ""), str(body.get("message") or "")[:300]
    if status == 410 or reason in {"Expired", "Gone"}:
        return Gone(message)
    return KubeError(status, reason or str(status), message or "the API server gave no reason", retry_after)


def object_path(resource_path: str, namespace: str, name: str, subresource: str = "") -> str:
    """Return the path of one object below the path that lists its resource."""
    root, _, plural = resource_path.rpartition("/")
    place = f"{root}/namespaces/{quote(namespace, safe='')}/{plural}" if namespace else resource_path
    tail = f"/{subresource}" if subresource else ""
    return f"{place}/{quote(name, safe='')}{tail}"


__all__ = ["Access", "Gone", "Kube", "KubeError", "Unreachable", "object_path"]
