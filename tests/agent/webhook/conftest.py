"""A cluster with our webhook installed as the chart installs it; the API server calls it over TLS."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.cluster.kube import Access, Kube
from agent.cluster.orders import load_key
from agent.cluster.webhook.keeper import Keeper, Names
from agent.cluster.webhook.server import Listener, State, serve
from agent.transport import Endpoint
from agent.wire.placement import CONTEXT, Rules
from clusters.inventory.install import CHART
from tests.agent.helm import Chart
from tests.fakes.kube import FakeKube

KEY = Ed25519PrivateKey.generate()
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
VALUES = {
    "url": "https://curfew.example",
    "token": "cfa_x",
    "orders": {"publicKey": PUBLIC},
    "webhook": {"enabled": True, "replicas": 2},
}
INSTALLED = {"Secret", "ConfigMap", "MutatingWebhookConfiguration"}


def envelope(rules: Rules, cluster: str, *, key: Ed25519PrivateKey = KEY, context: bytes = CONTEXT) -> dict[str, str]:
    payload = json.dumps({"cluster": cluster, "rules": rules.wire()}).encode()
    return {
        "payload": base64.b64encode(payload).decode(),
        "signature": base64.b64encode(key.sign(context + payload)).decode(),
    }


@dataclass
class World:
    """The API server, one replica of the webhook, and the clock that its keeper believes."""

    kube: FakeKube
    listener: Listener
    keeper: Keeper
    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    @property
    def uid(self) -> str:
        return str(self.kube.get("namespaces", "", "kube-system")["metadata"]["uid"])

    def round(self, rules: Rules | None = None) -> None:
        """Everything that the keeper does, now; after rules were written for it."""
        if rules is not None:
            data = {"rules": json.dumps(envelope(rules, self.uid))}
            self.kube.change("configmaps", "curfew", "curfew-agent-placement", {"data": data})
        self.keeper._due = dict.fromkeys(self.keeper._due, 0.0)
        self.keeper.step()

    def create(self, spec: dict[str, Any] | None = None, *, name: str = "web-1", **metadata: Any) -> dict[str, Any]:
        """Create a pod as a controller would: over HTTP, through admission; returns what was stored."""
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d", "controller": True, "uid": "u"}
        namespace = metadata.pop("namespace", "shop")
        made: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {"app": "web"},
                "ownerReferences": [owner],
                **copy.deepcopy(metadata),
            },
            "spec": {"containers": [{"name": "web", "image": "web:1"}], **(spec or {})},
            "status": {"phase": "Pending"},
        }
        client = Kube(Access(Endpoint(self.kube.url)))
        try:
            return client.post(f"/api/v1/namespaces/{namespace}/pods", made)
        finally:
            client.close()


@pytest.fixture
def world() -> Iterator[World]:
    with FakeKube() as kube:
        for obj in Chart(CHART).render(VALUES):
            if obj["kind"] in INSTALLED:
                kube.create(obj)
        listener, end = serve(("127.0.0.1", 0), State())
        kube.admission.services["curfew", "curfew-agent-webhook"] = ("127.0.0.1", listener.server_port)
        made = World(kube, listener, None)  # type: ignore[arg-type]
        made.keeper = Keeper(
            Kube(Access(Endpoint(kube.url))),
            listener,
            Names("curfew", "curfew-agent", "webhook-a"),
            load_key(PUBLIC),
            now=lambda: made.now,
        )
        yield made
        end()
