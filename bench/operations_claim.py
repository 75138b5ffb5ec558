"""How many operations a second are claimed, run (a no-op) and ended, with their audit lines.

python -m bench.operations_claim --rows 1000 --threads 8              # SQLite
python -m tests.stack -- python -m bench.operations_claim --rows 1000  # PostgreSQL
"""

from __future__ import annotations

import argparse
import threading
import time
import uuid

from bench.support import report, setup_django


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    setup_django()
    from django.db import connection

    from core import live, tasks
    from core.actor import Actor
    from operations import registry, runner, services
    from operations.models import Operation
    from tests.personas import make_organization

    live._send = lambda group, message: None
    tasks._send = lambda name, kwargs: None

    class Nothing(registry.BaseExecutor):
        kind = "bench.nothing"
        label = "Nothing"

        def run(self, context: registry.RunContext) -> None:
            return None

    registry.register(Nothing())
    organization = make_organization("Bench")
    actor = Actor.system("bench", organization.id)
    started = time.perf_counter()
    ids = [
        services.request_operation(
            actor=actor, kind=Nothing.kind, resource_kind="bench", resource_id=uuid.uuid4(), resource_label=f"thing {n}"
        ).id
        for n in range(options.rows)
    ]
    requested = time.perf_counter() - started

    # Every thread tries every row, as after a re-send to all workers: each row must be won exactly once.
    wins: list[uuid.UUID] = []

    def work(offset: int) -> None:
        wins.extend([i for i in ids[offset:] + ids[:offset] if runner.run_operation(i) == "succeeded"])
        connection.close()

    threads = [
        threading.Thread(target=work, args=(n * options.rows // options.threads,)) for n in range(options.threads)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ran = time.perf_counter() - started
    assert len(wins) == len(set(wins)) == options.rows, f"{len(wins)} wins for {options.rows} rows"
    assert Operation.objects.all_orgs().filter(status="succeeded").count() == options.rows
    report(
        "operations_claim",
        database=connection.vendor,
        rows=options.rows,
        threads=options.threads,
        requested_per_second=round(options.rows / requested),
        claimed_and_ended_per_second=round(options.rows / ran),
        double_wins=0,
    )


if __name__ == "__main__":
    main()
