"""The agent of a cluster in the same thread as the worker that waits for it: each pause is one heartbeat of the agent."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from accounts.models import AgentToken
from agent.cluster.kube import Access, Kube
from agent.cluster.orders import Orders, load_key
from agent.transport import Endpoint
from clusters import services
from clusters.models import Cluster
from clusters.orders.kube import AgentKube

UID = "uid-of-the-cluster"


class Agent:
    """`beat()` is one heartbeat: what it says, what it is told, what it does, what it answers. `deaf`: the next so many
    answers of batches are lost on their way."""

    def __init__(self, cluster: Cluster, token: AgentToken, kube_url: str) -> None:
        self.cluster, self.token = cluster, token
        self.deaf = self.away = 0
        self.batches: list[int] = []
        self.orders = Orders(
            Kube(Access(Endpoint(kube_url)), timeout=10.0),
            allowed=True,
            check=load_key(services.orders_key(cluster)),
            cluster=lambda: UID,
            own_namespace="curfew",
            deliver=self._deliver,
        )

    def beat(self, _seconds: float = 0.0) -> dict[str, Any]:
        if self.away:
            self.away -= 1
            return {}
        results = self.orders.results()
        body = {
            "format": 1,
            "session": "s",
            "at": datetime.now(UTC).isoformat(),
            "sequence": 0,
            "cluster": {"uid": UID},
            "orders": self.orders.able(),
            "order_results": results,
        }
        status, answer = services.record_heartbeat(token=self.token, body=json.dumps(body).encode())
        assert status == 200, answer
        self.orders.told(len(results))
        self.orders.take(answer.get("orders"))
        return answer

    def _deliver(self, order: str, content: dict[str, Any]) -> None:
        self.batches.append(len(content["results"]))
        if self.deaf:
            self.deaf -= 1
            return
        packed = gzip.compress(json.dumps(content).encode())
        status, answer = services.take_order_answer(token=self.token, order_id=UUID(order), body=packed, gzip=True)
        assert status == 200, answer

    @contextmanager
    def reached(self, cluster: Cluster) -> Iterator[AgentKube]:
        """What `gateway.open_kube` gives."""
        yield AgentKube(cluster, pause=self.beat)
