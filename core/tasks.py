"""Send Celery messages by name and only after commit, so that services need not import tasks."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


def send_on_commit(task_name: str, **kwargs: Any) -> None:
    """Hint a worker after commit. A lost hint is made good by the sweep, so a dead broker is only logged."""
    transaction.on_commit(lambda: _send(task_name, kwargs))


def _send(task_name: str, kwargs: dict[str, Any]) -> None:
    try:
        current_app.send_task(task_name, kwargs=kwargs, retry=False)
    except (OperationalError, OSError) as lost:
        log.warning("task_hint_lost", extra={"task": task_name, "reason": str(lost)})
