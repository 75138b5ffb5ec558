"""Recompute the hash chains. Exit code 0: all hold; 1: one is broken, its first broken line is named; 2: no such organization."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import signing, verification


class Command(BaseCommand):
    help = "Verify the hash chain of the audit log. Exit code 1 names the first broken line of each broken chain."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--org", type=UUID, help="id of one organization; all when missing")
        parser.add_argument(
            "--keys", action="store_true", help="print the public keys that sign checkpoints and exports, and end"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object on one line")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["keys"]:
            for key_id, key in signing.ring().public_keys().items():
                self.stdout.write(f"{key_id} {key}")
            return
        chains = verification.organizations_with_chains()
        if options["org"]:
            if options["org"] not in chains:
                raise CommandError("No audit log of such an organization.", returncode=2)
            chains = [options["org"]]
        verdicts = [verification.verify_chain(organization_id=one) for one in chains]
        broken = [v for v in verdicts if not v.ok]
        if options["json"]:
            self.stdout.write(json.dumps({"ok": not broken, "chains": [_shape(v) for v in verdicts]}))
        else:
            for verdict in verdicts:
                self.stdout.write(_sentence(verdict))
        if broken:
            raise CommandError(f"{len(broken)} of {len(verdicts)} chains are broken.", returncode=1)


def _shape(verdict: verification.Verdict) -> dict[str, Any]:
    return {
        "organization": str(verdict.organization_id),
        "ok": verdict.ok,
        "checked": verdict.checked,
        "broken_seq": verdict.seq,
        "broken_id": str(verdict.entry_id) if verdict.entry_id else None,
        "reason": verdict.reason,
        "anchored": verdict.anchored,
        "unread": verdict.unread,
    }


def _sentence(verdict: verification.Verdict) -> str:
    if verdict.ok:
        note = f"; but {verdict.unread}" if verdict.unread else ""
        return f"{verdict.organization_id}: {verdict.checked} lines, unbroken, anchored up to line {verdict.anchored}{note}"
    return f"{verdict.organization_id}: broken at line {verdict.seq} ({verdict.entry_id or 'no id'}): {verdict.reason}"
