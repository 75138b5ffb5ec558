"""What the real tick costs in processor time: 10,000 cloud nodes that follow schedules, with their database.

    python -m bench.hibernation_database_tick --nodes 10000
    python -m tests.stack -- python -m bench.hibernation_database_tick     # PostgreSQL

`quiet`: nothing is due. `edge`: every node's schedule changes at this instant; the bookkeeping of the edge, orders
apart. `order`: giving one order, whose rows it shares with the operation and the audit log. Limit: 1 s of processor time
for a quiet tick and for the edge; the exit code is 1 beyond either.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bench.support import report, setup_django

LIMIT_SECONDS = 1.0
EVENING = datetime(2031, 6, 9, 18, 0, 1, tzinfo=UTC)


def seed(nodes: int, organizations: int, schedules: int) -> None:
    """Awake nodes, each on one of its organization's office-hour schedules."""
    from cloudnodes.models import CloudNode, NodeType
    from hibernation.models import Assignment, Schedule
    from hibernation.schedule import PRESETS
    from tests.personas import make_account, make_organization

    grid = PRESETS["office_hours"].grid.to_json()
    start = EVENING - timedelta(days=1)
    per = nodes // organizations
    for place in range(organizations):
        organization = make_organization(f"Org {place}")
        account = make_account(organization, number=f"{place:012d}")
        kind = NodeType.objects.all_orgs().create(
            organization=organization, name="FLUX Dev", slug="flux-dev", created_at=start
        )
        plans = [
            Schedule(
                organization=organization, name=f"Office {n}", zone="UTC", grid=grid, created_at=start, updated_at=start
            )
            for n in range(schedules)
        ]
        Schedule.objects.all_orgs().bulk_create(plans)
        rows = [
            CloudNode(
                organization=organization,
                account=account,
                node_type=kind,
                gpu_tier="a10g",
                provider="aws",
                provider_id=f"i-{place}-{n}",
                instance_name=f"node-{n}",
                instance_type="g5.xlarge",
                observed_state="awake",
                desired_state="awake",
                provider_state="running",
                created_at=start,
            )
            for n in range(per)
        ]
        CloudNode.objects.all_orgs().bulk_create(rows, batch_size=500)
        Assignment.objects.all_orgs().bulk_create(
            [
                Assignment(
                    organization=organization,
                    schedule=plans[n % schedules],
                    resource_kind="cloud_node",
                    resource_id=row.id,
                    created_at=start,
                )
                for n, row in enumerate(rows)
            ],
            batch_size=500,
        )


def cpu(what: Callable[[], object]) -> float:
    started = time.process_time()
    what()
    return time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--organizations", type=int, default=20)
    parser.add_argument("--schedules", type=int, default=3, help="per organization")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    setup_django()
    from core import clock
    from hibernation.services import ticking

    seed(options.nodes, options.organizations, options.schedules)
    with clock.at(EVENING - timedelta(hours=4)):
        ticking.tick()
        quiet = min(cpu(ticking.tick) for _ in range(3))
    with clock.at(EVENING):
        if options.profile:
            import cProfile

            cProfile.runctx("ticking.tick(seconds_of_orders=0)", globals(), {"ticking": ticking}, sort="cumtime")
            return 0
        edge = cpu(lambda: ticking.tick(seconds_of_orders=0))
        waiting = cpu(lambda: ticking.tick(seconds_of_orders=0))
        ordered = ticking.Ticked()

        def give() -> None:
            nonlocal ordered
            ordered = ticking.tick(seconds_of_orders=3)

        orders = cpu(give)
    report(
        "hibernation_database_tick",
        nodes=options.nodes,
        quiet_cpu_seconds=round(quiet, 3),
        edge_cpu_seconds=round(edge, 3),
        all_waiting_cpu_seconds=round(waiting, 3),
        orders=ordered.ordered,
        order_cpu_ms=round((orders - waiting) * 1000 / max(1, ordered.ordered), 2),
    )
    scale = 10_000 / options.nodes
    return 0 if max(quiet, edge, waiting) * scale <= LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
