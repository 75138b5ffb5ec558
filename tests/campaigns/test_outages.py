"""The short forms of the outage campaigns; the long ones are `python -m tests.campaigns.outage_trials` and
`outage_kill`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns import outage_trials
from tests.hibernation.conftest import (
    Kilns,
    kilns,  # noqa: F401  a fixture
)
from tests.personas import Persona

pytestmark = pytest.mark.integration


@pytest.mark.django_db
def test_after_outages_the_state_is_right_within_a_minute(alice: Persona, kilns: Kilns) -> None:  # noqa: F811
    tally = outage_trials.run(alice, kilns, trials=24, seed=7)
    assert tally.findings == []
    assert set(tally.orders) == {0, 1}  # some needed an order, some were over before
    assert max(tally.seconds) <= 60


@pytest.mark.slow
def test_a_sleep_order_survives_kills_of_two_ticks_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.campaigns.outage_kill", "--nodes", "40", "--kills", "4"]
    environment = {**os.environ, "CURFEW_DATA": str(tmp_path)}
    for name in ("DATABASE_URL", "REDIS_URL"):
        environment.pop(name, None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert json.loads(done.stdout)["findings"] == []
