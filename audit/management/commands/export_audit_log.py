"""Write the audit log of an organization to a file, with its sidecar beside it. Exit code 2: no such organization or empty."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import services
from audit.models import AuditHead
from core.errors import InvalidInput


class Command(BaseCommand):
    help = "Export an organization's audit log to FILE (and FILE.sidecar.json); verify it with audit/verifier/audit_verify.py."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--org", type=UUID, required=True, help="id of the organization")
        parser.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")
        parser.add_argument("--period", choices=["30d", "quarter", "all", "custom"], default="all")
        parser.add_argument("--start", type=datetime.fromisoformat, help="ISO 8601; UTC when it has no zone")
        parser.add_argument("--end", type=datetime.fromisoformat)
        parser.add_argument("--json", action="store_true", help="print the sidecar as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if not AuditHead.objects.filter(organization_id=options["org"]).exists():
            raise CommandError("No audit log of such an organization.", returncode=2)
        bounds = {name: _aware(options[name]) for name in ("start", "end")}
        try:
            download = services.start_export(
                actor=services.operator(options["org"]),
                file_format=options["format"],
                period=options["period"],
                **bounds,
            )
        except InvalidInput as refused:
            raise CommandError(
                json.dumps(refused.errors) if refused.errors else refused.message, returncode=2
            ) from refused
        with options["file"].open("wb") as file:
            for piece in download.chunks:
                file.write(piece)
        download.export.refresh_from_db()
        beside = Path(f"{options['file']}.sidecar.json")
        beside.write_text(
            json.dumps(download.export.sidecar, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if options["json"]:
            self.stdout.write(json.dumps(download.export.sidecar))
        else:
            self.stdout.write(f"{download.export.lines} lines, SHA-256 {download.export.sha256}")


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
