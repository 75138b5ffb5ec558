"""Celery's side of placement."""

from __future__ import annotations

from celery import shared_task

from policies.placement import services


@shared_task(name="policies.keep_placement")
def keep_placement() -> int:
    """Every minute: clusters whose placement is not what their policy asks for."""
    return services.sweep()
