"""Signed orders: verified, allowed by RBAC, then carried out; refused with a reason otherwise.

An order is a JSON text with an Ed25519 signature over "curfew-order-v1\\n" and that text. It names the cluster, lives
ten minutes at most and is carried out once. Without `--allow-orders` every order is refused. Kubernetes is asked
(SelfSubjectAccessReview) before anything is changed. The agent never touches its own namespace or the system's.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.cluster import calls
from agent.cluster.kube import Gone, Kube, KubeError, object_path
from agent.transport import BadAddress, Unreachable
from agent.wire.codec import iso, moment
from agent.wire.resources import Permission

log = logging.getLogger("curfew.agent.orders")
CONTEXT = b"curfew-order-v1\n"
LONGEST_LIFE = timedelta(minutes=10)
TOLERANCE = timedelta(minutes=2)
ANNOTATIONS = "curfew.dev/"
MOST_REMEMBERED = 1_000
_SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease"})
_SCALABLE = {"Deployment": "deployments", "StatefulSet": "statefulsets"}
_ANNOTATED = {
    "Deployment": ("apps", "deployments", "/apis/apps/v1/deployments"),
    "StatefulSet": ("apps", "statefulsets", "/apis/apps/v1/statefulsets"),
    "CronJob": ("batch", "cronjobs", "/apis/batch/v1/cronjobs"),
    "Namespace": ("", "namespaces", "/api/v1/namespaces"),
    "Node": ("", "nodes", "/api/v1/nodes"),
}
_MOST_REPLICAS = 10_000


class Refused(Exception):
    """The order is not carried out; the text says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """A verified order. `args` depends on the verb, see docs/agent-protocol.md."""

    id: str
    cluster: str
    verb: str
    kind: str
    namespace: str
    name: str
    args: dict[str, Any]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an order: `status` is done, refused or failed; delivered when its answer went out by itself."""

    id: str
    status: str
    detail: str
    at: str

    def wire(self) -> dict[str, str]:
        return {"id": self.id, "status": self.status, "detail": self.detail, "at": self.at}


def load_key(text: str) -> Callable[[bytes, bytes], bool]:
    """Return a check of (signature, message) under a public key of 32 bytes in base64. Raises BadAddress."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as missing:
        raise BadAddress("orders need the package cryptography") from missing
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError as bad:
        raise BadAddress("the orders' public key is not 32 bytes in base64") from bad

    def check(signature: bytes, message: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return check


def verify(raw: object, check: Callable[[bytes, bytes], bool], cluster: str, now: datetime) -> Order:
    """Return the order when signature, cluster and times are right. Raises Refused."""
    if not isinstance(raw, dict):
        raise Refused("not an order")
    try:
        payload = base64.b64decode(raw.get("payload") or "", validate=True)
        signature = base64.b64decode(raw.get("signature") or "", validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Refused("payload or signature is not base64") from None
    if not check(signature, CONTEXT + payload):
        raise Refused("the signature does not fit")
    try:
        return _checked(json.loads(payload), cluster, now)
    except (ValueError, KeyError, TypeError, AttributeError) as bad:
        raise Refused(f"the order is malformed: {bad}"[:200]) from None


def _checked(body: dict[str, Any], cluster: str, now: datetime) -> Order:
    issued, expires = moment(body["issued_at"]), moment(body["expires_at"])
    target = body.get("target") or {}
    order = Order(
        id=str(body["id"])[:80],
        cluster=str(body["cluster"]),
        verb=str(body["verb"]),
        kind=str(target.get("kind") or "Node"),
        namespace=str(target.get("namespace") or ""),
        name=str(target["name"]),
        args=dict(body.get("args") or {}),
        expires_at=expires,
    )
    if not cluster or order.cluster != cluster:
        raise Refused("the order is for another cluster")
    if expires - issued > LONGEST_LIFE:
        raise Refused("the order lives longer than ten minutes")
    if now > expires + TOLERANCE:
        raise Refused("the order has expired")
    if now < issued - TOLERANCE:
        raise Refused("the order is from the future: compare the clocks")
    return order


class Orders:
    """Takes raw orders, gives results; remembers what it has done so that nothing is done twice."""

    def __init__(
        self,
        kube: Kube,
        *,
        allowed: bool,
        check: Callable[[bytes, bytes], bool] | None,
        cluster: Callable[[], str],
        own_namespace: str,
        deliver: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> None:
        self._kube, self._allowed, self._check, self._cluster = kube, allowed, check, cluster
        self._own_namespace = own_namespace
        self._known: OrderedDict[str, Result] = OrderedDict()
        self._unsent: list[Result] = []
        self._deliver = deliver
        self._busy = False

    def results(self) -> list[dict[str, str]]:
        """Return what the platform was not told yet."""
        return [result.wire() for result in self._unsent]

    def able(self) -> dict[str, Any]:
        """What the heartbeat says: whether orders are carried out, and which kinds this agent knows."""
        return {"allowed": self._allowed and self._check is not None, "verbs": sorted(_VERBS)}

    @property
    def busy(self) -> bool:
        """Whether a batch was carried out since this was asked last: more is likely to follow at once."""
        was, self._busy = self._busy, False
        return was

    def told(self, count: int) -> None:
        """The platform has the first `count` results."""
        del self._unsent[:count]

    def take(self, raw_orders: object) -> None:
        """Judge each order and carry out what is allowed. Never raises for an order's sake."""
        for raw in raw_orders if isinstance(raw_orders, list) else []:
            result = self._one(raw)
            if result.status == "delivered":
                continue
            if result.status != "done":
                log.warning("order %s %s: %s", result.id or "?", result.status, result.detail)
            self._unsent.append(result)

    def _one(self, raw: object) -> Result:
        now = datetime.now(UTC)
        name = str(raw.get("id") or "")[:80] if isinstance(raw, dict) else ""
        try:
            if not self._allowed or self._check is None:
                raise Refused("orders are switched off in this agent (--allow-orders)")
            order = verify(raw, self._check, self._cluster(), now)
            name = order.id
            if order.id in self._known:
                return self._known[order.id]
            result = self._perform(order, now)
        except Refused as refused:
            return Result(name, "refused", str(refused), iso(now))
        self._known[order.id] = result
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return result

    def _perform(self, order: Order, now: datetime) -> Result:
        verb = _VERBS.get(order.verb)
        if verb is None:
            raise Refused(f"unknown verb {order.verb[:40]!r}")
        if order.namespace in _SYSTEM or (order.namespace and order.namespace == self._own_namespace):
            raise Refused(f"the namespace {order.namespace} is protected")
        try:
            detail = verb(self, order)
        except (KubeError, Gone, Unreachable) as problem:
            return Result(order.id, "failed", str(problem)[:300], iso(now))
        return Result(order.id, "delivered" if order.verb == "calls" else "done", detail, iso(now))

    def _require(self, wanted: Permission, namespace: str, name: str) -> None:
        """Ask Kubernetes whether we may. Raises Refused."""
        attributes = {
            "group": wanted.group,
            "resource": wanted.resource,
            "subresource": wanted.subresource,
            "verb": wanted.verb,
            "namespace": namespace,
            "name": name,
        }
        review = self._kube.post(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
            },
        )
        if (review.get("status") or {}).get("allowed") is not True:
            raise Refused(f"RBAC does not allow: {wanted}")

    def _calls(self, order: Order) -> str:
        """A batch; its answer goes to an address of its own, as soon as it is known."""
        if self._deliver is None:
            raise Refused("this agent cannot deliver answers of batches")
        try:
            batch = calls.read_calls(order.args.get("calls"))
        except calls.NotAllowed as refused:
            raise Refused(str(refused)) from None
        self._busy = True
        answers = [calls.perform(self._kube, call, self._own_namespace) for call in batch]
        self._deliver(order.id, {"results": answers})
        return f"{len(batch)} calls"

    def _cordon(self, order: Order, *, unschedulable: bool) -> str:
        if order.kind != "Node":
            raise Refused("only nodes can be cordoned")
        self._require(Permission("", "nodes", "patch"), "", order.name)
        self._kube.patch(
            object_path("/api/v1/nodes", "", order.name), {"spec": {"unschedulable": True if unschedulable else None}}
        )
        return "cordoned" if unschedulable else "uncordoned"

    def _scale(self, order: Order) -> str:
        plural = _SCALABLE.get(order.kind)
        wanted, expected = order.args.get("replicas"), order.args.get("from")
        if plural is None or not order.namespace:
            raise Refused(f"a {order.kind[:40]} cannot be scaled")
        if not isinstance(wanted, int) or isinstance(wanted, bool) or not 0 <= wanted <= _MOST_REPLICAS:
            raise Refused("replicas is no count")
        self._require(Permission("apps", plural, "get", "scale"), order.namespace, order.name)
        self._require(Permission("apps", plural, "patch", "scale"), order.namespace, order.name)
        path = object_path(f"/apis/apps/v1/{plural}", order.namespace, order.name, "scale")
        scale = self._kube.get(path)
        found = int((scale.get("spec") or {}).get("replicas") or 0)
        if found == wanted:
            return f"already at {wanted}"
        if expected is not None and found != expected:
            raise Refused(f"it was changed meanwhile: {found} replicas, not {expected}")
        version = (scale.get("metadata") or {}).get("resourceVersion")
        body: dict[str, Any] = {"spec": {"replicas": wanted}}
        if version:
            body["metadata"] = {"resourceVersion": version}  # a change in between makes this a conflict
        self._kube.patch(path, body)
        return f"scaled from {found} to {wanted}"

    def _annotate(self, order: Order) -> str:
        place = _ANNOTATED.get(order.kind)
        wanted = order.args.get("annotations")
        if place is None or (bool(order.namespace) is (order.kind in {"Namespace", "Node"})):
            raise Refused(f"a {order.kind[:40]} cannot be annotated this way")
        if order.kind == "Namespace" and (order.name in _SYSTEM or order.name == self._own_namespace):
            raise Refused(f"the namespace {order.name} is protected")
        if not isinstance(wanted, dict) or not wanted:
            raise Refused("no annotations are given")
        if not all(k.startswith(ANNOTATIONS) and (v is None or isinstance(v, str)) for k, v in wanted.items()):
            raise Refused(f"only annotations under {ANNOTATIONS} may be set")
        group, plural, path = place
        self._require(Permission(group, plural, "patch"), order.namespace, order.name)
        self._kube.patch(object_path(path, order.namespace, order.name), {"metadata": {"annotations": wanted}})
        return f"{len(wanted)} annotations set"


_VERBS: dict[str, Callable[[Orders, Order], str]] = {
    "cordon": lambda orders, order: orders._cordon(order, unschedulable=True),
    "uncordon": lambda orders, order: orders._cordon(order, unschedulable=False),
    "scale": Orders._scale,
    "patch-annotations": Orders._annotate,
    "calls": Orders._calls,
}

__all__ = ["CONTEXT", "Order", "Orders", "Refused", "Result", "load_key", "verify"]
