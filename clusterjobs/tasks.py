"""Looks at clusters that run tasks."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from clusterjobs import services


@shared_task(name="clusterjobs.tend_due")
def task_tend_due() -> None:
    """Hand out the clusters that are due."""
    services.tend_due()


@shared_task(name="clusterjobs.tend")
def task_tend(pool_id: str) -> None:
    """One look at one cluster."""
    services.tend(pool_id=UUID(pool_id))
