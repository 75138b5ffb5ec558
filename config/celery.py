"""The Celery application. Beat holds only our own fixed sweeps (see operations.management.commands.sync_periodic_tasks)."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("curfew")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
