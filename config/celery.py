"""The Celery application. Beat holds only our own fixed sweeps (see operations.management.commands.sync_periodic_tasks)."""

import os

from celery import Celery
from celery.signals import worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("curfew")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
def _ready(**facts: object) -> None:
    from core.memory import settle_memory

    settle_memory()
