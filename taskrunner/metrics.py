"""Figures of tasks and workers for Prometheus, read from the database when asked: the same from every process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.db import DatabaseError
from django.db.models import Count, Min, Q, Sum
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from core import clock
from taskrunner.enums import HELD, LOST_AFTER_SECONDS, ExitClass, Status
from taskrunner.models import Attempt, LogStream, Task, Worker

HOUR = timedelta(hours=1)
_RESOURCES = {"cpu": ("cores", 1000), "memory": ("bytes", 1 / 2**20), "gpus": ("count", 1)}


class TaskCollector(Collector):
    """Gauges over all organizations; what cannot be read is left out rather than zero."""

    def describe(self) -> Iterable[Any]:
        """Nothing is asked of the database when the registry starts."""
        return []

    def collect(self) -> Iterator[Any]:
        try:
            yield from list(_tasks())
            yield from list(_workers())
        except DatabaseError:
            return


def _tasks() -> Iterator[Any]:
    rows = Task.objects.all_orgs()
    found = {row["status"]: row["n"] for row in rows.order_by().values("status").annotate(n=Count("id"))}
    tasks = GaugeMetricFamily("curfew_tasks", "Tasks by status.", labels=["status"])
    for status in Status.values:
        tasks.add_metric([status], found.get(status, 0))
    yield tasks
    now = clock.now()
    oldest = rows.filter(status=Status.QUEUED, not_before__lte=now).aggregate(at=Min("queued_at"))["at"]
    yield GaugeMetricFamily(
        "curfew_task_oldest_queued_seconds",
        "How long the oldest task waits for a worker; 0 when none does.",
        value=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
    )
    ends = Attempt.objects.filter(finished_at__gte=now - HOUR).order_by().values("exit_class").annotate(n=Count("id"))
    known = {row["exit_class"]: row["n"] for row in ends}
    ended = GaugeMetricFamily(
        "curfew_task_attempts_ended_last_hour", "Attempts that ended within an hour, by why.", labels=["exit_class"]
    )
    for name in ExitClass.values:
        ended.add_metric([name], known.get(name, 0))
    yield ended
    starts = Attempt.objects.filter(started_at__gte=now - HOUR).values_list("task__queued_at", "started_at")
    waits = sorted((began - queued).total_seconds() for queued, began in starts[:10_000] if queued and began)
    wait = GaugeMetricFamily(
        "curfew_task_start_wait_seconds",
        "From queued to a running container, of attempts that started within an hour.",
        labels=["quantile"],
    )
    for quantile in (0.5, 0.95, 0.99):
        if waits:
            wait.add_metric([str(quantile)], waits[min(len(waits) - 1, int(quantile * len(waits)))])
    yield wait
    held = LogStream.objects.filter(attempt__task__status__in=HELD).aggregate(n=Sum("stored"))["n"] or 0
    yield GaugeMetricFamily(
        "curfew_task_running_log_bytes", "Bytes of log that running tasks have written.", value=held
    )


def _workers() -> Iterator[Any]:
    rows = Worker.objects.all_orgs()
    answers = Q(seen_at__gte=clock.now() - timedelta(seconds=LOST_AFTER_SECONDS))
    workers = GaugeMetricFamily("curfew_workers", "Workers by whether they answer and take tasks.", labels=["state"])
    workers.add_metric(["lost"], rows.count() - rows.filter(answers).count())
    for wanted in ("open", "cordoned", "draining"):
        workers.add_metric([wanted], rows.filter(answers, wanted=wanted).count())
    yield workers
    have = rows.filter(answers).aggregate(**{name: Sum(name) for name in _RESOURCES})
    held = Task.objects.all_orgs().filter(status__in=HELD).aggregate(**{name: Sum(name) for name in _RESOURCES})
    for name, (unit, share) in _RESOURCES.items():
        for word, sums, words in (
            ("capacity", have, "What workers that answer have"),
            ("reserved", held, "What running tasks have reserved"),
        ):
            full = f"curfew_worker_{word}_{name}" + ("" if unit == "count" else f"_{unit}")
            yield GaugeMetricFamily(full, f"{words}: {name}.", value=(sums[name] or 0) / share)


def register(registry: CollectorRegistry) -> None:
    """Add them once to the registry that /metrics answers from."""
    registry.register(TaskCollector())
