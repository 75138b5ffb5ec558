"""Real AdmissionReviews over TLS, from an API server that checks the certificate, for every rule; hostile ones too."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import socket
import ssl
import threading
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.cluster.kube import Access, Kube
from agent.cluster.orders import load_key
from agent.cluster.rules import RulesKeeper
from agent.cluster.webhook import certs, server
from agent.transport import Endpoint
from agent.wire.placement import INSTANCE_TYPE, MARK, ZONE, Rules
from tests.agent.webhook.conftest import PUBLIC, World, envelope

pytestmark = pytest.mark.integration
SPOT = (("karpenter.sh/capacity-type", "spot"),)
FORCE = Rules(version=1, strategy="force", spot=SPOT, own_namespace="curfew")
DEADLINE = 2.0  # the webhook's timeoutSeconds


@pytest.mark.parametrize(
    ("rules", "check"),
    [
        (FORCE, lambda spec: spec["nodeSelector"] == dict(SPOT)),
        (
            Rules(version=1, strategy="prefer", spot=SPOT),
            lambda spec: (
                spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["preference"][
                    "matchExpressions"
                ]
                == [{"key": SPOT[0][0], "operator": "In", "values": ["spot"]}]
            ),
        ),
        (
            Rules(version=1, block_burstable=True, burstable=("t3.large",)),
            lambda spec: (
                spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
                == {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": INSTANCE_TYPE, "operator": "NotIn", "values": ["t3.large"]}]}
                    ]
                }
            ),
        ),
        (
            Rules(version=1, spread=True),
            lambda spec: [c["topologyKey"] for c in spec["topologySpreadConstraints"]] == [ZONE],
        ),
    ],
    ids=["force", "prefer", "burstable", "zones"],
)
def test_every_rule_arrives_at_the_pod(world: World, rules: Rules, check: Any) -> None:
    world.round(rules)
    stored = world.create()
    assert check(stored["spec"])
    assert stored["metadata"]["annotations"][MARK]
    (call,) = world.kube.admission.calls
    assert (call.status, call.failure) == (200, "")
    assert world.listener.state.figures()["counts"]["changed"] == 1


def test_exempt_namespaces_are_not_even_asked_about_and_others_are_left_alone(world: World) -> None:
    world.round(FORCE)
    for namespace in ("kube-system", "curfew"):
        assert "nodeSelector" not in world.create(namespace=namespace)["spec"]
    assert world.create(name="x", labels={"curfew.dev/unmanaged": "true"})["spec"].get("nodeSelector") is None
    assert world.kube.admission.calls == []
    assert "nodeSelector" not in world.create(namespace="karpenter")["spec"]
    assert world.kube.admission.calls[0].patch == []


def test_without_rules_without_webhook_and_with_a_stranger_in_its_place_pods_are_made(world: World) -> None:
    assert "nodeSelector" not in world.create()["spec"], "no certificate is trusted yet"
    assert world.kube.admission.calls[0].failure
    world.round()
    assert "nodeSelector" not in world.create(name="b")["spec"]
    assert world.kube.admission.calls[1].status == 200
    other = certs.made(["other.curfew.svc"], dt.datetime.now(dt.UTC))
    world.listener.use(other.cert, other.key)
    world.create(name="c")
    assert "CERTIFICATE_VERIFY_FAILED" in world.kube.admission.calls[2].failure
    world.kube.admission.services.clear()
    world.create(name="d")
    assert len(world.kube.all("pods")) == 4


def test_rules_of_another_key_another_cluster_or_an_older_version_are_not_used(world: World) -> None:
    world.round(Rules(version=5, strategy="prefer", spot=SPOT))
    odd = {
        "other key": envelope(FORCE, world.uid, key=Ed25519PrivateKey.generate()),
        "order": envelope(FORCE, world.uid, context=b"curfew-order-v1\n"),
        "other cluster": envelope(FORCE, "another"),
        "older": envelope(FORCE, world.uid),
        "nothing": {},
    }
    for name, one in odd.items():
        world.kube.change("configmaps", "curfew", "curfew-agent-placement", {"data": {"rules": json.dumps(one)}})
        world.round()
        assert world.listener.state.rules.version == 5, name
    world.kube.down()  # the API server, and the platform with it, are away: the rules stay
    world.round()
    assert world.listener.state.rules.strategy == "prefer"


def test_certificates_turn_without_a_failed_call(world: World) -> None:
    world.round(FORCE)
    first = world.keeper._serving
    bundles = set()
    for day in range(0, 900, 10):
        world.now = dt.datetime.now(dt.UTC) + dt.timedelta(days=day)
        for _ in range(3):  # a new authority is told first, signs a round later
            world.round()
            hooks = world.kube.get("mutatingwebhookconfigurations", "", "curfew-agent-placement")["webhooks"]
            bundle = base64.b64decode(hooks[0]["clientConfig"]["caBundle"]).decode()
            bundles.add(bundle)
            # What an API server does at each of these moments, at the time that the clock shows.
            cert = certs.x509.load_pem_x509_certificate(world.keeper._serving.encode())
            assert cert.not_valid_before_utc < world.now < cert.not_valid_after_utc
            known = [ca for ca in certs.authorities(bundle) if ca.subject == cert.issuer]
            assert known, "the authority that signed is trusted"
            cert.verify_directly_issued_by(known[0])
            assert known[0].not_valid_after_utc > world.now
            world.now += dt.timedelta(minutes=30)
    assert world.keeper._serving != first
    assert len(bundles) >= 6, "authorities turned, two of them trusted at a time"
    world.now = dt.datetime.now(dt.UTC)


def test_two_replicas_share_one_authority(world: World) -> None:
    world.round(FORCE)
    listener, end = server.serve(("127.0.0.1", 0), server.State())
    try:
        from agent.cluster.webhook.keeper import Keeper, Names

        kube = Kube(Access(Endpoint(world.kube.url)))
        second = Keeper(kube, listener, Names("curfew", "curfew-agent", "webhook-b"), load_key(PUBLIC))
        second.step()
        assert second._serving == world.keeper._serving
        world.kube.admission.services["curfew", "curfew-agent-webhook"] = ("127.0.0.1", listener.server_port)
        assert world.create()["spec"]["nodeSelector"] == dict(SPOT)
    finally:
        end()


def test_a_pod_that_waits_too_long_is_let_off_and_its_budget_is_kept(world: World, monkeypatch: Any) -> None:
    from agent.cluster.webhook import keeper

    monkeypatch.setattr(keeper, "EVERY", 0.0)
    world.round(FORCE)
    waiting = world.create()
    assert waiting["metadata"]["annotations"][MARK] == "force-spot"
    world.round()
    assert len(world.kube.all("pods")) == 1, "ten minutes are not over"
    world.now += dt.timedelta(minutes=11)
    world.round()
    assert len(world.kube.all("pods")) == 1, "first it is noted, for every replica"
    world.round()
    assert world.kube.all("pods") == []
    again = world.create(name="web-2")
    assert "nodeSelector" not in again["spec"]
    assert again["metadata"]["annotations"][MARK] == "prefer-spot"
    world.now += dt.timedelta(hours=1)
    world.round()
    assert world.create(name="web-3")["spec"]["nodeSelector"] == dict(SPOT), "after an hour the rule is tried again"


def test_the_agent_keeps_newer_rules_and_reports_its_replicas(world: World) -> None:
    world.round(FORCE)
    keeper = RulesKeeper(
        Kube(Access(Endpoint(world.kube.url))),
        config="curfew-agent-placement",
        namespace="curfew",
        check=load_key(PUBLIC),
        cluster=lambda: world.uid,
    )
    assert keeper.report()["version"] == 1
    keeper.take(envelope(Rules(version=3, strategy="prefer", spot=SPOT), world.uid))
    keeper.take(envelope(FORCE, world.uid))
    keeper.take(envelope(FORCE, world.uid, key=Ed25519PrivateKey.generate()))
    world.round()
    assert world.listener.state.rules.version == 3
    keeper._looked = -100.0
    told = keeper.report()
    assert told["version"] == 3
    assert [(r["pod"], r["version"]) for r in told["replicas"]] == [("webhook-a", 3)]


# hostile reviews


def _connect(world: World) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", world.listener.server_port), timeout=5)
    return context.wrap_socket(plain)


def _post(world: World, body: bytes, length: int | None = None) -> tuple[int, bytes, float]:
    began = time.monotonic()
    with _connect(world) as wire:
        head = f"POST /mutate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
        with contextlib.suppress(OSError):
            wire.sendall(head.encode() + body)
        got = b""
        try:
            while piece := wire.recv(65_536):
                got += piece
        except OSError:
            pass
    status = int(got.split(b" ", 2)[1]) if got else 0
    return status, got.partition(b"\r\n\r\n")[2], time.monotonic() - began


def _review(pod: Any, **more: Any) -> bytes:
    request = {
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "shop",
        "object": pod,
        **more,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


TERMS = [{"matchExpressions": [{"key": f"k{n}", "operator": "Exists"}]} for n in range(4_000)]
HOSTILE = {
    "nothing": (b"", 400),
    "no JSON": (b"{", 400),
    "binary": (bytes(range(256)) * 100, 400),
    "deep": (b"[" * 200_000, 400),
    "deep pod": (b'{"request":{"uid":"u","object":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}", 400),
    "huge number": (b'{"request":{"uid":' + b"9" * 1_000_000 + b"}}", 400),
    "no uid": (b'{"request":{}}', 400),
    "a list": (b"[]", 400),
    "no pod": (_review(None), 200),
    "pod of text": (_review("pod"), 200),
    "spec of text": (_review({"spec": "x"}), 200),
    "labels of lists": (_review({"metadata": {"labels": {"app": ["x"]}}, "spec": {}}), 200),
    "namespace of numbers": (_review({"spec": {}}, namespace=7), 200),
    "not a pod": (_review({"spec": {}}, kind={"group": "apps", "kind": "Deployment"}), 200),
    "an update": (_review({"spec": {}}, operation="UPDATE"), 200),
    "4,000 terms": (
        _review({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": TERMS}}}}}),
        200,
    ),
    "1 MB of environment": (_review({"spec": {"containers": [{"env": [{"name": "x" * 1000}] * 1000}]}}), 200),
    "5 MB": (b" " * (5 * 1024 * 1024), 413),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.alone
def test_hostile_reviews_are_answered_in_time_and_nothing_is_denied(world: World, name: str) -> None:
    world.round(Rules(version=1, strategy="force", spot=(*SPOT, ("b", "c")), block_burstable=True, burstable=("t3.a",)))
    body, wanted = HOSTILE[name]
    status, answer, seconds = _post(world, body)
    assert status in ({wanted} if wanted != 413 else {413, 0})  # the client may see its own broken pipe first
    assert seconds < DEADLINE
    if wanted == 200:
        assert json.loads(answer)["response"]["allowed"] is True
    assert world.create(name="after")["spec"]["affinity"], "the next pod is treated as ever"


@pytest.mark.alone
def test_clients_that_stall_hold_up_nobody(world: World) -> None:
    world.round(FORCE)
    address = ("127.0.0.1", world.listener.server_port)
    silent = [socket.create_connection(address) for _ in range(60)]  # no handshake
    dripping = [_connect(world) for _ in range(20)]
    for wire in dripping:
        wire.sendall(b"POST /mutate HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{")
    try:
        began = time.monotonic()
        assert world.create()["spec"]["nodeSelector"] == dict(SPOT)
        assert time.monotonic() - began < 1.0
        status, _, seconds = _post(world, b"{", length=1000)
        assert status == 0, "a body that does not come is given up, not waited for"
        assert seconds < DEADLINE + 0.5
    finally:
        for wire in [*silent, *dripping]:
            wire.close()


@pytest.mark.alone
def test_more_connections_than_there_are_places_end_at_once(world: World, monkeypatch: Any) -> None:
    world.round(FORCE)
    world.listener._places = threading.BoundedSemaphore(3)
    address = ("127.0.0.1", world.listener.server_port)
    held = [socket.create_connection(address) for _ in range(3)]
    try:
        time.sleep(0.2)
        assert "nodeSelector" not in world.create()["spec"], "ignored, not blocked"
        assert world.kube.admission.calls[-1].seconds < 1.0
    finally:
        for wire in held:
            wire.close()
