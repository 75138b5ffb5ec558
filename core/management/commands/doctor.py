"""`manage.py doctor`: what is wrong with this machine or installation; see core.doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from core import doctor


class Command(BaseCommand):
    help = "Examine this machine and installation; exit code 1 when something is wrong."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="machine-readable")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        findings = doctor.examine(Path(settings.CURFEW_DATA), int(options["port"]))
        self.stdout.write(doctor.render_json(findings) if options["json"] else doctor.render(findings))
        if not doctor.healthy(findings):
            sys.exit(1)
