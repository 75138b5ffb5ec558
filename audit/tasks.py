"""Celery's side of the log: sealing and checkpoints. Each run takes up what the last one left."""

from __future__ import annotations

from celery import shared_task

from audit import services


@shared_task(name="audit.seal")
def seal() -> int:
    """Every two seconds: entries get their place in the chain."""
    return services.seal_all()


@shared_task(name="audit.purge")
def purge() -> int:
    """Every hour: what is older than the retention goes, where no legal hold stands against it."""
    return services.purge_all()


@shared_task(name="audit.checkpoint")
def checkpoint() -> int:
    """Every five minutes: the heads that moved are signed and anchored."""
    return services.checkpoint_all()


@shared_task(name="audit.ship")
def ship() -> int:
    """Every five seconds: destinations get the lines that they lack."""
    return services.ship_all()
