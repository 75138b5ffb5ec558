"""Bring the Spot Instance Advisor's bands up to date: the prior of how likely spot nodes are to be interrupted.

Exit code 0: done; 1: the file is wrong or could not be reached; 2: the file is not readable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from clusters import services
from clusters.providers import spot_advisor
from core.actor import Actor
from core.providers import ProviderError


class Command(BaseCommand):
    help = "Read the Spot Instance Advisor's bands from AWS's public file, or from a copy of it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from-json", metavar="FILE", default="", help="a copy of spot-advisor-data.json")
        parser.add_argument("--url", default=spot_advisor.URL, help="another address of the file")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["from_json"]:
                bands = spot_advisor.parse(Path(options["from_json"]).read_text(encoding="utf-8"))
                source = Path(options["from_json"]).name
            else:
                bands, source = spot_advisor.fetch(options["url"]), "AWS Spot Instance Advisor"
        except OSError as missing:
            raise CommandError(f"{options['from_json']} cannot be read: {missing.strerror}", returncode=2) from missing
        except ProviderError as refused:
            raise CommandError(refused.message, returncode=1) from refused
        actor = Actor.system("refresh_spot_bands")
        count = services.import_spot_bands(actor=actor, bands=bands, source=source)
        self.stdout.write(f"{count} types in {len({band.region for band in bands})} regions")
