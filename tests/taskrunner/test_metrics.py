"""What Prometheus reads, and the dashboard that asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from taskrunner import services
from taskrunner.models import Task, Worker
from tests.taskrunner.conftest import Time

pytestmark = [pytest.mark.integration, pytest.mark.django_db]
BOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "tasks.json"


@pytest.fixture
def read(settings: object, client: Client) -> Callable[[], dict[tuple[str, str], float]]:
    settings.CURFEW_METRICS_TOKEN = "m"

    def ask() -> dict[tuple[str, str], float]:
        answer = client.get("/metrics", headers={"Authorization": "Bearer m"})
        assert answer.status_code == 200
        return {
            (sample.name, ",".join(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name.startswith("curfew_")
        }

    return ask


def test_figures_follow_the_tasks(
    join: Callable[..., Worker], submit: Callable[..., Task], time: Time, read: Callable[[], dict]
) -> None:
    worker = join(cpu=4000, memory=2048)
    task, _ = submit("one", cpu=1000, memory=512), submit("two", cpu=8000)
    time.go(5)
    assert services.claim(worker=worker) is not None
    services.start(worker=worker, task_id=task.id, fence=1)
    time.go(7)
    found = read()
    wanted = {
        ("curfew_tasks", "running"): 1,
        ("curfew_tasks", "queued"): 1,
        ("curfew_task_oldest_queued_seconds", ""): 12,
        ("curfew_task_start_wait_seconds", "0.5"): 5,
        ("curfew_workers", "open"): 1,
        ("curfew_workers", "lost"): 0,
        ("curfew_worker_capacity_cpu_cores", ""): 4,
        ("curfew_worker_reserved_cpu_cores", ""): 1,
        ("curfew_worker_reserved_memory_bytes", ""): 512 * 2**20,
    }
    assert {key: found[key] for key in wanted} == wanted
    services.finish(worker=worker, task_id=task.id, fence=1, exit_class="error", exit_code=3)
    time.go(100)
    found = read()
    assert found["curfew_task_attempts_ended_last_hour", "error"] == 1
    assert found["curfew_workers", "lost"] == 1


def test_each_metric_of_the_dashboard_exists(
    join: Callable[..., Worker], submit: Callable[..., Task], time: Time, read: Callable[[], dict]
) -> None:
    worker, task = join(), submit()
    services.claim(worker=worker)
    services.start(worker=worker, task_id=task.id, fence=1)
    known = {name for name, _ in read()}
    board = json.loads(BOARD.read_text())
    asked = {word for panel in board["panels"] for t in panel["targets"] for word in _names(t["expr"])}
    asked |= set(_names(board["templating"]["list"][1]["query"]["query"]))
    assert asked - known == set()
    assert known - asked == set()  # and none is forgotten on it
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


def _names(text: str) -> list[str]:
    return re.findall(r"curfew_\w+", text)
