"""The short form of the campaign, and its judge. The long form is `python -m tests.campaigns.task_fleet`."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

from launcher import keys
from tests import prepared
from tests.live.processes import ROOT, clean_environment

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    keys.ensure(folder, defaults={}, environ={})
    prepared.put_into(folder)
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, env=clean_environment(CURFEW_DATA=str(folder)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_small_fleet_loses_and_repeats_nothing(tmp_path: Path) -> None:
    faults = ("--share", "0.02", "--seed", "7", "--http", "0.5", "--tasks", "100", "--agents", "10")
    summary = run(tmp_path, "tests.campaigns.task_fleet", *faults)
    assert summary["findings"] == []
    hit = [summary.get(what, 0) for what in ("machines_killed", "agents_killed", "partitions")]  # chance deals them
    assert sum(hit) >= 5, hit
    for what in ("answers_lost", "leases_taken_back", "late_answered_409"):  # the last: refused for an old fence
        assert summary.get(what), f"{what}: never happened, so nothing was tried"


def test_the_judge_finds_what_is_planted(tmp_path: Path) -> None:
    found = run(tmp_path, __name__)
    assert found.pop("nothing") == []
    for planted, word in {
        "effect twice under one fence": "two containers under one fence",
        "effect twice at once": "until",
        "effect that never was": "0 containers ran under the good fence",
        "task lost": "tasks of 12",
        "task forgotten": "queued with",
        "log changed": "of its log",
        "end said twice": "ended 2 times",
        "word not kept": "was accepted under",
    }.items():
        assert any(word in line for line in found[planted]), f"{planted}: {found[planted]}"


def planted() -> dict[str, list[str]]:
    """What the judge says of a campaign without faults, as it was and with one thing after another changed in it."""
    from bench.support import setup_django

    setup_django()
    from django.db import transaction

    from taskrunner.models import LogPiece, Task
    from tests.campaigns.task_fleet import Campaign

    campaign = Campaign(tasks=12, agents=3, organizations=1, seed=1, share=0.0, http=0.0, seconds=60)
    asyncio.run(campaign.run())
    world, whole = campaign.world, copy.copy(campaign.world.runs)
    task = Task.objects.all_orgs().filter(status="succeeded", fence=1).first()
    assert task is not None
    name, (good,) = str(task.id), whole[str(task.id)]
    rows = Task.objects.all_orgs().filter(id=task.id)

    def judged() -> list[str]:
        world.findings = []
        campaign.judge()
        return world.findings

    def with_runs(*runs: Any) -> list[str]:
        world.runs[name] = list(runs)
        found = judged()
        world.runs[name] = [good]
        return found

    def with_rows(change: Any) -> list[str]:
        with transaction.atomic():
            change()
            found = judged()
            transaction.set_rollback(True)
        return found

    other = copy.copy(good)
    other.fence = 2
    said = {"nothing": judged()}
    said["effect twice under one fence"] = with_runs(good, copy.copy(good))
    said["effect twice at once"] = with_runs(good, other)
    said["effect that never was"] = with_runs()
    said["task lost"] = with_rows(rows.delete)
    said["task forgotten"] = with_rows(lambda: rows.update(status="queued"))
    piece = LogPiece.objects.filter(attempt__task=task)
    said["log changed"] = with_rows(lambda: piece.update(data=zstandard.compress(b"something else")))
    campaign.ended[task.id] += 1
    said["end said twice"] = judged()
    campaign.ended[task.id] -= 1
    world.accepted[name, 1] = "error"
    said["word not kept"] = judged()
    campaign.close()
    return said


if __name__ == "__main__":
    sys.stdout.write(json.dumps(planted()) + "\n")
