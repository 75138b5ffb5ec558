"""How tasks, workers and logs look in answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from taskrunner.models import Attempt, Task, TaskHook, TaskSchedule, TaskTemplate
from taskrunner.selectors import Cost, Estimate, Hit, LogLine, LogView, WorkerLine


def moment(value: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds; None stays None."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None


def task_shape(task: Task) -> dict[str, Any]:
    """One task as lists show it. Never a secret."""
    return {
        "id": str(task.id),
        "name": task.name,
        "description": task.description,
        "image": task.image,
        "command": task.command,
        "status": str(task.status),
        "reason": task.reason,
        "owner": task.owner_label,
        "shared": task.shared,
        "priority": task.priority,
        "resources": {"cpu": task.cpu, "memory": task.memory, "storage": task.storage, "gpus": task.gpus},
        "labels": task.labels,
        "worker": {"id": str(task.worker_id), "name": task.worker.name} if task.worker else None,
        "attempt": task.attempt,
        "retries": task.retries,
        "exit_code": task.exit_code,
        "exit_class": task.exit_class or None,
        "progress": task.progress,
        "progress_words": task.progress_words,
        "cancel_requested": task.cancel_requested_at is not None,
        "created_at": moment(task.created_at),
        "started_at": moment(task.started_at),
        "finished_at": moment(task.finished_at),
        "runtime_seconds": runtime(task),
    }


def runtime(task: Task) -> float | None:
    """Seconds from start to end; None while it has not ended."""
    if task.started_at is None or task.finished_at is None:
        return None
    return round((task.finished_at - task.started_at).total_seconds(), 3)


def cost_shape(found: Cost) -> dict[str, Any]:
    """What a task has cost; null with the reason where the ledger does not know."""
    return {
        "amount": f"{found.amount:.6f}" if found.amount is not None else None,
        "currency": "USD",
        "why": found.why or None,
        "intervals": list(found.intervals),
    }


def detail_shape(task: Task, attempts: list[Attempt], cost: Cost) -> dict[str, Any]:
    """One task whole: also its settings, the names of its secrets, its attempts and what it has cost."""
    return {
        **task_shape(task),
        "environment": task.environment,
        "secrets": task.secret_names,
        "files": task.files,
        "network": task.network,
        "timeout_seconds": task.timeout_seconds,
        "retry_on": task.retry_on,
        "needs": [str(need.id) for need in task.needs.all()],
        "retry_of": str(task.retry_of_id) if task.retry_of_id else None,
        "attempts": [attempt_shape(attempt) for attempt in attempts],
        "cost": cost_shape(cost),
    }


def attempt_shape(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "worker": attempt.worker_label,
        "claimed_at": moment(attempt.claimed_at),
        "started_at": moment(attempt.started_at),
        "finished_at": moment(attempt.finished_at),
        "exit_code": attempt.exit_code,
        "exit_class": attempt.exit_class or None,
        "reason": attempt.reason,
    }


def line_shape(line: LogLine) -> dict[str, Any]:
    return {"n": line.number, "stream": line.stream, "at": moment(line.at), "text": line.text, "cut": line.cut}


def log_shape(view: LogView) -> dict[str, Any]:
    return {
        "lines": [line_shape(line) for line in view.lines],
        "total_lines": view.total,
        "bytes": {"stdout": view.stdout, "stderr": view.stderr},
        "truncated": view.truncated,
        "removed_at": moment(view.removed_at),
    }


def hits_shape(hits: list[Hit], count: int, more: bool) -> dict[str, Any]:
    return {
        "count": count,
        "more": more,
        "hits": [
            {
                "line": line_shape(hit.line),
                "before": [line_shape(line) for line in hit.before],
                "after": [line_shape(line) for line in hit.after],
            }
            for hit in hits
        ],
    }


def worker_shape(line: WorkerLine) -> dict[str, Any]:
    """One worker: capacity, what tasks have reserved, what it reports as used."""
    worker = line.worker
    return {
        "id": str(worker.id),
        "name": worker.name,
        "hostname": worker.hostname,
        "address": worker.address,
        "health": line.health,
        "wanted": str(worker.wanted),
        "labels": worker.labels,
        "capacity": {"cpu": worker.cpu, "memory": worker.memory, "storage": worker.storage, "gpus": worker.gpus},
        "reserved": {
            "cpu": line.held.cpu, "memory": line.held.memory, "storage": line.held.storage, "gpus": line.held.gpus,
        },
        "usage": worker.usage,
        "gpu_model": worker.gpu_model,
        "engine": worker.engine,
        "agent_version": worker.agent_version,
        "running_tasks": line.running,
        "auto_start": worker.auto_start,
        "auto_stop_minutes": worker.auto_stop_minutes,
        "seen_at": moment(worker.seen_at),
        "registered_at": moment(worker.registered_at),
    }  # fmt: skip


def samples_shape(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "at": moment(row["at"])} for row in rows]


def estimate_shape(found: Estimate) -> dict[str, Any]:
    return {
        "basis": found.basis,
        "runs": found.runs,
        "expected_seconds": found.seconds,
        "range_seconds": [found.least, found.most] if found.least is not None else None,
        "cost": f"{found.cost:.6f}" if found.cost is not None else None,
        "hourly_rate": f"{found.hourly:.6f}" if found.hourly is not None else None,
        "currency": "USD",
        "priced_by": found.priced_by or None,
        "alerts": list(found.alerts),
    }


def template_shape(row: TaskTemplate) -> dict[str, Any]:
    return {"id": str(row.id), "name": row.name, "fields": row.fields, "created_by": row.created_by_label}


def schedule_shape(row: TaskSchedule) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "name": row.name,
        "cron": row.cron,
        "zone": row.zone,
        "enabled": row.enabled,
        "fields": row.fields,
        "next_at": moment(row.next_at),
        "last_at": moment(row.last_at),
        "problem": row.problem,
    }


def hook_shape(row: TaskHook) -> dict[str, Any]:
    """A webhook without its secret; `path` is where it is called."""
    return {
        "id": str(row.id),
        "name": row.name,
        "template": {"id": str(row.template_id), "name": row.template.name},
        "owner": row.owner.display_name,
        "per_minute": row.per_minute,
        "path": f"/api/hooks/tasks/{row.id}",
        "called_at": moment(row.called_at),
        "problem": row.problem,
    }
