"""Short forms of the campaigns of a cluster's night; the long ones are `python -m tests.campaigns.hibernate_crash`,
`hibernate_agent` and `hibernate_plans`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusters.sleeping import protect
from tests.campaigns import hibernate_plans

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.unit
def test_no_plan_breaks_a_promise() -> None:
    summary = hibernate_plans.run(1500, seed=7)
    assert summary["examples"] == []
    assert min(summary["steps"], summary["nodes_that_leave"], summary["claims_that_end"]) > 100


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "blind"),
    [
        ("marked", lambda *a: ""),
        ("never", lambda *a: False),
        ("_local_volume", lambda *a: ""),
        ("_webhook_backends", lambda *a: []),
        ("_namespaces", lambda *a: None),
        ("pod_reason", None),
    ],
)
def test_the_judge_sees_what_a_blind_planner_does(name: str, blind: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from clusters.sleeping import plan

    where = plan if blind is None else protect
    monkeypatch.setattr(where, name, blind or (lambda *a: None))
    assert hibernate_plans.run(400, seed=7)["violations"] > 0


def summary_of(campaign: str, out: Path, *options: str) -> dict[str, Any]:
    """Run a campaign as a process of its own, since its database is a file that killed workers share."""
    command = [sys.executable, "-m", f"tests.campaigns.{campaign}", *options, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    summary: dict[str, Any] = json.loads(out.read_text())
    assert summary["findings"] == []
    return summary


@pytest.mark.slow
@pytest.mark.integration
def test_nights_that_are_broken_at_random_writes_leave_no_trace(tmp_path: Path) -> None:
    summary = summary_of("hibernate_crash", tmp_path / "summary.json", "--workloads", "8", "--points", "8")
    assert summary["met"] == 8
    assert summary["worker_processes_killed"] > 0


@pytest.mark.slow
@pytest.mark.integration
def test_killed_workers_and_killed_agents_leave_no_trace(tmp_path: Path) -> None:
    """Through the agent's signed orders: SIGKILL of the worker that waits, and of the agent that carries out."""
    kills = ["kill_after", "agent_before", "agent_after"]
    options = ["--workloads", "2", "--points", "5", "--per-cycle", "5", "--modes", *kills]
    summary = summary_of("hibernate_agent", tmp_path / "summary.json", *options)
    assert summary["met"] == 5
    assert summary["worker_processes_killed"] > 0
    assert summary["agent_processes_killed"] > 0
