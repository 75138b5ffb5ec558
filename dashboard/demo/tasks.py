"""Tasks of the demo: two templates and a week of runs with their logs, through the ordinary services.

The machine that ran them has left since; a live one joins when a Docker engine answers (see core.demo_worker).
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from accounts import services as accounts
from core import clock, demo_worker
from core.actor import Actor
from dashboard.demo.history import one_quiet_transaction
from taskrunner import services
from taskrunner.models import Task, Worker

NAME = "workbench"
TEMPLATES: dict[str, dict[str, Any]] = {
    "Thumbnails": {
        "image": "busybox:1.36",
        "command": [
            "sh",
            "-c",
            'for i in $(seq 1 20); do echo frame $i; echo "::progress $((i*5)) frames"; sleep 1; done',
        ],
        "cpu": 500,
        "memory": 128,
        "shared": True,
    },
    "Nightly checks": {
        "image": "busybox:1.36",
        "command": ["sh", "-c", "echo checking; sleep 2; echo all is well"],
        "cpu": 250,
        "memory": 64,
        "retries": 1,
        "retry_on": ["lost", "error"],
        "shared": True,
    },
}
RUNS = 12


def play(owner: Actor, operator: Actor, end: datetime) -> int:
    """Templates and finished tasks up to `end`, when there are no tasks yet; how many."""
    if owner.org_id is None or Task.objects.for_org(owner.org_id).exists():
        return 0
    chance = random.Random(11)  # noqa: S311  the same demo each time
    start = end - timedelta(days=7)
    with one_quiet_transaction(), clock.at(start):
        for name, fields in TEMPLATES.items():
            services.save_template(actor=operator, name=name, fields={"name": name, **fields})
        _, token = accounts.create_enrolment_token(actor=owner, kind="worker", name=NAME, hours=24)
        facts = {"name": NAME, "cpu": 4000, "memory": 8192, "storage": 50_000, "engine": "Docker"}
        worker, _ = services.register(enrolment=token, facts=facts)
        for number in range(RUNS):
            name = list(TEMPLATES)[number % 3 == 2]
            _run(operator, worker, name, start + timedelta(hours=13 * number), chance)
        services.remove_worker(actor=owner, worker_id=worker.id)
    return RUNS


def _printed(name: str, fails: bool, chance: random.Random) -> list[bytes]:
    """What the template's command prints, second by second; one that fails breaks off."""
    if name == "Nightly checks":
        return [b"checking\n", b"", b"all is well\n"]
    frames = chance.randint(3, 15) if fails else 20
    return [f"frame {n}\n::progress {n * 5} frames\n".encode() for n in range(1, frames + 1)]


def _run(actor: Actor, worker: Worker, name: str, moment: datetime, chance: random.Random) -> None:
    with clock.at(moment):
        task = services.submit(actor=actor, fields={"name": name, **TEMPLATES[name]})
    with clock.at(moment + timedelta(seconds=1)):
        services.claim(worker=worker)
        services.start(worker=worker, task_id=task.id, fence=1)
    fails = name == "Thumbnails" and chance.random() < 0.3
    printed, offset = _printed(name, fails, chance), 0
    for number, data in enumerate(printed, 2):
        with clock.at(moment + timedelta(seconds=number)):
            usage = {"cpu": chance.uniform(20, 40), "memory": chance.uniform(30, 60)}
            services.renew(worker=worker, task_id=task.id, fence=1, metrics=usage)
            offset = services.append_log(
                worker=worker, task_id=task.id, fence=1, stream="stdout", offset=offset, data=data
            )  # fmt: skip
    with clock.at(moment + timedelta(seconds=len(printed) + 2)):
        services.finish(
            worker=worker,
            task_id=task.id,
            fence=1,
            exit_class="oom" if fails else "ok",
            exit_code=137 if fails else 0,
        )


def invite_worker(owner: Actor, data: Path) -> None:
    """A token for the worker that runs beside the demo; a new one each start, good for a day."""
    if owner.org_id is None:
        return
    _, token = accounts.create_enrolment_token(actor=owner, kind="worker", name=f"{NAME} of the demo", hours=24)
    demo_worker.invite(data, token)
