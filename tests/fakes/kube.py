"""An API server for tests: lists with pages, watches with bookmarks, patches, eviction, scale, RBAC, faults.

    with FakeKube() as kube:
        kube.seed(nodes=50, pods=600)
        agent(kube.url)

    python -m tests.fakes.kube --port 8001 --nodes 1000 --pods 10000

Controlled in Python or over HTTP: `POST /_faults` [{"match": "GET /api/v1/pods", "status": 500, "times": 3}],
`/_cut` (every watch, at once), `/_compact` (410 for every older version), `/_deny` [{"verb": "list", "resource":
"pods"}], `/_seed` {"nodes": 10, "pods": 90}. No scheduler, no controllers, no kubelet.
"""

from __future__ import annotations

import argparse
import contextlib
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from tests.fakes import kube_objects
from tests.fakes.kube_admission import Admission
from tests.fakes.kube_http import Asked, Fault, Listener, handler, read_object
from tests.fakes.kube_patch import apply, own, patched
from tests.fakes.kube_store import Kind, KubeStore, Object, Refusal, dump, selects


class FakeKube:
    """One API server. `token`: any other gets 401 (or put a judge of the
    Authorization header in `accepts`). `absent`: API groups that are not installed."""

    def __init__(
        self,
        *,
        token: str = "",
        tls: tuple[str, str] | None = None,
        port: int = 0,
        history: int = 20_000,
        absent: Iterable[str] = (),
        bookmark_seconds: float = 10.0,
    ) -> None:
        self.store = KubeStore(history=history, absent=absent)
        self.token, self.tls, self.port = token, tls, port
        self.accepts: Callable[[str], bool] = lambda given: not self.token or given == f"Bearer {self.token}"
        self.bookmark_seconds = bookmark_seconds
        self.faults: list[Fault] = []
        self.denied: list[dict[str, str]] = []
        self.read_log: Callable[[str, str, dict[str, str]], bytes] = lambda namespace, pod, query: b""
        self.log: list[str] = []
        self.admission = Admission(self)
        self.watchers = 0
        self.epoch = 0
        self._server: Listener | None = None
        for obj in kube_objects.system_namespaces():
            self.store.create(obj)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = Listener(("127.0.0.1", self.port), handler(self))
        self.port = self._server.server_port
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self) -> None:
        """Stop as if killed: every connection breaks. The objects stay."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.break_all()
            self.cut()

    def cut(self) -> None:
        """Break off every watch in the middle."""
        with self.store.lock:
            self.epoch += 1
            self.store.changed.notify_all()

    def fail(self, match: str, **how: Any) -> Fault:
        fault = Fault(match, **how)
        self.faults.append(fault)
        return fault

    def deny(self, **rule: str) -> None:
        """Take a right away: any of verb, group, resource, subresource, namespace, name."""
        self.denied.append(rule)

    def seed(self, *, nodes: int, pods: int, **more: Any) -> None:
        """Fill with a cluster of that size; see kube_objects.cluster."""
        for obj in kube_objects.cluster(nodes=nodes, pods=pods, **more):
            self.store.create(obj)

    # The Python side of what requests do; tests change the cluster with these.

    def create(self, obj: Object) -> Object:
        return self.store.create(obj).obj

    def kind(self, plural: str, group: str | None = None) -> Kind:
        return next(t.kind for p, t in self.store.tables.items() if p[1] == plural and (group is None or p[0] == group))

    def get(self, plural: str, namespace: str, name: str) -> Object:
        return self.store.get(self.kind(plural), namespace, name).obj

    def change(self, plural: str, namespace: str, name: str, patch: Object) -> Object:
        """Strategic merge by another client."""
        kind = self.kind(plural)
        with self.store.lock:
            old = self.store.get(kind, namespace, name).obj
            new = patched(old, "application/strategic-merge-patch+json", dump(patch))
            return self.store.replace(kind, namespace, name, new).obj

    def delete(self, plural: str, namespace: str, name: str) -> None:
        self.store.delete(self.kind(plural), namespace, name)

    def all(self, plural: str, group: str | None = None) -> list[Object]:
        return [s.obj for s in list(self.store.tables[self.kind(plural, group).id].objects.values())]

    # Requests.

    def allows(self, **asked: str) -> bool:
        return not any(all(asked.get(k, "") == v for k, v in rule.items()) for rule in self.denied)

    def fault_for(self, line: str) -> Fault | None:
        for fault in list(self.faults):
            if fault.match in line and fault.times != 0:
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
                return fault
        return None

    def authorize(self, asked: Asked) -> None:
        verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(asked.method, "get")
        if asked.method == "GET" and not asked.name:
            verb = "watch" if asked.query.get("watch") in {"1", "true"} else "list"
        rights = {
            "verb": verb,
            "group": asked.kind.group,
            "resource": asked.kind.plural,
            "subresource": asked.sub,
            "namespace": asked.namespace,
            "name": asked.name,
        }
        if not self.allows(**rights):
            what = asked.kind.plural + (f"/{asked.sub}" if asked.sub else "")
            raise Refusal(
                403,
                "Forbidden",
                f'{what} is forbidden: User "system:serviceaccount:curfew:curfew-agent" cannot {verb} resource "{what}" '
                f'in API group "{asked.kind.group}" at the cluster scope',
            )

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Return status and object or bytes of a request that is no watch."""
        self.authorize(asked)
        manager = asked.query.get("fieldManager") or str(asked.headers.get("User-Agent") or "unknown").split("/")[0]
        if asked.sub == "eviction" and asked.method == "POST":
            return self._evict(asked)
        if asked.sub == "scale":
            return self._scale(asked, manager)
        if asked.sub == "log":
            self.store.get(asked.kind, asked.namespace, asked.name)
            return 200, self.read_log(asked.namespace, asked.name, asked.query)
        if asked.method == "GET":
            return (
                (200, self.store.get(asked.kind, asked.namespace, asked.name).obj) if asked.name else self._list(asked)
            )
        if asked.method == "POST":
            return 201, self._create(asked, manager)
        if asked.method == "DELETE":
            return 200, self.store.delete(asked.kind, asked.namespace, asked.name).obj
        return self._update(asked, manager)

    def _create(self, asked: Asked, manager: str) -> Object:
        obj = read_object(asked.body)
        if asked.kind.namespaced:
            obj.setdefault("metadata", {})["namespace"] = asked.namespace
        obj = self.admission.mutated(asked.kind, asked.namespace, obj)
        own({"metadata": {}}, obj, manager)
        return obj if asked.query.get("dryRun") else self.store.create(obj, kind=asked.kind).obj

    def _update(self, asked: Asked, manager: str) -> tuple[int, Object]:
        content = str(asked.headers.get("Content-Type") or "")
        with self.store.lock:
            if content.startswith("application/apply-patch"):
                return self._apply(asked, manager)
            old = self.store.get(asked.kind, asked.namespace, asked.name).obj
            new = read_object(asked.body) if asked.method == "PUT" else patched(old, content, asked.body)
            if asked.sub == "status":
                new = {**old, "status": new.get("status"), "metadata": {**old["metadata"], **new.get("metadata", {})}}
            elif "status" in asked.kind.subresources and asked.kind.plural != "nodes" and "status" in old:
                new = {**new, "status": old["status"]}
            own(old, new, manager)
            if asked.query.get("dryRun"):
                return 200, new
            return 200, self.store.replace(asked.kind, asked.namespace, asked.name, new).obj

    def _apply(self, asked: Asked, manager: str) -> tuple[int, Object]:
        import yaml

        wanted = yaml.safe_load(asked.body)
        force = asked.query.get("force") == "true"
        try:
            old: Object | None = self.store.get(asked.kind, asked.namespace, asked.name).obj
        except Refusal:
            old = None
        new = apply(old, wanted, manager, force=force)
        if asked.query.get("dryRun"):
            return 200, new
        if old is None:
            new["metadata"].setdefault("name", asked.name)
            if asked.kind.namespaced:
                new["metadata"]["namespace"] = asked.namespace
            return 201, self.store.create(new, kind=asked.kind).obj
        return 200, self.store.replace(asked.kind, asked.namespace, asked.name, new).obj

    def _list(self, asked: Asked) -> tuple[int, bytes]:
        q = asked.query
        found, token, remaining, version = self.store.page(
            asked.kind,
            asked.namespace,
            q.get("labelSelector", ""),
            q.get("fieldSelector", ""),
            int(q.get("limit") or 0) if asked.kind.watchable else 0,
            q.get("continue", ""),
        )
        metadata: Object = {"resourceVersion": str(version)}
        if token:
            metadata |= {"continue": token, "remainingItemCount": remaining}
        head = {"kind": f"{asked.kind.kind}List", "apiVersion": asked.kind.api_version}
        if "." in asked.kind.group and asked.kind.group.endswith(
            ".sh"
        ):  # custom resources: fields in alphabetical order
            return 200, b'{"apiVersion":%s,"items":[%s],"kind":%s,"metadata":%s}' % (
                dump(head["apiVersion"]),
                b",".join(s.text for s in found),
                dump(head["kind"]),
                dump(metadata),
            )
        return 200, b'%s,"metadata":%s,"items":[%s]}\n' % (
            dump(head)[:-1],
            dump(metadata),
            b",".join(s.text for s in found),
        )

    def _scale(self, asked: Asked, manager: str) -> tuple[int, Object]:
        with self.store.lock:
            old = self.store.get(asked.kind, asked.namespace, asked.name).obj
            scale = {
                "kind": "Scale",
                "apiVersion": "autoscaling/v1",
                "metadata": {
                    k: old["metadata"][k]
                    for k in ("name", "namespace", "uid", "resourceVersion")
                    if k in old["metadata"]
                },
                "spec": {"replicas": old["spec"].get("replicas", 1)},
                "status": {"replicas": (old.get("status") or {}).get("replicas", 0)},
            }
            if asked.method == "GET":
                return 200, scale
            wanted = (
                read_object(asked.body)
                if asked.method == "PUT"
                else patched(scale, str(asked.headers.get("Content-Type") or ""), asked.body)
            )
            replicas = (wanted.get("spec") or {}).get("replicas", 0)
            if not isinstance(replicas, int) or replicas < 0:
                raise Refusal(422, "Invalid", "spec.replicas: must be greater than or equal to 0")
            metadata = {**old["metadata"], "resourceVersion": wanted["metadata"].get("resourceVersion", "")}
            new = {**old, "metadata": metadata, "spec": {**old["spec"], "replicas": replicas}}
            own(old, new, manager)
            stored = self.store.replace(asked.kind, asked.namespace, asked.name, new).obj
            scale["spec"] = {"replicas": replicas}
            scale["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
            return 200, scale

    def _evict(self, asked: Asked) -> tuple[int, Object]:
        with self.store.lock:
            pod = self.store.get(asked.kind, asked.namespace, asked.name).obj
            kind = self.kind("poddisruptionbudgets")
            labels = pod["metadata"].get("labels") or {}
            budgets = [
                b
                for b in self.all("poddisruptionbudgets")
                if b["metadata"]["namespace"] == asked.namespace and selects(b["spec"].get("selector"), labels)
            ]
            if len(budgets) > 1:
                raise Refusal(
                    500,
                    "InternalError",
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                )
            for budget in budgets:
                left = (budget.get("status") or {}).get("disruptionsAllowed", 0)
                if left < 1:
                    raise Refusal(
                        429,
                        "TooManyRequests",
                        "Cannot evict pod as it would violate the pod's disruption budget.",
                        causes=[
                            {
                                "reason": "DisruptionBudget",
                                "message": f"The disruption budget {budget['metadata']['name']} needs more healthy pods",
                            }
                        ],
                    )
            dry = asked.query.get("dryRun") or "All" in (read_object(asked.body).get("deleteOptions") or {}).get(
                "dryRun", ()
            )
            if not dry:
                for budget in budgets:
                    status = {**budget["status"], "disruptionsAllowed": budget["status"]["disruptionsAllowed"] - 1}
                    self.store.replace(kind, asked.namespace, budget["metadata"]["name"], {**budget, "status": status})
                self.store.delete(asked.kind, asked.namespace, asked.name)
            return 201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def review(self, body: Object) -> Object:
        """SelfSubjectAccessReview."""
        attributes = (body.get("spec") or {}).get("resourceAttributes") or {}
        allowed = self.allows(**{k: str(v) for k, v in attributes.items()})
        return {**body, "status": {"allowed": allowed} | ({} if allowed else {"reason": "no RBAC rule matched"})}

    def control(self, path: str, body: Any) -> Any:
        """The HTTP side of faults and seeds."""
        if path == "/_faults":
            self.faults = [Fault(**fault) for fault in body or ()]
        elif path == "/_cut":
            self.cut()
        elif path == "/_compact":
            self.store.compact()
            self.cut()
        elif path == "/_deny":
            self.denied = list(body or ())
        elif path == "/_seed":
            self.seed(**body)
        else:
            raise Refusal(404, "NotFound", "no such control")
        return {"ok": True}


def main() -> None:
    parser = argparse.ArgumentParser(description="A fake Kubernetes API server.")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--token", default="")
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--pods", type=int, default=0)
    options = parser.parse_args()
    with FakeKube(port=options.port, token=options.token) as kube:
        if options.nodes:
            kube.seed(nodes=options.nodes, pods=options.pods)
        sys.stdout.write(f"{kube.url}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
