"""How many tasks a second are claimed, and how long a claim takes, with many workers at once.

python -m tests.stack -- python -m bench.task_claims --tasks 3000 --workers 8
"""

from __future__ import annotations

import argparse
import threading
import time

from bench.support import report, setup_django, summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    setup_django()
    from django.db import connection

    from accounts import services as accounts
    from core import clock, live
    from taskrunner import services
    from taskrunner.models import Task
    from tests.personas import make_organization, make_person

    live._send = lambda group, message: None
    alice = make_person("alice", make_organization("Bench"), "owner")
    _, text = accounts.create_enrolment_token(actor=alice.actor, kind="worker", name="bench")
    facts = {"cpu": 1_000_000, "memory": 10_000_000, "storage": 10_000_000}
    workers = [services.register(enrolment=text, facts={"name": f"w{n}", **facts})[0] for n in range(options.workers)]
    now = clock.now()
    common = {"organization": alice.organization, "owner": alice.user, "owner_label": "alice", "image": "busybox:1"}
    Task.objects.bulk_create(
        Task(
            **common, name=f"t{n}", cpu=10, memory=4, status="queued", not_before=now, created_at=now, queued_at=now
        )
        for n in range(options.tasks)
    )  # fmt: skip
    taken: list[str] = []
    times: list[float] = []

    def work(number: int) -> None:
        mine, took = [], []
        while True:
            began = time.perf_counter()
            claim = services.claim(worker=workers[number])
            took.append(time.perf_counter() - began)
            if claim is None:
                break
            mine.append(claim.task.name)
        taken.extend(mine)
        times.extend(took)
        connection.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(options.workers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    assert sorted(taken) == sorted(f"t{n}" for n in range(options.tasks)), "each task goes to one worker"
    report(
        "task_claims",
        database=connection.vendor,
        tasks=options.tasks,
        workers=options.workers,
        claims_per_second=round(options.tasks / seconds),
        seconds_a_claim=summary(times),
    )


if __name__ == "__main__":
    main()
