"""The short form of the campaign. The long form is `python -m tests.campaigns.task_fleet` on PostgreSQL and Redis."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import keys
from tests import prepared
from tests.live.processes import ROOT, clean_environment

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def test_a_small_fleet_loses_and_repeats_nothing(tmp_path: Path) -> None:
    keys.ensure(tmp_path, defaults={}, environ={})
    prepared.put_into(tmp_path)
    command = [sys.executable, "-m", "tests.campaigns.task_fleet", "--share", "0.02", "--seed", "7", "--http"]
    done = subprocess.run(
        [*command, "--tasks", "100", "--agents", "10"],
        cwd=ROOT, env=clean_environment(CURFEW_DATA=str(tmp_path)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["findings"] == []
    for what in (
        "machines_killed",
        "agents_killed",
        "partitions",
        "answers_lost",
        "leases_taken_back",
        "late_answered_409",  # what an old lease still had to say, refused for its fence
    ):
        assert summary[what], f"{what}: never happened, so nothing was tried"
