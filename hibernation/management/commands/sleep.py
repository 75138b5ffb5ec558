"""Put one sleepable to sleep, in this process."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core import sleepable
from core.actor import Actor
from core.errors import CurfewError
from hibernation import ordering
from operations.enums import Status


class Command(BaseCommand):
    help = "Put a cloud node, a cluster or anything else that can sleep to sleep, and wait until it is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", help="cluster, cloud_node, ...")
        parser.add_argument("name", help="its id or name")
        parser.add_argument("--reason", default="manage.py sleep")
        parser.add_argument("--json", action="store_true", help="one JSON object on one line")
        parser.add_argument("--no-wait", action="store_true", help="only order it; a worker does it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            view = ordering.find(options["kind"], options["name"])
            actor = Actor.system("command_line", view.organization_id)
            kind = sleepable.kind_named(view.kind)
            operation_id = kind.request_sleep(actor, view.id, reason=options["reason"], options={"cause": "hand"})
        except CurfewError as refused:
            raise CommandError(refused.message) from None
        if operation_id is None or options["no_wait"]:
            return
        quiet = options["json"]
        ended = ordering.see_through(operation_id, (lambda words: None) if quiet else self.stdout.write)
        if quiet:
            self.stdout.write(json.dumps({"operation": str(ended.id), "status": ended.status, "error": ended.error}))
        if ended.status != Status.SUCCEEDED:
            raise CommandError(ordering.outcome(ended))
        if not quiet:
            self.stdout.write(ordering.outcome(ended))
