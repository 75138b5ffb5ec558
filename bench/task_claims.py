"""How many tasks are claimed a second and how long a claim takes, with many workers at once.

python -m tests.stack -- python -m bench.task_claims --tasks 3000 --workers 8
python -m tests.stack -- python -m bench.task_claims --tasks 3000 --workers 8 --most 8
python -m bench.task_claims --http --tasks 3000 --workers 8

Through the service in one process, a thread for each worker; with `--http` through whole requests to a web server of its
own on PostgreSQL and Redis. Each claim asks for one task, or for up to `--most`. Every task must have gone to one worker
exactly, under fence 1, and the attempts written down must say so.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from bench.support import report, setup_django, summary

Take = Callable[[], list[str]]
FACTS = {"cpu": 1_000_000, "memory": 10_000_000, "storage": 10_000_000}


def fill(alice: Any, tasks: int) -> None:
    """A queue of small tasks, one microsecond apart."""
    from datetime import timedelta

    from core import clock
    from taskrunner.models import Task

    now = clock.now() - timedelta(minutes=1)
    common = {"organization": alice.organization, "owner": alice.user, "owner_label": "alice", "image": "busybox:1"}
    Task.objects.bulk_create(
        Task(
            **common, name=f"t{n}", cpu=10, memory=4, status="queued", not_before=now, created_at=now,
            queued_at=now + timedelta(microseconds=n),
        )
        for n in range(tasks)
    )  # fmt: skip


def race(takers: list[Take], close: Callable[[], None]) -> tuple[list[str], list[float], float, float]:
    """Every taker in a thread until it gets nothing: names taken, seconds of each call, seconds and CPU in all."""
    taken: list[str] = []
    times: list[float] = []

    def work(take: Take) -> None:
        mine, took = [], []
        while True:
            began = time.perf_counter()
            names = take()
            took.append(time.perf_counter() - began)
            if not names:
                break
            mine.extend(names)
        taken.extend(mine)
        times.extend(took)
        close()

    threads = [threading.Thread(target=work, args=(take,)) for take in takers]
    began, used = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, times, time.perf_counter() - began, time.process_time() - used


def judge(taken: list[str], tasks: int) -> None:
    """Each task once, and the database says the same."""
    from taskrunner.models import Attempt, Task

    assert Counter(taken) == Counter(f"t{n}" for n in range(tasks)), "each task goes to one worker"
    assert Attempt.objects.filter(number=1).count() == Attempt.objects.count() == tasks
    assert Task.objects.all_orgs().filter(status="claimed", fence=1).count() == tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--most", type=int, default=1)
    parser.add_argument("--http", action="store_true")
    options = parser.parse_args()
    (over_http if options.http else through_service)(options)


def through_service(options: argparse.Namespace) -> None:
    setup_django()
    from django.db import connection, connections

    from accounts import services as accounts
    from core import live
    from taskrunner import services
    from tests.personas import make_organization, make_person

    live._send = lambda group, message: None
    alice = make_person("alice", make_organization("Bench"), "owner")
    _, text = accounts.create_enrolment_token(actor=alice.actor, kind="worker", name="bench")
    workers = [services.register(enrolment=text, facts={"name": f"w{n}", **FACTS})[0] for n in range(options.workers)]
    fill(alice, options.tasks)

    def taker(worker: Any) -> Take:
        return lambda: [claim.task.name for claim in services.claim_some(worker=worker, most=options.most)]

    tell("service", options, connection.vendor, *race([taker(worker) for worker in workers], connections.close_all))


def over_http(options: argparse.Namespace) -> None:
    from bench.task_waiting import enrol
    from tests.live.server import Scaled

    with Scaled() as curfew:
        tokens = enrol(curfew, curfew.member("Bench", "alice@bench.test"), options.workers)
        setup_django(**curfew.environment())
        import httpx
        from django.db import connection, connections

        from accounts.models import Membership

        for name in ("beat", "worker0"):  # nobody renews here, so nothing may go back to the queue meanwhile
            curfew.parts.pop(name).end()
        fill(Membership.objects.all_orgs().select_related("organization", "user").get(), options.tasks)

        def taker(token: str) -> Take:
            client = httpx.Client(base_url=curfew.base_url, headers={"Authorization": f"Agent {token}"}, timeout=60)

            def take() -> list[str]:
                answer = client.post(f"/api/agent/claim?most={options.most}")
                assert answer.status_code in (200, 204), answer.text
                return [order["name"] for order in answer.json()["orders"]] if answer.status_code == 200 else []

            return take

        tell("http", options, connection.vendor, *race([taker(token) for token in tokens], connections.close_all))


def tell(
    way: str, options: argparse.Namespace, vendor: str, taken: list[str], times: list[float], wall: float, cpu: float
) -> None:
    judge(taken, options.tasks)
    report(
        "task_claims",
        way=way,
        database=vendor,
        tasks=options.tasks,
        workers=options.workers,
        most=options.most,
        claims_per_second=round(options.tasks / wall),
        python_ms_a_task=round(1000 * cpu / options.tasks, 3),
        seconds_a_call=summary(times),
    )


if __name__ == "__main__":
    main()
