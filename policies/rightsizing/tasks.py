"""Celery's side of rightsizing: ids in, one service call."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from core.tasks import send_on_commit
from policies.rightsizing import reporting, services


@shared_task(name="policies.size_reports")
def size_reports() -> int:
    """Every five minutes: clusters whose recommendations are old are handed to workers."""
    ids = reporting.due()
    for cluster_id in ids:
        send_on_commit("policies.size_report_one", cluster_id=str(cluster_id))
    return len(ids)


@shared_task(name="policies.size_report_one")
def size_report_one(cluster_id: str) -> bool:
    """Work out one cluster's recommendations."""
    return reporting.refresh(cluster_id=UUID(cluster_id))


@shared_task(name="policies.apply_sizes")
def apply_sizes() -> int:
    """Every minute: order the changes that are due. Returns how many orders were given."""
    return services.apply_due()
