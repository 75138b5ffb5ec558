"""Server time and number of queries of every page and every API answer, with few nodes and with many.

    python -m bench.pages --nodes 50
    python -m bench.pages --nodes 500
    python -m tests.stack -- python -m bench.pages --nodes 500     # PostgreSQL

Every route that answers a plain GET by a signed-in owner is measured, found in the URL configuration itself; routes
with one id get that of a node, an operation or an account. The whole request is timed, middleware and rendering
included, in this process and without a network. Each node has a week of history in the ledger, an operation and audit
lines; days that are over are rolled up, as the sweep does within minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from bench.support import percentile, report, setup_django

SKIPPED = ("admin/", "api/schema", "api/docs", "metrics", "healthz", "readyz", "accounts/")
ALIASES = ("api/v1/", "budgetguard/")
TYPES = ("FLUX Dev", "FLUX Canny", "SDXL Turbo", "Whisper Large", "Llama 70B")
MACHINES = {"t4": "g4dn.xlarge", "a10g": "g5.xlarge", "a100": "p4d.24xlarge"}
HOURLY = {"t4": Decimal("0.526"), "a10g": Decimal("1.006"), "a100": Decimal("32.77")}
DAYS = 7


def fill(nodes: int) -> dict[str, Any]:
    """An organization with accounts, nodes, a week of their history, operations and audit lines; ids by kind of thing."""
    from audit import services as audit
    from cloudnodes.models import CloudNode, NodeType
    from core import clock
    from tests.personas import make_account, make_organization, make_person

    organization = make_organization("Bench")
    owner = make_person("alice", organization, "owner")
    accounts = [make_account(organization, "aws", f"{number:012d}") for number in range(1, 4)]
    types = [
        NodeType.objects.for_org(organization).create(
            organization=organization, name=name, slug=name.lower().replace(" ", "-"), created_at=clock.now()
        )
        for name in TYPES
    ]
    for number in range(nodes):
        tier = list(MACHINES)[number % 3]
        awake = number % 4 == 0
        node = CloudNode.objects.for_org(organization).create(
            organization=organization,
            account=accounts[number % 3],
            node_type=types[number % len(types)],
            gpu_tier=tier,
            provider="aws",
            provider_id=f"i-{number:017x}",
            instance_name=f"node-{number:04d}-{tier}-aws",
            region="us-east-1",
            instance_type=MACHINES[tier],
            desired_state="awake" if awake else "asleep",
            observed_state="awake" if awake else "asleep",
            provider_state="running" if awake else "stopped",
            observed_at=clock.now(),
            created_at=clock.now() - timedelta(days=DAYS),
            hourly_cost=HOURLY[tier],
            hourly_cost_source="bench",
        )
        live_through(owner.actor, node, awake, HOURLY[tier])
        audit.record_alone(actor=owner.actor, verb="operation.requested", target=node)
    roll_up(organization)
    operation = operations_of(owner.actor, organization)
    return {
        "owner": owner,
        "node": CloudNode.objects.for_org(organization).latest("created_at").id,
        "operation": operation,
        "account": accounts[0].id,
    }


def roll_up(organization: Any) -> None:
    """What the ordinary sweep has done an hour after a day is over."""
    from core import clock
    from costs import rollups
    from costs.models import LedgerSlot

    rollups.make_slots(organization)
    LedgerSlot.objects.for_org(organization.id).update(created_at=clock.now() - timedelta(hours=1))
    rollups.build_due()


def live_through(actor: Any, node: Any, awake: bool, hourly: Decimal) -> None:
    """Awake for some hours of each day, by the ordinary services."""
    from core import clock
    from costs import services as costs

    facts = {
        "actor": actor,
        "organization_id": node.organization_id,
        "resource_kind": "cloud_node",
        "resource_id": node.id,
        "resource_label": node.instance_name,
    }
    begin = clock.now() - timedelta(days=DAYS)
    costs.set_price(**facts, awake=hourly, asleep=Decimal("0.01"), source="bench", valid_from=begin)
    for day in range(DAYS):
        for hour, phase in ((0, "asleep"), (9, "awake"), (17, "asleep")):
            at = begin + timedelta(days=day, hours=hour)
            costs.record_event(**facts, phase=phase, at=at, key=f"{day}:{hour}", source="bench")
    if awake:
        costs.record_event(**facts, phase="awake", at=clock.now() - timedelta(hours=1), key="now", source="bench")


def operations_of(actor: Any, organization: Any) -> UUID:
    """Two hundred ended operations; the id of the last."""
    from cloudnodes.models import CloudNode
    from core import clock
    from operations.models import Operation

    rows = []
    nodes = list(CloudNode.objects.for_org(organization)[:200])
    for number in range(200):
        node, at = nodes[number % len(nodes)], clock.now() - timedelta(minutes=number)
        rows.append(
            Operation(
                organization=organization,
                kind="node.start",
                resource_kind="cloud_node",
                resource_id=node.id,
                resource_label=node.instance_name,
                status="succeeded",
                not_before=at,
                created_at=at,
                started_at=at,
                finished_at=at + timedelta(seconds=50),
                progress=100,
                actor_kind=actor.kind,
                actor_id=actor.id,
                actor_label=actor.label,
            )
        )
    Operation.objects.all_orgs().bulk_create(rows)
    return rows[-1].id


def routes() -> Iterator[tuple[str, list[str]]]:
    """Every route with the names of its parameters, aliases left out."""
    from django.urls import get_resolver
    from django.urls.resolvers import RoutePattern, URLResolver

    def walk(patterns: Any, prefix: str) -> Iterator[tuple[str, list[str]]]:
        for pattern in patterns:
            if not isinstance(pattern.pattern, RoutePattern):
                continue
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            elif not route.startswith(SKIPPED + ALIASES) and not (
                route.endswith("/") and route != "" and "api/" in route
            ):
                yield route, list(pattern.pattern.converters)

    yield from walk(get_resolver().url_patterns, "")


def address(route: str, parameters: list[str], ids: dict[str, Any]) -> str | None:
    """The route with ids in the place of its parameters; None when we have no such thing."""
    import re

    path = "/" + route
    for name in parameters:
        known = next((str(ids[kind]) for kind in ("node", "operation", "account") if kind in name), None)
        if known is None:
            return None
        path = re.sub(rf"<[^>]*\b{name}>", known, path)
    return path


def measure(client: Any, path: str, repeats: int) -> dict[str, Any] | int:
    """Milliseconds and queries of one address; the status when it is no plain page."""
    from django.db import connection

    queries = 0

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal queries
        queries += 1
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        answer = client.get(path)
    if answer.status_code != 200 or answer.streaming:
        return int(answer.status_code)
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        client.get(path)
        spent.append((time.perf_counter() - began) * 1000)
    return {
        "p50_ms": round(percentile(spent, 50), 1),
        "p95_ms": round(percentile(spent, 95), 1),
        "queries": queries,
        "kb": round(len(answer.content) / 1000, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    setup_django(CURFEW_NO_WORKER="1", CURFEW_STATIC_FROM_SOURCE="1")
    from django.conf import settings
    from django.db import connection
    from django.test import Client

    from core import live, tasks

    live._send = lambda group, message: None  # type: ignore[assignment]
    tasks._send = lambda name, kwargs: None
    settings.SECURE_SSL_REDIRECT = False
    ids = fill(options.nodes)
    client = Client(raise_request_exception=False)
    client.force_login(ids["owner"].user)
    pages: dict[str, Any] = {}
    left_out: dict[str, int | str] = {}
    for route, parameters in routes():
        path = address(route, parameters, ids)
        found = measure(client, path, options.repeats) if path else "no such thing here"
        if not isinstance(found, dict):
            left_out["/" + route] = found
        else:
            pages["/" + route] = found
    slowest = dict(sorted(pages.items(), key=lambda item: -item[1]["p95_ms"]))
    report(
        "pages",
        database=connection.vendor,
        nodes=options.nodes,
        repeats=options.repeats,
        pages=slowest,
        left_out={route: why for route, why in left_out.items() if why not in {302, 405}},
    )


if __name__ == "__main__":
    main()
