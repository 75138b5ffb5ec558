"""Import list prices from a file. Exit code 0: imported (also when nothing was new); 1: the file is wrong; 2: not readable."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.actor import Actor
from core.errors import InvalidInput
from costs import prices


class Command(BaseCommand):
    help = (
        "Import list prices from a CSV file with the columns provider, region, instance_type, lifecycle, hourly, currency, "
        "source, as_of. All lines are checked first; one wrong line and nothing is imported."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from-csv", required=True, metavar="FILE", help="a file in UTF-8 with a header")
        parser.add_argument("--json", action="store_true", help="one JSON object on one line")

    def handle(self, *args: Any, **options: Any) -> None:
        path = Path(options["from_csv"])
        try:
            with path.open(encoding="utf-8-sig", newline="") as lines:
                rows = prices.read_csv(lines)
        except OSError as missing:
            raise CommandError(f"{path} cannot be read: {missing.strerror}", returncode=2) from missing
        except InvalidInput as wrong:
            raise self._refusal(wrong, as_json=options["json"]) from wrong
        done = prices.import_prices(actor=Actor.system("refresh_prices"), rows=rows, label=path.name)
        text = (
            json.dumps({"ok": True, **asdict(done)})
            if options["json"]
            else f"{done.created} new, {done.updated} changed, {done.unchanged} as before"
        )
        self.stdout.write(text)

    def _refusal(self, wrong: InvalidInput, *, as_json: bool) -> CommandError:
        if as_json:
            self.stdout.write(json.dumps({"ok": False, "errors": wrong.errors}))
        lines = "\n".join(f"  {where}: {'; '.join(words)}" for where, words in wrong.errors.items())
        return CommandError(f"{wrong.message}\n{lines}", returncode=1)
