"""Celery's side: ids in, a claim, a run. Sweep and reaper make good every lost message."""

from __future__ import annotations

from celery import current_app, shared_task
from django.conf import settings

from core.health import beat
from operations import runner
from operations.models import Operation


@shared_task(name="operations.run")
def run(operation_id: str) -> str:
    """Run one operation if it is due and free; then whatever came due meanwhile is left to the next tick."""
    return runner.run_operation(operation_id)


@shared_task(name="operations.tick")
def tick() -> int:
    """Every second or two: re-send what is due. Cheap when nothing is (one indexed query)."""
    ids = runner.due_ids()
    queues = dict(Operation.objects.all_orgs().filter(id__in=ids).values_list("id", "queue")) if ids else {}
    for operation_id in ids:
        queue = None if settings.CURFEW_EMBEDDED else queues.get(operation_id, "cloud")
        current_app.send_task("operations.run", kwargs={"operation_id": str(operation_id)}, queue=queue)
    return len(ids)


@shared_task(name="operations.sweep")
def sweep() -> dict[str, int]:
    """Every ten seconds: end dead leases and say that the platform is alive."""
    reaped = runner.reap_expired()
    beat("sweep", reaped=reaped)
    return {"reaped": reaped}
