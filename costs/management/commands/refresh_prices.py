"""Bring the price book up to date from a file or from the clouds' own price lists.

Exit code 0: done (also when nothing was new); 1: the file is wrong, or a list could not be read; 2: the file is not readable.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import vault
from accounts.models import CloudAccount
from core.actor import Actor
from core.errors import InvalidInput
from core.providers import ProviderError
from costs import prices
from costs.feeds import aws, public


class Command(BaseCommand):
    help = (
        "Import list prices: from a CSV file with the columns provider, region, instance_type, lifecycle, hourly, currency, "
        "source, as_of (all lines are checked first; one wrong line and nothing is imported), or from the clouds: AWS "
        "list and spot prices through a connected account, Azure's and Google's public lists."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--from-csv", metavar="FILE", help="a file in UTF-8 with a header")
        source.add_argument("--aws", metavar="REGION", nargs="+", help="list and spot prices of these regions")
        source.add_argument("--azure", metavar="REGION", nargs="+", help="Azure Retail Prices of these regions")
        source.add_argument("--gcp", metavar="REGION", nargs="+", help="Google's Billing Catalog for these regions")
        parser.add_argument("--account", default="", help="the AWS account's number; without it any connected one")
        parser.add_argument("--key-file", default="", help="a file with Google's API key")
        parser.add_argument("--url", default="", help="another address of Azure's or Google's list")
        parser.add_argument("--json", action="store_true", help="one JSON object on one line")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            rows, label = self._csv(options) if options["from_csv"] else self._feed(options)
        except ProviderError as refused:
            raise CommandError(f"{refused.message} {refused.next_step}".strip(), returncode=1) from refused
        done = prices.import_prices(actor=Actor.system("refresh_prices"), rows=rows, label=label)
        text = (
            json.dumps({"ok": True, **asdict(done)})
            if options["json"]
            else f"{done.created} new, {done.updated} changed, {done.unchanged} as before"
        )
        self.stdout.write(text)

    def _csv(self, options: dict[str, Any]) -> tuple[Sequence[prices.PriceRow], str]:
        path = Path(options["from_csv"])
        try:
            with path.open(encoding="utf-8-sig", newline="") as lines:
                return prices.read_csv(lines), path.name
        except OSError as missing:
            raise CommandError(f"{path} cannot be read: {missing.strerror}", returncode=2) from missing
        except InvalidInput as wrong:
            raise self._refusal(wrong, as_json=options["json"]) from wrong

    def _feed(self, options: dict[str, Any]) -> tuple[Sequence[prices.PriceRow], str]:
        if options["aws"]:
            connection = _connection(options["account"])
            rows = [
                row
                for region in options["aws"]
                for row in (*aws.list_prices(connection, region), *aws.spot_prices(connection, region))
            ]
            return rows, f"AWS, {', '.join(options['aws'])}"
        if options["azure"]:
            url = options["url"] or public.AZURE
            return [row for region in options["azure"] for row in public.azure_prices(region, url=url)], "Azure"
        key = Path(options["key_file"]).read_text(encoding="utf-8").strip() if options["key_file"] else ""
        url = options["url"] or public.GCP
        return [row for region in options["gcp"] for row in public.gcp_prices(region, key=key, url=url)], "Google Cloud"

    def _refusal(self, wrong: InvalidInput, *, as_json: bool) -> CommandError:
        if as_json:
            self.stdout.write(json.dumps({"ok": False, "errors": wrong.errors}))
        lines = "\n".join(f"  {where}: {'; '.join(words)}" for where, words in wrong.errors.items())
        return CommandError(f"{wrong.message}\n{lines}", returncode=1)


def _connection(number: str) -> Any:
    rows = CloudAccount.objects.all_orgs().filter(provider="aws").exclude(method="")
    account = (rows.filter(number=number) if number else rows).order_by("created_at").first()
    if account is None:
        raise CommandError("No such AWS account is connected.", returncode=1)
    return vault.connection_of(account)
