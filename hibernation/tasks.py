"""Celery's side of the tick."""

from __future__ import annotations

from celery import shared_task

from hibernation import services


@shared_task(name="hibernation.tick")
def tick() -> int:
    """Every 15 seconds: bring what follows a schedule towards what it wants. Returns how many orders were given."""
    return services.tick().ordered
