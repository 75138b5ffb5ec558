"""Many writers append to one organization's log at a steady rate while the sealer chains the entries.

    python -m tests.stack -- python -m bench.audit_append --writers 64 --rate 500 --seconds 20
    python -m tests.stack -- python -m bench.audit_append --rate 900 --appends 1000000

The load is open: each writer has its own times at which it must write, and an append counts from that time to the end
of its transaction, so that waiting for a late writer counts too. With `--rate 0` each writes as fast as it can, and
an append counts from its own beginning. Writers are threads of several processes. The browser's "something changed"
hint after commit is left out. Afterwards the chain is sealed, exported and verified by the stand-alone file, and with
`--check-rows` row by row in the database: as many lines as appends, no gap, no fork.

Four figures tell apart what an append waits for: `latency` counts all of it; `service` begins when the writer got its
turn; `database` is what PostgreSQL itself took from receiving the statement to its commit, by its own log (of 30,000
appends chosen by PostgreSQL, when there are more); `cpu` is the processor time of the writer. `waits` counts what the
writers' sessions were seen waiting for, twenty times a second (none: on a processor, or queueing for one).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from bench.support import report, setup_django, summary

LOGGED = 30_000


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.audit_append", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--writers", type=int, default=64)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument(
        "--rate", type=float, default=500.0, help="appends a second, of all writers together; 0: all they can"
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--appends", type=int, help="so many in all, whatever time it takes, instead of --seconds")
    parser.add_argument("--check-rows", action="store_true", help="recompute each row in the database as well")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.rate or options.appends):
        parser.error("--rate 0 needs --appends")
    options.appends = options.appends or int(options.rate * options.seconds)
    if options.worker:
        work(options, options.worker)
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
    command = [sys.executable, "-m", "bench.audit_append", "--worker", str(organization.id)]
    for name in ("writers", "processes", "rate", "appends"):
        command += [f"--{name}", str(getattr(options, name))]
    log = log_statements(connection, options.appends)
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(options.processes)
    ]
    begin = start_together(workers)
    backlog, seal_seconds = 0, 0.0
    waits: Counter[str] = Counter()
    results: list[dict[str, Any]] = []
    readers = [threading.Thread(target=lambda w=worker: results.append(read_result(w))) for worker in workers]
    for reader in readers:
        reader.start()
    while any(reader.is_alive() for reader in readers):
        for _ in range(40):
            time.sleep(0.05)
            waits.update(seen_waiting(connection))
        backlog = max(backlog, AuditPending.objects.all_orgs().count())
        started = time.perf_counter()
        services.seal_all()
        seal_seconds += time.perf_counter() - started
    assert len(results) == len(workers), "a process of writers failed"
    while services.seal_all():
        pass
    latencies = [value for result in results for value in result["latency"]]
    seconds = max(result["end"] for result in results) - begin
    appended = AuditEntry.objects.for_org(organization).count()
    sealed = AuditSeal.objects.for_org(organization).count()
    unbroken = verify_apart(organization.id)
    verdict = verification.verify_chain(organization_id=organization.id) if options.check_rows else None
    report(
        "audit_append",
        database=connection.vendor,
        writers=options.writers,
        offered_per_s=options.rate,
        appends=len(latencies),
        per_s=round(len(latencies) / seconds, 1),
        latency_ms=summary([value * 1000 for value in latencies]),
        service_ms=summary([value * 1000 for result in results for value in result["service"]]),
        database_ms=summary(durations(log)) if log else None,
        cpu_ms=summary([value * 1000 for result in results for value in result["cpu"]]),
        waits=dict(waits.most_common(6)),
        sealed=sealed,
        seal_seconds=round(seal_seconds, 2),
        longest_backlog=backlog,
        lost=len(latencies) + options.writers - appended,
        **unbroken,
        rows="not asked for" if verdict is None else verdict.reason or f"{verdict.checked} right",
    )


def read_result(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """What a process of writers says at its end."""
    found: dict[str, Any] = json.loads(worker.communicate()[0].splitlines()[-1])
    return found


def verify_apart(organization_id: Any) -> dict[str, Any]:
    """Export the chain as an auditor would, and let the stand-alone verifier walk it: a fork or a gap would show."""
    from audit import services

    with tempfile.TemporaryDirectory(prefix="curfew-bench-") as folder:
        path, began = Path(folder) / "audit.jsonl", time.perf_counter()
        download = services.start_export(actor=services.operator(organization_id), file_format="jsonl", period="all")
        with path.open("wb") as file:
            file.writelines(download.chunks)
        download.export.refresh_from_db()
        Path(f"{path}.sidecar.json").write_text(json.dumps(download.export.sidecar), encoding="utf-8")
        exported = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-I", "audit/verifier/audit_verify.py", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        verified = time.perf_counter()
    return {
        "forks": 0 if done.returncode == 0 else done.stdout + done.stderr,
        "export_s": round(exported - began, 1),
        "verify_s": round(verified - exported, 1),
        "verifier": done.stdout.splitlines()[:1],
    }


def start_together(workers: list[subprocess.Popen[str]]) -> float:
    """Wait until each worker has its connections, and tell all of them when to begin."""
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    begin = time.time() + 1
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{begin}\n")
        worker.stdin.flush()
    return begin


def log_statements(connection: Any, appends: int) -> Path | None:
    """Make PostgreSQL log the duration of each statement, or of a sample; its log, where this machine can read it."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET log_min_duration_sample = 0")
        cursor.execute(f"ALTER SYSTEM SET log_statement_sample_rate = {min(1.0, LOGGED / appends):.6f}")
        cursor.execute("SELECT pg_reload_conf()")
        cursor.execute("SHOW data_directory")
        log = Path(cursor.fetchone()[0]).parent / "log"
    return log if log.is_file() else None


def durations(log: Path) -> list[float]:
    """Milliseconds of each append in PostgreSQL's log."""
    found = re.finditer(
        r'duration: ([0-9.]+) ms  statement: INSERT INTO "audit_auditentry"', log.read_text(errors="replace")
    )
    return [float(one[1]) for one in found]


def seen_waiting(connection: Any) -> list[str]:
    """What the sessions with an append under way wait for at this moment."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT coalesce(wait_event_type || ' ' || wait_event, 'none') FROM pg_stat_activity
 WHERE state = 'active' AND query LIKE 'INSERT INTO "audit_auditentry"%%'"""
        )
        return [row[0] for row in cursor.fetchall()]


def work(options: argparse.Namespace, organization_id: str) -> None:
    import django

    from tests import env as _test_environment  # noqa: F401

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from uuid import UUID

    from core import live
    from core.actor import Actor, ActorKind
    from core.memory import settle_memory

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
    cpu: list[float] = []
    begin: Future[float] = Future()
    connected = threading.Barrier(count + 1)
    threads = [
        threading.Thread(target=write, args=(actor, connected, begin, number / count, options, latency, service, cpu))
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    connected.wait()
    settle_memory()  # as the servers do when they have started
    print("ready", flush=True)
    begin.set_result(float(sys.stdin.readline()))
    for thread in threads:
        thread.join()
    print(json.dumps({"latency": latency, "service": service, "cpu": cpu, "end": time.time()}))


def write(
    actor: Any,
    connected: threading.Barrier,
    told: Future[float],
    phase: float,
    options: argparse.Namespace,
    latency: list[float],
    service: list[float],
    cpu: list[float],
) -> None:
    from django.db import connection

    from audit.services import record_alone

    def append(number: int) -> None:
        record_alone(
            actor=actor,
            verb="access.denied",
            target_kind="node",
            target_id=str(number),
            target_label=f"node {number}",
            changes={"size": [number, number + 1]},
        )

    append(0)  # imports and prepares what a server that runs has long done; not counted
    connected.wait()
    begin = told.result()
    every = options.writers / options.rate if options.rate else 0.0
    for number in range(options.appends // options.writers):
        due = begin + (number + phase) * every if every else max(begin, time.time())
        time.sleep(max(0.0, due - time.time()))
        started, spent = time.time(), time.thread_time()
        append(number)
        ended = time.time()
        latency.append(ended - due)
        service.append(ended - started)
        cpu.append(time.thread_time() - spent)
    connection.close()


if __name__ == "__main__":
    main()
