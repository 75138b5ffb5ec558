"""Seal every stored secret under the newest encryption key."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import vault
from core import encryption


class Command(BaseCommand):
    help = (
        "Put the new key first in CURFEW_ENCRYPTION_KEYS (id:base64,id:base64), keep the old ones behind it, restart, and run this. "
        "It may be stopped and run again; afterwards the old keys can be taken out. Exit code 1 when something could not be opened."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object instead of sentences")

    def handle(self, *args: Any, **options: Any) -> None:
        results = vault.reseal_all()
        active = encryption.key_ring().active_id
        if options["json"]:
            self.stdout.write(json.dumps({"key": active, "results": [asdict(r) for r in results]}))
        else:
            for result in results:
                self.stdout.write(
                    f"{result.kind}: {result.done} sealed anew with {active}, {result.fresh} fresh already, {result.failed} not opened"
                )
        if any(r.failed for r in results):
            raise CommandError("Some secrets could not be opened: their key is missing from the ring.", returncode=1)
