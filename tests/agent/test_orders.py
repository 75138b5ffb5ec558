"""Signed orders: every way to be refused, and the four verbs against an API server."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.cluster.kube import Access, Kube
from agent.cluster.orders import CONTEXT, Orders, load_key
from agent.transport import BadAddress, Endpoint
from tests.fakes import kube_objects as make
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.integration
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def order(
    verb: str = "cordon", *, key: Ed25519PrivateKey = KEY, context: bytes = CONTEXT, **more: Any
) -> dict[str, str]:
    now = dt.datetime.now(dt.UTC)
    body = {
        "id": "o-1", "cluster": "the-cluster", "verb": verb, "target": {"kind": "Node", "name": "n1"}, "args": {},
        "issued_at": now.isoformat(), "expires_at": (now + dt.timedelta(minutes=5)).isoformat(), **more,
    }  # fmt: skip
    payload = json.dumps({k: v for k, v in body.items() if v is not None}).encode()
    return {
        "id": str(body["id"]),
        "payload": base64.b64encode(payload).decode(),
        "signature": base64.b64encode(key.sign(context + payload)).decode(),
    }


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with FakeKube() as server:
        server.create(make.node("n1"))
        server.create(make.deployment("web", "shop", replicas=3))
        server.create(make.deployment("agent", "curfew", replicas=1))
        server.create(make.deployment("dns", "kube-system", replicas=2))
        yield server


def orders(kube: FakeKube, *, allowed: bool = True) -> Orders:
    return Orders(
        Kube(Access(Endpoint(kube.url))),
        allowed=allowed,
        check=load_key(PUBLIC) if allowed else None,
        cluster=lambda: "the-cluster",
        own_namespace="curfew",
    )


def judged(kube: FakeKube, raw: Any, **more: Any) -> tuple[str, str]:
    made = orders(kube, **more)
    made.take([raw])
    result = made.results()[0]
    return result["status"], result["detail"]


def writes(kube: FakeKube) -> list[str]:
    return [line for line in kube.log if line.startswith(("PATCH", "PUT", "DELETE")) or "eviction" in line]


def scale(
    replicas: Any = 1, name: str = "web", namespace: str = "shop", kind: str = "Deployment", **more: Any
) -> dict[str, str]:
    args = {"replicas": replicas, **more}
    return order("scale", target={"kind": kind, "namespace": namespace, "name": name}, args=args)


def annotate(annotations: Any, kind: str = "Deployment", name: str = "web", namespace: str = "shop") -> dict[str, str]:
    target = {"kind": kind, "namespace": namespace, "name": name}
    return order("patch-annotations", target=target, args={"annotations": annotations})


def _at(minutes: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)).isoformat()


def refused() -> dict[str, tuple[Any, str]]:
    """Orders that are refused, with a part of the reason; fresh, since an order lives five minutes."""
    return {
        "switched off": (order(), "switched off"),
        "another key": (order(key=OTHER), "signature"),
        "another context": (order(context=b"other-v1\n"), "signature"),
        "altered payload": ({**order(), "payload": order("uncordon")["payload"]}, "signature"),
        "no base64": ({"payload": "!", "signature": "?"}, "base64"),
        "not an object": ("cordon", "not an order"),
        "other cluster": (order(cluster="another"), "another cluster"),
        "expired": (order(issued_at=_at(-20), expires_at=_at(-11)), "expired"),
        "from the future": (order(issued_at=_at(20), expires_at=_at(25)), "future"),
        "too long a life": (order(expires_at=_at(60)), "ten minutes"),
        "no times": (order(expires_at=None), "malformed"),
        "unknown verb": (order("delete"), "unknown verb"),
        "cordon a pod": (order("cordon", target={"kind": "Pod", "namespace": "shop", "name": "x"}), "only nodes"),
        "scale a node": (order("scale", args={"replicas": 0}), "cannot be scaled"),
        "scale below zero": (scale(-1), "no count"),
        "scale to true": (scale(True), "no count"),
        "scale itself": (scale(0, "agent", "curfew"), "protected"),
        "scale the system": (scale(0, "dns", "kube-system"), "protected"),
        "changed meanwhile": (scale(0, **{"from": 9}), "3 replicas, not 9"),
        "foreign annotation": (annotate({"kubectl.kubernetes.io/restartedAt": "now"}), "only annotations under"),
        "annotation of a number": (annotate({"curfew.dev/x": 1}), "only annotations under"),
        "no annotations": (annotate({}), "no annotations"),
        "annotate a secret": (annotate({"curfew.dev/x": "1"}, kind="Secret"), "cannot be annotated"),
        "annotate own namespace": (
            annotate({"curfew.dev/x": "1"}, kind="Namespace", name="curfew", namespace=""),
            "protected",
        ),
        "node in a namespace": (
            annotate({"curfew.dev/x": "1"}, kind="Node", name="n1", namespace="shop"),
            "cannot be annotated",
        ),
    }


@pytest.mark.parametrize("case", refused())
def test_refused(kube: FakeKube, case: str) -> None:
    raw, reason = refused()[case]
    status, detail = judged(kube, raw, allowed=case != "switched off")
    assert (status, reason in detail) == ("refused", True), detail
    assert writes(kube) == []


@pytest.mark.parametrize(
    ("make_order", "rule"),
    [
        (order, {"verb": "patch", "resource": "nodes"}),
        (scale, {"verb": "patch", "resource": "deployments", "subresource": "scale"}),
        (lambda: annotate({"curfew.dev/x": "1"}), {"verb": "patch", "resource": "deployments"}),
    ],
)
def test_rbac_has_the_last_word(kube: FakeKube, make_order: Callable[[], dict[str, str]], rule: dict[str, str]) -> None:
    kube.deny(**rule)
    status, detail = judged(kube, make_order())
    assert status == "refused"
    assert detail.startswith("RBAC does not allow: patch")
    assert writes(kube) == []


def test_cordon_and_uncordon(kube: FakeKube) -> None:
    assert judged(kube, order()) == ("done", "cordoned")
    assert kube.get("nodes", "", "n1")["spec"]["unschedulable"] is True
    assert judged(kube, order("uncordon")) == ("done", "uncordoned")
    assert "unschedulable" not in kube.get("nodes", "", "n1")["spec"], "what was unset is unset again"


def test_scale(kube: FakeKube) -> None:
    assert judged(kube, scale(0, **{"from": 3})) == ("done", "scaled from 3 to 0")
    assert kube.get("deployments", "shop", "web")["spec"]["replicas"] == 0
    assert judged(kube, scale(0)) == ("done", "already at 0")


def test_annotations_are_set_and_removed(kube: FakeKube) -> None:
    assert judged(kube, annotate({"curfew.dev/restore": "3"}))[0] == "done"
    assert kube.get("deployments", "shop", "web")["metadata"]["annotations"] == {"curfew.dev/restore": "3"}
    assert judged(kube, annotate({"curfew.dev/restore": None}))[0] == "done"
    assert kube.get("deployments", "shop", "web")["metadata"]["annotations"] == {}


def test_an_order_is_carried_out_once(kube: FakeKube) -> None:
    made, raw = orders(kube), scale(5)
    made.take([raw])
    kube.change("deployments", "shop", "web", {"spec": {"replicas": 2}})
    made.take([raw])
    assert [r["detail"] for r in made.results()] == ["scaled from 3 to 5"] * 2
    assert kube.get("deployments", "shop", "web")["spec"]["replicas"] == 2
    made.told(2)
    assert made.results() == []


def test_a_failure_is_told(kube: FakeKube) -> None:
    kube.fail("PATCH", status=500, message="etcd is full")
    status, detail = judged(kube, scale())
    assert status == "failed"
    assert "etcd is full" in detail
    assert judged(kube, scale(name="never"))[0] == "failed"


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "!!!!"])
def test_bad_keys_stop_the_start(text: str) -> None:
    with pytest.raises(BadAddress):
        load_key(text)
