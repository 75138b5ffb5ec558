"""A short form of the campaign of removals; the long one is `python -m tests.campaigns.policy_drains`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.integration
def test_removals_that_are_broken_at_random_writes_forget_no_node(tmp_path: Path) -> None:
    """A process of its own: its database is a file that killed workers share."""
    out = tmp_path / "summary.json"
    command = [sys.executable, "-m", "tests.campaigns.policy_drains", "--points", "5", "--out", str(out)]
    command += ["--modes", "kill_before", "kill_after"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    summary = json.loads(out.read_text())
    assert summary["findings"] == []
    assert summary["worker_processes_killed"] >= 4
