"""Upsert our own fixed sweeps into beat's table by name; never touches rows it does not own."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from core import periodic


class Command(BaseCommand):
    help = "Upsert the platform's periodic sweeps (run at every start and deployment)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="machine-readable output")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = {}
        for task in periodic.all_tasks():
            interval, _ = IntervalSchedule.objects.get_or_create(every=task.seconds, period=IntervalSchedule.SECONDS)
            PeriodicTask.objects.update_or_create(
                name=task.name,
                defaults={
                    "task": task.task,
                    "interval": interval,
                    "enabled": True,
                    "queue": "sweep",
                    "expires": None,
                    "expire_seconds": max(5, task.seconds * 2),
                },
            )
            wanted[task.name] = task.seconds
        stale = PeriodicTask.objects.filter(name__startswith="curfew: ").exclude(name__in=wanted)
        removed = list(stale.values_list("name", flat=True))
        stale.delete()
        self.stdout.write(
            json.dumps({"tasks": wanted, "removed": removed})
            if options["json"]
            else f"{len(wanted)} periodic tasks in place."
        )
