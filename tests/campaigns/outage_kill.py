"""`kill -9` of ticking processes in the midst of one sleep order to many resources: each is ordered exactly once.

    python -m tests.campaigns.outage_kill --nodes 500 --kills 40 --seed 1
    python -m tests.stack -- python -m tests.campaigns.outage_kill     # PostgreSQL

Two processes tick at once, on the same second of a simulated clock and on the second after it; each is killed at a
random moment and another takes its place. At the end every node has one operation, one decision, one request in the
audit log, and the audit chain is whole. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from datetime import timedelta
from typing import Any

LONGEST_LIFE = 20.0
MOST_SECONDS = 900.0


def _tick_for_ever(offset: int) -> None:
    """The child: ticks until it is killed. Never returns."""
    from django.db import OperationalError, connection

    from bench.hibernation_database_tick import EVENING
    from core import clock
    from hibernation.services import ticking

    connection.close()
    while True:
        try:
            with clock.at(EVENING + timedelta(seconds=offset)):
                ticking.tick(seconds_of_orders=0.4)
        except OperationalError:  # the database is busy, or a peer died in its midst: the next beat comes
            time.sleep(0.02)


def _fork(offset: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            _tick_for_ever(offset)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def run(nodes: int, kills: int, seed: int) -> dict[str, Any]:
    """Kill so often, then let one tick finish; needs a set-up Django and an empty database."""
    from django.db import connections

    from bench.hibernation_database_tick import EVENING
    from bench.hibernation_database_tick import seed as seed_nodes
    from core import clock, tasks
    from hibernation.services import ticking

    tasks._send = lambda name, kwargs: None  # no worker listens here
    dice = random.Random(seed)
    seed_nodes(nodes, organizations=min(5, nodes), schedules=2)
    with clock.at(EVENING - timedelta(hours=1)):
        ticking.tick()
    connections.close_all()
    began, done_at_kill = time.monotonic(), []
    rounds = 0
    for _ in range(kills):
        children = [_fork(offset) for offset in (0, 1)]
        _wait_for(_ordered() + dice.randint(1, max(1, 2 * nodes // kills)), nodes)
        time.sleep(dice.uniform(0, 0.03))
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        rounds += 1
        done_at_kill.append(_ordered())
        connections.close_all()
        if time.monotonic() - began > MOST_SECONDS:
            break
    left = nodes
    while left and time.monotonic() - began < MOST_SECONDS:
        with clock.at(EVENING + timedelta(seconds=2)):
            ticking.tick()
        left = nodes - _ordered()
    in_midst = sum(0 < n < nodes for n in done_at_kill)
    return {
        "campaign": "outage_kill",
        "nodes": nodes,
        "kills": 2 * rounds,
        "ordered_at_each_kill": done_at_kill,
        "kills_in_the_midst": 2 * in_midst,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "findings": _findings(nodes),
    }


def _wait_for(orders: int, nodes: int) -> None:
    """Until so many orders are given: the next one is in its midst then."""
    until = time.monotonic() + LONGEST_LIFE
    while _ordered() < min(orders, nodes) and time.monotonic() < until:
        time.sleep(0.004)


def _ordered() -> int:
    from operations.models import Operation

    return Operation.objects.all_orgs().filter(kind="node.stop").count()


def _findings(nodes: int) -> list[str]:
    from audit.models import AuditEntry
    from cloudnodes.models import CloudNode
    from hibernation.models import Assignment, Decision
    from operations.models import Operation

    found = []
    wanted = {row.id for row in CloudNode.objects.all_orgs()}
    counts: dict[str, Counter[Any]] = {
        "operations": Counter(Operation.objects.all_orgs().values_list("resource_id", flat=True)),
        "decisions": Counter(Decision.objects.all_orgs().values_list("resource_id", flat=True)),
        "requests in the audit log": Counter(
            AuditEntry.objects.all_orgs().filter(verb="node.sleep_requested").values_list("target_id", flat=True)
        ),
    }
    for name, each in counts.items():
        if len(each) != nodes or set(each.values()) != {1} or {str(k) for k in each} != {str(k) for k in wanted}:
            odd = [f"{key}: {count}" for key, count in each.items() if count != 1][:5]
            found.append(f"{name}: {sum(each.values())} for {len(each)} of {nodes} nodes {odd}")
    attempts = Counter(Assignment.objects.all_orgs().values_list("attempt", flat=True))
    if attempts != {1: nodes}:
        found.append(f"attempts: {dict(attempts)}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.outage_kill", description=__doc__)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from bench.support import setup_django

    setup_django()
    found = run(options.nodes, options.kills, options.seed)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 1 if found["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
