"""Celery's side: ids in, a claim, a run. Sweep and reaper make good every lost message."""

from __future__ import annotations

from celery import current_app, shared_task
from django.conf import settings
from django.core.cache import cache

from core.health import beat
from operations import personal_export, runner

SEND_AGAIN_SECONDS = 15


@shared_task(name="operations.run")
def run(operation_id: str) -> str:
    """Run one operation if it is due and free; then whatever came due meanwhile is left to the next tick."""
    return runner.run_operation(operation_id)


@shared_task(name="operations.tick")
def tick() -> int:
    """Every second or two: send what is due, each claim's worth once in a while. Cheap when nothing is (one indexed query)."""
    sent = 0
    for operation in runner.due():
        if cache.add(f"operation-sent:{operation.id}:{operation.fence}", 1, SEND_AGAIN_SECONDS):
            queue = None if settings.CURFEW_EMBEDDED else operation.queue
            current_app.send_task("operations.run", kwargs={"operation_id": str(operation.id)}, queue=queue)
            sent += 1
    return sent


@shared_task(name="operations.sweep")
def sweep() -> dict[str, int]:
    """Every ten seconds: end dead leases and say that the platform is alive."""
    reaped = runner.reap_expired()
    beat("sweep", reaped=reaped)
    return {"reaped": reaped}


@shared_task(name="operations.clear_exports")
def clear_exports() -> int:
    """Every hour: remove personal exports that are older than seven days."""
    return personal_export.clear_old()
