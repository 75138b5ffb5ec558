"""Celery's side of the outbox."""

from __future__ import annotations

from celery import shared_task

from notifications import services


@shared_task(name="notifications.deliver")
def deliver() -> int:
    """Every five seconds and after each new message: send what is due."""
    return services.deliver_due()
