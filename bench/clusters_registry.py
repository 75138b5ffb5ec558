"""The registry of two thousand clusters, fifteen hundred of them lost or asleep: server time and queries of list, search,
pills and API; and heartbeats.

    python -m bench.clusters_registry --clusters 2000
    python -m tests.stack -- python -m bench.clusters_registry      # PostgreSQL

The whole request is timed in this process, middleware and rendering included. Limits: p95 below 150 ms for pages, p99
below 50 ms for a heartbeat, and 2,000 agents at one heartbeat every 15 s within one core (7.5 ms of CPU each).
"""

from __future__ import annotations

import argparse
import random
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

from bench.support import report, setup_django, summary

PATHS = (
    "/clusters/",
    "/clusters/?page=7",
    "/clusters/?search=lark-0",
    "/clusters/?search=compositing%20eu-west",
    "/clusters/?pill=lost",
    "/clusters/?pill=cost",
    "/clusters/?sort=name",
    "/clusters/?sort=-health",
    "/api/clusters?page_size=50",
)
REGIONS = ("us-east-1", "eu-west-1", "eu-central-1", "ap-southeast-2")


def fill(number: int) -> tuple[Any, list[Any]]:
    """An organization with that many clusters: a quarter live, the rest lost or asleep."""
    from clusters.models import Alert, Cluster
    from core import clock
    from tests.personas import make_organization, make_person

    chance = random.Random(7)
    organization = make_organization("Bench")
    owner = make_person("alice", organization, "owner")
    now = clock.now()
    rows = []
    for i in range(number):
        state = ("live", "lost", "asleep", "lost")[i % 4]
        team = ("compositing", "lighting", "crowds")[i % 3]
        rows.append(
            Cluster(
                organization=organization,
                name=f"lark-{i:04d}",
                uid=f"uid-{i}",
                distribution=("eks", "gke", "aks")[i % 3],
                cloud=("aws", "gcp", "azure")[i % 3],
                region=REGIONS[i % 4],
                environment=("prod", "staging", "dev")[i % 3],
                version="v1.33.2",
                team=team,
                tags={"team": team},
                tag_text=f"team={team}",
                state=state,
                created_at=now,
                heard_at=now if state == "live" else now - timedelta(days=1),
                reported_at=now,
                node_count=chance.randint(1, 200),
                pod_count=chance.randint(10, 3000),
                cpu_milli=chance.randint(4000, 900_000),
                memory_bytes=chance.randint(1, 4000) * 1024**3,
                hourly_cost=Decimal(chance.randint(1, 9000)) / 100,
                efficiency=chance.uniform(20, 95),
                grade="C",
                health=chance.randint(20, 100),
                spark=[chance.randint(1, 200) for _ in range(24)],
                sources={name: {"state": "ok", "detail": ""} for name in ("nodes", "pods", "events")},
            )
        )
    Cluster.objects.all_orgs().bulk_create(rows, batch_size=200)
    lost = [r for r in rows if r.state == "lost"]
    Alert.objects.all_orgs().bulk_create(
        [Alert(organization=organization, cluster=r, kind="lost", title="lost", since=now) for r in lost],
        batch_size=200,
    )
    return owner, rows


def measure(client: Any, path: str, repeats: int) -> dict[str, Any]:
    """Milliseconds and queries of an address."""
    from django.db import connection

    queries = 0

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal queries
        queries += 1
        return execute(sql, params, many, context)

    client.get(path)
    with connection.execute_wrapper(count):
        assert client.get(path).status_code == 200
    spent, cpu = [], []
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        client.get(path)
        spent.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    return {"queries": queries, "ms": summary(spent), "cpu_ms": summary(cpu)}


def heartbeats(owner: Any, repeats: int) -> dict[str, Any]:
    """Heartbeats of one agent through the whole request."""
    from django.test import Client

    from clusters import services
    from tests.clusters.report import Reporter, cluster

    made = services.create_cluster(actor=owner.actor, name="beating")
    reporter = Reporter(cluster(3, 20), uid="beating")
    client, headers = Client(), {"Authorization": f"Agent {made.token}"}
    body = reporter.beat()
    spent, cpu = [], time.process_time()
    for _ in range(repeats):
        began = time.perf_counter()
        answer = client.post("/api/agent/cluster/heartbeat", body, content_type="application/json", headers=headers)
        spent.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, answer.content
    each = (time.process_time() - cpu) / repeats * 1000
    return {
        "ms": summary(spent),
        "cpu_ms_each": round(each, 2),
        "cores_for_2000_agents": round(each / 1000 * 2000 / 15, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.clusters_registry",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clusters", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    setup_django(CURFEW_NO_WORKER="1", CURFEW_STATIC_FROM_SOURCE="1")
    from django.conf import settings
    from django.db import connection
    from django.test import Client

    from core import live, tasks

    live._send = lambda group, message: None  # type: ignore[assignment]
    tasks._send = lambda name, kwargs: None
    settings.SECURE_SSL_REDIRECT = False
    owner, _ = fill(options.clusters)
    client = Client()
    client.force_login(owner.user)
    pages = {path: measure(client, path, options.repeats) for path in PATHS}
    beats = heartbeats(owner, options.repeats * 10)
    report("clusters_registry", database=connection.vendor, clusters=options.clusters, pages=pages, heartbeat=beats)


if __name__ == "__main__":
    main()
