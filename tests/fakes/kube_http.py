"""The HTTP side of the fake API server: routes, answers, streamed watches, connections that can be broken."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.kube_store import Kind, KubeStore, Object, Refusal, Stored, dump, matches_fields, matches_labels

if TYPE_CHECKING:
    from tests.fakes.kube import FakeKube

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.1-eks-0f1e2d3",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2026-09-01T00:00:00Z",
    "goVersion": "go1.25",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?(?:/(?P<plural>[^/]+))(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?/?"
)


@dataclass
class Fault:
    """The next `times` requests (-1: all) whose "METHOD path" contains `match` fail this way."""

    match: str
    status: int = 0
    reason: str = ""
    message: str = "made to fail"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut_after: int = -1
    times: int = 1


@dataclass
class Asked:
    """A request, taken apart."""

    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes
    kind: Kind
    namespace: str
    name: str
    sub: str


def read_object(body: bytes) -> Object:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        raise Refusal(400, "BadRequest", "the body is not JSON") from None
    if not isinstance(found, dict):
        raise Refusal(400, "BadRequest", "the body is not an object")
    return found


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def break_all(self) -> None:
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


def discovery(store: KubeStore, path: str) -> Object | None:
    """Return the discovery document of a path, if it is one."""
    kinds = [t.kind for t in store.tables.values()]
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = sorted({(k.group, k.version) for k in kinds if k.group})
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {
                    "name": g,
                    "versions": [{"groupVersion": f"{g}/{v}", "version": v}],
                    "preferredVersion": {"groupVersion": f"{g}/{v}", "version": v},
                }
                for g, v in groups
            ],
        }
    found = re.fullmatch(r"/api/(v1)|/apis/([^/]+)/([^/]+)", path)
    if not found:
        return None
    group, version = ("", found[1]) if found[1] else (found[2], found[3])
    resources = []
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    for kind in kinds:
        if (kind.group, kind.version) == (group, version):
            base = {
                "name": kind.plural,
                "singularName": kind.kind.lower(),
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": verbs,
            }
            resources += [
                base,
                *(
                    {**base, "name": f"{kind.plural}/{sub}", "verbs": ["get", "patch", "update"]}
                    for sub in kind.subresources
                ),
            ]
    if not resources:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def handler(kube: FakeKube) -> type[BaseHTTPRequestHandler]:  # noqa: C901  one class in a closure
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            pass

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
            line = f"{self.command} {self.path}"
            kube.log.append(line)
            try:
                fault = None if parts.path.startswith("/_") else kube.fault_for(line)
                if fault is not None:
                    time.sleep(fault.delay)
                    if fault.status:
                        reason = fault.reason or {401: "Unauthorized", 403: "Forbidden", 429: "TooManyRequests"}.get(
                            fault.status, "InternalError"
                        )
                        self.say(fault.status, Refusal(fault.status, reason, fault.message).body(), fault.headers)
                        return
                self.route(parts.path, query, body, fault)
            except Refusal as refusal:
                headers = {"Retry-After": "1"} if refusal.status == 429 else {}
                self.say(refusal.status, refusal.body(), headers)

        def route(self, path: str, query: dict[str, str], body: bytes, fault: Fault | None) -> None:
            if path.startswith("/_"):
                self.say(200, kube.control(path, json.loads(body or b"null")))
                return
            if not kube.accepts(str(self.headers.get("Authorization") or "")):
                raise Refusal(401, "Unauthorized", "Unauthorized")
            if path.rstrip("/") in {"/healthz", "/livez", "/readyz"}:
                self.say(200, b"ok", kind="text/plain")
                return
            if path.rstrip("/") == "/version":
                self.say(200, VERSION)
                return
            if path.endswith("/selfsubjectaccessreviews") and self.command == "POST":
                self.say(201, kube.review(read_object(body)))
                return
            document = discovery(kube.store, path.rstrip("/"))
            if document is not None:
                self.say(200, document)
                return
            asked = self.asked(path, query, body)
            if self.command == "GET" and not asked.name and query.get("watch") in {"1", "true"}:
                kube.authorize(asked)
                self.watch(asked)
                return
            status, answer = kube.answer(asked)
            self.say(status, answer, cut_after=fault.cut_after if fault else -1)

        def asked(self, path: str, query: dict[str, str], body: bytes) -> Asked:
            found = _PATH.fullmatch(path)
            if not found:
                raise Refusal(404, "NotFound", "the server could not find the requested resource")
            group, namespace, plural = found["group"] or "", found["namespace"] or "", found["plural"]
            name, sub = found["name"] or "", found["sub"] or ""
            kind = kube.store.table(group, plural).kind
            if kind.version != (found["version"] or "v1") or (sub and sub not in kind.subresources):
                raise Refusal(404, "NotFound", "the server could not find the requested resource")
            return Asked(self.command, path, query, self.headers, body, kind, namespace, name, sub)

        def say(
            self,
            status: int,
            answer: Any,
            headers: dict[str, str] | None = None,
            *,
            kind: str = "application/json",
            cut_after: int = -1,
        ) -> None:
            data = answer if isinstance(answer, bytes) else dump(answer)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if cut_after >= 0:
                self.wfile.write(data[:cut_after])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(data)

        def watch(self, asked: Asked) -> None:
            """Send events as they happen, bookmarks in silence, an ERROR when the version is forgotten."""
            if not asked.kind.watchable:
                raise Refusal(
                    405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
                )
            store, query, epoch = kube.store, asked.query, kube.epoch
            version = int(query.get("resourceVersion") or store.version)
            end = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            kube.watchers += 1
            try:
                self._stream(asked, version, end, epoch)
            finally:
                kube.watchers -= 1

        def _stream(self, asked: Asked, version: int, end: float, epoch: int) -> None:
            store, query = kube.store, asked.query
            bookmarks = query.get("allowWatchBookmarks") == "true"
            told = time.monotonic()
            while time.monotonic() < end:
                if kube.epoch != epoch:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                with store.lock:
                    if kube.epoch == epoch and version >= store.floor and not store.since(asked.kind, version):
                        store.changed.wait(min(1.0, max(0.01, end - time.monotonic()), kube.bookmark_seconds))
                    try:
                        fresh = store.since(asked.kind, version)
                    except Refusal as gone:
                        self.chunk(dump({"type": "ERROR", "object": gone.body()}) + b"\n")
                        break
                    quiet = bookmarks and time.monotonic() - told >= kube.bookmark_seconds
                    version = fresh[-1][0] if fresh else store.version if quiet else version
                lines = [
                    b'{"type":"%s","object":%s}\n' % (kind.encode(), s.text)
                    for _, kind, s in fresh
                    if self.wanted(asked, s)
                ]
                if quiet and not lines:
                    mark = {
                        "kind": asked.kind.kind,
                        "apiVersion": asked.kind.api_version,
                        "metadata": {"resourceVersion": str(version)},
                    }
                    lines = [dump({"type": "BOOKMARK", "object": mark}) + b"\n"]
                if lines:
                    self.chunk(b"".join(lines))
                    told = time.monotonic()
            self.chunk(b"")

        @staticmethod
        def wanted(asked: Asked, stored: Stored) -> bool:
            metadata = stored.obj["metadata"]
            if asked.namespace and metadata.get("namespace") != asked.namespace:
                return False
            return matches_labels(
                metadata.get("labels") or {}, asked.query.get("labelSelector", "")
            ) and matches_fields(stored.obj, asked.query.get("fieldSelector", ""))

        def chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{verb}", Handler.serve)
    return Handler
