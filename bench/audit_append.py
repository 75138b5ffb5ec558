"""Many writers append to one organization's log at a steady rate while the sealer chains the entries.

    python -m tests.stack -- python -m bench.audit_append --writers 64 --rate 500 --seconds 20

The load is open: each writer has its own times at which it must write, and an append counts from that time to the end
of its transaction, so that waiting for a late writer counts too. Writers are threads of several processes. The
browser's "something changed" hint after commit is left out. Afterwards the chain is sealed and verified: as many lines
as appends, no gap, no fork. `service` figures are the transactions alone, without the wait for a free processor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

from bench.support import report, setup_django, summary


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.audit_append", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--writers", type=int, default=64)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rate", type=float, default=500.0, help="appends a second, of all writers together")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options, *options.worker)
    else:
        lead(options)


def lead(options: argparse.Namespace) -> None:
    setup_django(CURFEW_NO_WORKER="1", CURFEW_STATIC_FROM_SOURCE="1")
    from django.db import connection

    from audit import services, verification
    from audit.models import AuditEntry, AuditPending, AuditSeal
    from core import live
    from tests.personas import make_organization

    live._send = lambda group, message: None  # type: ignore[assignment]
    organization = make_organization("Bench")
    begin = time.time() + 8
    command = [
        sys.executable,
        "-m",
        "bench.audit_append",
        "--writers",
        str(options.writers),
        "--processes",
        str(options.processes),
    ]
    command += [
        "--rate",
        str(options.rate),
        "--seconds",
        str(options.seconds),
        "--worker",
        str(organization.id),
        str(begin),
    ]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(options.processes)
    ]
    backlog, seal_seconds = 0, 0.0
    while any(worker.poll() is None for worker in workers) and time.time() < begin + options.seconds + 60:
        time.sleep(2)
        backlog = max(backlog, AuditPending.objects.all_orgs().count())
        started = time.perf_counter()
        services.seal_all()
        seal_seconds += time.perf_counter() - started
    results = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    services.seal_all()
    latencies = [value for result in results for value in result["latency"]]
    seconds = max(result["end"] for result in results) - begin
    appended = AuditEntry.objects.for_org(organization).count()
    verdict = verification.verify_chain(organization_id=organization.id)
    report(
        "audit_append",
        database=connection.vendor,
        writers=options.writers,
        offered_per_s=options.rate,
        appends=len(latencies),
        per_s=round(len(latencies) / seconds, 1),
        latency_ms=summary([value * 1000 for value in latencies]),
        service_ms=summary([value * 1000 for result in results for value in result["service"]]),
        sealed=AuditSeal.objects.for_org(organization).count(),
        seal_seconds=round(seal_seconds, 2),
        longest_backlog=backlog,
        lost=len(latencies) - appended,
        forks=0 if verdict.ok else verdict.reason,
    )


def work(options: argparse.Namespace, organization_id: str, begin: str) -> None:
    import django

    from tests import env as _test_environment  # noqa: F401

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from uuid import UUID

    from core import live
    from core.actor import Actor, ActorKind

    live._send = lambda group, message: None  # type: ignore[assignment]
    actor = Actor(
        ActorKind.USER,
        "bench",
        "Bench Writer",
        UUID(organization_id),
        frozenset({"*"}),
        "req-bench-0001",
        "203.0.113.24",
        "Bench/1",
    )
    count = options.writers // options.processes
    latency: list[float] = []
    service: list[float] = []
    threads = [
        threading.Thread(target=write, args=(actor, float(begin), number / count, options, latency, service))
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"latency": latency, "service": service, "end": time.time()}))


def write(
    actor: Any, begin: float, phase: float, options: argparse.Namespace, latency: list[float], service: list[float]
) -> None:
    from django.db import connection

    from audit.services import record_alone

    connection.ensure_connection()
    every = options.writers / options.rate
    for number in range(int(options.seconds / every)):
        due = begin + (number + phase) * every
        time.sleep(max(0.0, due - time.time()))
        started = time.time()
        record_alone(
            actor=actor,
            verb="access.denied",
            target_kind="node",
            target_id=str(number),
            target_label=f"node {number}",
            changes={"size": [number, number + 1]},
        )
        ended = time.time()
        latency.append(ended - due)
        service.append(ended - started)
    connection.close()


if __name__ == "__main__":
    main()
