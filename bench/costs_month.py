"""The ledger's month page over many intervals: how long the server takes, through roll-ups and without.

    python -m bench.costs_month [--rows 10000000] [--resources 2000] [--months 12]
    python -m tests.stack -- python -m bench.costs_month

One organization; its intervals are spread evenly over the months up to now, alternately awake and asleep, written straight
into the table. The days of this month and today so far are then rolled up by the ordinary sweep. Measured: the whole view
(template included) for an owner, 30 times, wall and processor time, and that its totals equal those of the intervals.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from bench.support import report, setup_django, summary

PRICES = (Decimal("0.526"), Decimal("1.006"), Decimal("3.673"))
CAUSES = ("schedule", "idle", "hand")
PEOPLE = ("Ada", "Ben", "Cleo", "Dev", "")
TEAMS = ("Comp", "Roto", "")

INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'costs_interval'
AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE conrelid = 'costs_interval'::regclass)
"""
FILLING = """
INSERT INTO costs_interval (id, organization_id, resource_id, resource_label, phase, started_at, ended_at, price,
    awake_price, cause, team, person, resource_kind, price_source)
SELECT lpad(to_hex((number + 1) * 1099511627776 + n), 32, '0')::uuid, %(organization)s,
    lpad(to_hex(number + 1), 32, '0')::uuid, 'node ' || number, CASE WHEN n %% 2 = 0 THEN 'awake' ELSE 'asleep' END,
    at, CASE WHEN n < %(each)s - 1 THEN at + %(length)s END, CASE WHEN n %% 2 = 0 THEN price ELSE 0 END, price,
    CASE WHEN n %% 2 = 0 THEN '' ELSE (%(causes)s::text[])[n / 2 %% 3 + 1] END,
    (%(teams)s::text[])[number %% 3 + 1], (%(people)s::text[])[n %% 5 + 1], 'cloud_node', 'bench'
FROM (
    SELECT number, n, (%(prices)s::numeric[])[number %% 3 + 1] AS price,
        %(began)s + make_interval(secs => number %% 600) + n * %(length)s::interval AS at
    FROM generate_series(0::bigint, %(resources)s - 1) AS number, generate_series(0::bigint, %(each)s - 1) AS n
) AS made
"""


def intervals(organization: UUID, rows: int, resources: int, months: int, now: datetime) -> Iterator[tuple[Any, ...]]:
    """The columns of each row, one resource after the other; the last of each resource is open."""
    each = rows // resources
    length = timedelta(days=30 * months) / each
    for number in range(resources):
        resource, price = UUID(int=number + 1), PRICES[number % 3]
        at = now - length * each + timedelta(seconds=number % 600)
        for n in range(each):
            awake = n % 2 == 0
            end = None if n == each - 1 else at + length
            cause = "" if awake else CAUSES[n // 2 % 3]
            yield (
                UUID(int=(number + 1) << 40 | n),
                organization,
                resource,
                f"node {number}",
                "awake" if awake else "asleep",
                at,
                end,
                price if awake else Decimal(0),
                price,
                cause,
                TEAMS[number % 3],
                PEOPLE[n % 5],
            )
            at += length


def fill(organization: UUID, rows: int, resources: int, months: int, now: datetime) -> None:
    from costs.models import Interval

    batch: list[Interval] = []
    names = ("id", "organization_id", "resource_id", "resource_label", "phase", "started_at", "ended_at")
    names += ("price", "awake_price", "cause", "team", "person")
    for row in intervals(organization, rows, resources, months, now):
        batch.append(Interval(resource_kind="cloud_node", price_source="bench", **dict(zip(names, row, strict=True))))
        if len(batch) == 20_000:
            Interval.objects.for_org(organization).bulk_create(batch, batch_size=2000)
            batch.clear()
    Interval.objects.for_org(organization).bulk_create(batch, batch_size=2000)


def put_in(organization: UUID, rows: int, resources: int, months: int, now: datetime) -> None:
    """The same rows as `intervals` gives, made by PostgreSQL itself, the indexes afterwards: many times quicker."""
    from django.db import connection

    each = rows // resources
    length = timedelta(days=30 * months) / each
    told = {
        "organization": organization,
        "each": each,
        "resources": resources,
        "began": now - length * each,
        "length": length,
        "prices": [*PRICES],
        "causes": [*CAUSES],
        "teams": [*TEAMS],
        "people": [*PEOPLE],
    }
    with connection.cursor() as cursor:
        cursor.execute(INDEXES)
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        cursor.execute(FILLING, told)
        for _, definition in indexes:
            cursor.execute(definition)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.costs_month", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--resources", type=int, default=2000)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--times", type=int, default=30)
    options = parser.parse_args()
    setup_django()
    from django.db import connection

    from core import clock
    from core.memory import settle_memory
    from costs import rollups, totals
    from costs.models import Interval, LedgerSlot
    from tests.personas import make_organization, make_person

    organization = make_organization("Bench")
    alice = make_person("alice", organization, "owner")
    now = datetime.now(UTC)
    began = time.monotonic()
    put = put_in if connection.vendor == "postgresql" else fill
    put(organization.id, options.rows, options.resources, options.months, now)
    filling = time.monotonic() - began
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    plain = measure(alice, 1)
    began = time.monotonic()
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    with clock.at(now):
        rollups.make_slots(organization)
        LedgerSlot.objects.for_org(organization.id).filter(start__lt=first - timedelta(days=40)).delete()
    LedgerSlot.objects.for_org(organization.id).update(created_at=now - timedelta(hours=1))
    for slot_id in rollups._due(organization.id):
        rollups.build(slot_id)
    building = time.monotonic() - began
    from django.core.cache import cache

    cache.set(totals.today_key(organization.id), 1, 3600)
    settle_memory()  # as the server does when it has started
    rolled = measure(alice, options.times)
    with clock.at(now):
        through = totals.between(alice.actor, first, now).spent
        rows = Interval.objects.for_org(organization)
        straight = totals.add_up(totals.facts_of(rows, first, now), first, now).spent
    report(
        "costs_month",
        database=connection.vendor,
        rows=options.rows,
        resources=options.resources,
        months=options.months,
        filling_seconds=round(filling, 1),
        building_seconds=round(building, 1),
        slots=LedgerSlot.objects.for_org(organization.id).count(),
        without_roll_ups=plain,
        month_page=rolled,
        totals_differ_by_dollars=f"{abs(through - straight):.9f}",
        load_average=round(os.getloadavg()[0], 1),
    )


def measure(persona: Any, times: int) -> dict[str, Any]:
    """Wall and processor milliseconds of the page."""
    from django.test import Client

    client = Client()
    client.force_login(persona.user)
    wall, processor = [], []
    for n in range(times + (times > 1)):
        began, used = time.monotonic(), time.process_time()
        answer = client.get("/costs/?period=month")
        if answer.status_code != 200:
            raise SystemExit(f"the page answered {answer.status_code}")
        if n or times == 1:  # the first one warms templates and connections
            wall.append((time.monotonic() - began) * 1000)
            processor.append((time.process_time() - used) * 1000)
    return {"wall_ms": summary(wall), "processor_ms": summary(processor)}


if __name__ == "__main__":
    main()
