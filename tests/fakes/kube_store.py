"""What a fake API server keeps: objects with versions, their history for watches, selectors and patches."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import json
import re
import threading
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Place = tuple[str, str]


class Refusal(Exception):
    """A Kubernetes Status answer."""

    def __init__(self, status: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.details = status, reason, message, details

    def body(self) -> Object:
        body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status,
        }
        if self.details:
            body["details"] = self.details
        return body


@dataclass(frozen=True)
class Kind:
    """A served resource."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    subresources: tuple[str, ...] = ("status",)
    watchable: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def id(self) -> Place:
        return self.group, self.plural


SCALABLE = ("status", "scale")
KINDS: tuple[Kind, ...] = (
    Kind("", "v1", "namespaces", "Namespace", False),
    Kind("", "v1", "nodes", "Node", False),
    Kind("", "v1", "pods", "Pod", True, ("status", "eviction", "resize", "log")),
    Kind("", "v1", "events", "Event", True, ()),
    Kind("", "v1", "secrets", "Secret", True, ()),
    Kind("", "v1", "configmaps", "ConfigMap", True, ()),
    Kind("", "v1", "serviceaccounts", "ServiceAccount", True, ()),
    Kind("", "v1", "services", "Service", True),
    Kind("", "v1", "persistentvolumes", "PersistentVolume", False),
    Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True),
    Kind("apps", "v1", "deployments", "Deployment", True, SCALABLE),
    Kind("apps", "v1", "statefulsets", "StatefulSet", True, SCALABLE),
    Kind("apps", "v1", "replicasets", "ReplicaSet", True, SCALABLE),
    Kind("apps", "v1", "daemonsets", "DaemonSet"),
    Kind("batch", "v1", "jobs", "Job"),
    Kind("batch", "v1", "cronjobs", "CronJob"),
    Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, ()),
    Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    Kind("coordination.k8s.io", "v1", "leases", "Lease", True, ()),
    Kind(
        "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False, ()
    ),
    Kind(
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        False,
        (),
    ),
    Kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False, ()),
    Kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False, ()),
    Kind("metrics.k8s.io", "v1beta1", "nodes", "NodeMetrics", False, (), watchable=False),
    Kind("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", True, (), watchable=False),
    Kind("karpenter.sh", "v1", "nodepools", "NodePool", False, SCALABLE),
    Kind("karpenter.sh", "v1", "nodeclaims", "NodeClaim", False),
)


@dataclass
class Stored:
    obj: Object
    version: int
    text: bytes


@dataclass
class Table:
    """The objects of one kind and what happened to them."""

    kind: Kind
    objects: dict[Place, Stored] = field(default_factory=dict)
    log: deque[tuple[int, str, Stored]] = field(default_factory=deque)
    order: list[Place] | None = None


def now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def at(obj: Any, path: str) -> Any:
    for step in path.split("."):
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


_SET_RULE = re.compile(r"([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)")


def _rules(selector: str) -> Iterator[str]:
    yield from (rule.strip() for rule in re.split(r",(?![^(]*\))", selector) if rule.strip())


def matches_labels(labels: dict[str, str], selector: str) -> bool:
    """Label selectors: a=b, a==b, a!=b, a, !a, a in (x,y), a notin (x)."""
    for rule in _rules(selector):
        found = _SET_RULE.fullmatch(rule)
        if found:
            values = {v.strip() for v in found[3].split(",")}
            ok = (labels.get(found[1]) in values) is (found[2] == "in")
        elif "!=" in rule:
            key, value = rule.split("!=")
            ok = labels.get(key.strip()) != value.strip()
        elif "=" in rule:
            key, value = rule.replace("==", "=").split("=")
            ok = labels.get(key.strip()) == value.strip()
        else:
            ok = (rule.lstrip("!") in labels) is not rule.startswith("!")
        if not ok:
            return False
    return True


def matches_fields(obj: Object, selector: str) -> bool:
    """Field selectors on any path, = and !=; an absent field counts as empty."""
    for rule in _rules(selector):
        wanted = "!=" not in rule
        key, value = re.split(r"!?==?", rule, maxsplit=1)
        if (str(at(obj, key) or "") == value) is not wanted:
            return False
    return True


def selects(selector: Object | None, labels: dict[str, str]) -> bool:
    """A LabelSelector object; a null one selects nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or ():
        value, values = labels.get(rule["key"]), rule.get("values") or ()
        fits = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[rule["operator"]]
        if not fits:
            return False
    return True


class KubeStore:
    """Thread-safe. Watchers wait on `changed`."""

    def __init__(self, *, history: int = 20_000, absent: Iterable[str] = ()) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 1000
        self.floor = 0
        self.history = history
        absent = set(absent)
        self.tables = {kind.id: Table(kind) for kind in KINDS if kind.group not in absent}

    def install(self, group: str) -> None:
        """Serve the kinds of a group, as when its CRDs are applied."""
        with self.lock:
            for kind in KINDS:
                if kind.group == group:
                    self.tables.setdefault(kind.id, Table(kind))

    def uninstall(self, group: str) -> None:
        with self.lock:
            for place in [p for p in self.tables if p[0] == group]:
                del self.tables[place]

    def table(self, group: str, plural: str) -> Table:
        table = self.tables.get((group, plural))
        if table is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        return table

    def kind_of(self, obj: Object) -> Kind:
        group = obj["apiVersion"].rpartition("/")[0]
        return next(t.kind for t in self.tables.values() if (t.kind.group, t.kind.kind) == (group, obj["kind"]))

    def _place(self, kind: Kind, obj: Object) -> Place:
        metadata = obj["metadata"]
        return (metadata.get("namespace") or "default" if kind.namespaced else "", metadata["name"])

    def _write(self, table: Table, event: str, place: Place, obj: Object) -> Stored:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        stored = Stored(obj, self.version, dump(obj))
        if event == "DELETED":
            table.objects.pop(place, None)
            table.order = None
        else:
            if place not in table.objects:
                table.order = None
            table.objects[place] = stored
        table.log.append((self.version, event, stored))
        while len(table.log) > self.history:
            self.floor = max(self.floor, table.log.popleft()[0])
        self.changed.notify_all()
        return stored

    def create(self, obj: Object, *, kind: Kind | None = None) -> Stored:
        with self.lock:
            kind = kind or self.kind_of(obj)
            table = self.table(*kind.id)
            metadata = dict(obj.get("metadata") or {})
            obj = {**obj, "metadata": metadata}
            if not metadata.get("name"):
                if not metadata.get("generateName"):
                    raise Refusal(422, "Invalid", "name or generateName is required")
                metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
            place = self._place(kind, obj)
            if place in table.objects:
                raise Refusal(409, "AlreadyExists", f'{kind.plural} "{place[1]}" already exists')
            if kind.namespaced:
                metadata["namespace"] = place[0]
            obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
            metadata.setdefault("uid", str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", now())
            metadata.setdefault("generation", 1)
            return self._write(table, "ADDED", place, obj)

    def get(self, kind: Kind, namespace: str, name: str) -> Stored:
        with self.lock:
            stored = self.table(*kind.id).objects.get((namespace if kind.namespaced else "", name))
            if stored is None:
                raise Refusal(404, "NotFound", f'{kind.plural} "{name}" not found', name=name, kind=kind.plural)
            return stored

    def replace(self, kind: Kind, namespace: str, name: str, obj: Object) -> Stored:
        """Store a new state of an object; a resourceVersion in it must be the present one."""
        with self.lock:
            table, old = self.table(*kind.id), self.get(kind, namespace, name)
            wanted = obj["metadata"].get("resourceVersion")
            if wanted and wanted != str(old.version):
                raise Refusal(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {kind.plural} "{name}": the object has been modified; '
                    "please apply your changes to the latest version and try again",
                )
            obj = copy.deepcopy(obj)
            for fixed in ("uid", "creationTimestamp", "name", "namespace"):
                if fixed in old.obj["metadata"]:
                    obj["metadata"][fixed] = old.obj["metadata"][fixed]
            obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
            obj["metadata"]["resourceVersion"] = str(old.version)
            if obj == old.obj:
                return old
            changed_spec = obj.get("spec") != old.obj.get("spec")
            obj["metadata"]["generation"] = old.obj["metadata"].get("generation", 1) + changed_spec
            place = self._place(kind, obj)
            if obj["metadata"].get("deletionTimestamp") and not obj["metadata"].get("finalizers"):
                return self._write(table, "DELETED", place, obj)
            return self._write(table, "MODIFIED", place, obj)

    def delete(self, kind: Kind, namespace: str, name: str) -> Stored:
        """Delete, or mark for deletion while there are finalizers."""
        with self.lock:
            table, old = self.table(*kind.id), self.get(kind, namespace, name)
            obj = copy.deepcopy(old.obj)
            if obj["metadata"].get("finalizers"):
                obj["metadata"].setdefault("deletionTimestamp", now())
                return self._write(table, "MODIFIED", self._place(kind, obj), obj)
            return self._write(table, "DELETED", self._place(kind, obj), obj)

    def page(
        self, kind: Kind, namespace: str, labels: str, fields: str, limit: int, token: str
    ) -> tuple[list[Stored], str, int, int]:
        """Return objects in order, the continue token, the remaining count and the version."""
        with self.lock:
            table = self.table(*kind.id)
            if table.order is None:
                table.order = sorted(table.objects)
            after, version = ("", ""), self.version
            if token:
                try:
                    start = json.loads(base64.b64decode(token, validate=True))
                    version, after = int(start["rv"]), (start["ns"], start["name"])
                except (ValueError, KeyError, TypeError):
                    raise Refusal(400, "BadRequest", "continue key is not valid") from None
                if version < self.floor:
                    raise Refusal(
                        410, "Expired", "The provided continue parameter is too old to display a consistent list result"
                    )
            found: list[tuple[Place, Stored]] = []
            for place in table.order:
                if place <= after or (namespace and place[0] != namespace):
                    continue
                stored = table.objects[place]
                if labels and not matches_labels(stored.obj["metadata"].get("labels") or {}, labels):
                    continue
                if fields and not matches_fields(stored.obj, fields):
                    continue
                found.append((place, stored))
            if not limit or len(found) <= limit:
                return [s for _, s in found], "", 0, version
            last = found[limit - 1][0]
            mark = base64.b64encode(dump({"rv": version, "ns": last[0], "name": last[1]})).decode()
            return [s for _, s in found[:limit]], mark, len(found) - limit, version

    def since(self, kind: Kind, version: int) -> list[tuple[int, str, Stored]]:
        """Return what happened to a kind after a version, oldest first; raises 410 when it is forgotten."""
        with self.lock:
            if version < self.floor:
                raise Refusal(410, "Expired", f"too old resource version: {version} ({self.floor})")
            fresh: list[tuple[int, str, Stored]] = []
            for entry in reversed(self.table(*kind.id).log):
                if entry[0] <= version:
                    break
                fresh.append(entry)
            return fresh[::-1]

    def compact(self) -> None:
        """Forget all history: any watch from before now gets 410."""
        with self.lock:
            self.version += 1
            self.floor = self.version
            for table in self.tables.values():
                table.log.clear()
            self.changed.notify_all()
