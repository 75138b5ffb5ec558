"""The price book: validated imports, and the small list that comes with the program."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import transaction

from accounts.models import Organization
from audit import services as audit
from core import clock
from core.actor import Actor
from core.errors import InvalidInput
from costs import price_list
from costs.models import CatalogPrice

COLUMNS = ("provider", "region", "instance_type", "lifecycle", "hourly", "currency", "source", "as_of")
PROVIDERS = frozenset({"aws", "azure", "gcp", "docker", "vast", "s3"})
LIFECYCLES = frozenset({"on_demand", "spot", "reserved"})
MOST_HOURLY = Decimal(100_000)
MOST_ERRORS = 50
_LENGTHS = {"region": 40, "instance_type": 60, "source": 200}
Key = tuple[str, str, str, str, date]


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One validated line of a price file."""

    provider: str
    region: str
    instance_type: str
    lifecycle: str
    hourly: Decimal
    source: str
    as_of: date

    @property
    def key(self) -> Key:
        return self.provider, self.region, self.instance_type, self.lifecycle, self.as_of


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    created: int
    updated: int
    unchanged: int


def read_csv(lines: Iterable[str]) -> list[PriceRow]:
    """The rows of a price file with the header COLUMNS.

    Raises InvalidInput with one message per wrong line (`errors["line 7"]`), at most fifty; nothing is half read.
    """
    reader = csv.DictReader(lines, strict=True)
    errors: dict[str, list[str]] = {}
    rows: dict[Key, PriceRow] = {}
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InvalidInput("The file has no such columns.", errors={"header": [f"missing: {', '.join(missing)}"]})
        for values in reader:
            _take(values, f"line {reader.line_num}", rows, errors)
            if len(errors) >= MOST_ERRORS:
                break
    except (csv.Error, UnicodeDecodeError) as broken:
        errors[f"line {reader.line_num + 1}"] = [f"not readable as CSV in UTF-8: {broken}"]
    if errors:
        raise InvalidInput("Nothing was imported: some lines are wrong.", errors=errors)
    return list(rows.values())


def _take(values: Mapping[str, Any], line: str, rows: dict[Key, PriceRow], errors: dict[str, list[str]]) -> None:
    row, wrong = _row(values)
    if row is None:
        errors[line] = wrong
    elif row.key in rows and rows[row.key].hourly != row.hourly:
        errors[line] = ["the same price stands in the file twice, with another amount"]
    else:
        rows[row.key] = row


def _row(values: Mapping[str, Any]) -> tuple[PriceRow | None, list[str]]:
    text = {name: str(values.get(name) or "").strip() for name in COLUMNS}
    wrong = [f"{name} is empty" for name in ("region", "instance_type", "source") if not text[name]]
    wrong += [f"{name} is longer than {most} characters" for name, most in _LENGTHS.items() if len(text[name]) > most]
    lifecycle = text["lifecycle"] or "on_demand"
    if text["provider"] not in PROVIDERS:
        wrong.append(f"provider {text['provider']!r} is not one of {', '.join(sorted(PROVIDERS))}")
    if lifecycle not in LIFECYCLES:
        wrong.append(f"lifecycle {lifecycle!r} is not one of {', '.join(sorted(LIFECYCLES))}")
    if text["currency"] != "USD":
        wrong.append(f"currency {text['currency']!r}: the ledger is kept in USD")
    hourly = _hourly(text["hourly"])
    if hourly is None:
        wrong.append(f"hourly {text['hourly']!r} is not an amount from 0 to {MOST_HOURLY} with at most 8 decimals")
    as_of = _day(text["as_of"])
    if as_of is None:
        wrong.append(f"as_of {text['as_of']!r} is not a day such as 2026-07-20, or lies in the future")
    if wrong or hourly is None or as_of is None:
        return None, wrong
    return PriceRow(
        text["provider"], text["region"], text["instance_type"], lifecycle, hourly, text["source"], as_of
    ), []


def _hourly(text: str) -> Decimal | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite() or not 0 <= value < MOST_HOURLY or value != round(value, 8):
        return None
    return value


def _day(text: str) -> date | None:
    try:
        value = date.fromisoformat(text)
    except ValueError:
        return None
    return value if value <= clock.now().date() + timedelta(days=1) else None


def import_prices(*, actor: Actor, rows: Sequence[PriceRow], label: str) -> Imported:
    """Bring the price book in line with the rows, in one transaction; importing the same again changes nothing.

    The book is shared by all organizations, so a change is written into the audit log of each of them.
    """
    with transaction.atomic():
        known = {
            (p.provider, p.region, p.instance_type, p.lifecycle, p.as_of): (p.hourly, p.source)
            for p in CatalogPrice.objects.filter(provider__in={r.provider for r in rows}).iterator(chunk_size=5000)
        }
        created = [r for r in rows if r.key not in known]
        updated = [r for r in rows if r.key in known and known[r.key] != (r.hourly, r.source)]
        CatalogPrice.objects.bulk_create(
            [_model(r) for r in (*created, *updated)],
            batch_size=500,
            update_conflicts=True,
            unique_fields=["provider", "region", "instance_type", "lifecycle", "as_of"],
            update_fields=["hourly", "currency", "source"],
        )
        done = Imported(len(created), len(updated), len(rows) - len(created) - len(updated))
        if created or updated:
            for organization_id in Organization.objects.values_list("id", flat=True):
                audit.record(
                    actor=actor,
                    verb="prices.imported",
                    target_kind="price_book",
                    target_label=label,
                    detail=f"{done.created} new, {done.updated} changed, {done.unchanged} as before",
                    organization_id=organization_id,
                )
    return done


def _model(row: PriceRow) -> CatalogPrice:
    return CatalogPrice(
        provider=row.provider,
        region=row.region,
        instance_type=row.instance_type,
        lifecycle=row.lifecycle,
        hourly=row.hourly,
        currency="USD",
        source=row.source,
        as_of=row.as_of,
    )


def load_built_in(*, using: str = "default") -> int:
    """Add the prices that come with the program and are not there yet; an imported one is never overwritten."""
    rows = [
        CatalogPrice(provider=provider, region=region, instance_type=name, hourly=hourly, source=source, as_of=as_of)
        for provider, region, name, hourly, source, as_of in price_list.built_in()
    ]
    before = CatalogPrice.objects.using(using).count()
    CatalogPrice.objects.using(using).bulk_create(rows, ignore_conflicts=True)
    return CatalogPrice.objects.using(using).count() - before
