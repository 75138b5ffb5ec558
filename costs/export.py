"""The ledger as CSV: one line per interval, clipped to the period, streamed; its sums are the sums of the page."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from core.actor import Actor
from costs import reporting

HEADER = (
    "resource_kind",
    "resource_id",
    "resource",
    "phase",
    "from",
    "to",
    "goes_on",
    "hours",
    "price_per_hour",
    "price_source",
    "spent",
    "saved_real",
    "currency",
    "cause",
    "team",
    "person",
)
# Spreadsheets take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class _Echo:
    """A file whose writing gives back what was written."""

    def write(self, text: str) -> str:
        return text


def ledger_csv(*, actor: Actor, filters: reporting.Filters) -> Iterator[str]:
    """Lines of the file, the header first; unknown amounts are empty, never zero. Forbidden without costs.view."""
    actor.require("costs.view", "export the ledger")
    return _lines(actor, filters)


def _lines(actor: Actor, filters: reporting.Filters) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(HEADER)
    for row in reporting.rows_of(actor, filters):
        one = row.interval
        told = (
            one.resource_kind,
            str(one.resource_id),
            safe(one.resource_label),
            one.phase,
            row.start.isoformat(),
            row.end.isoformat(),
            "yes" if row.is_open else "no",
            f"{row.seconds / 3600:.6f}",
            "" if one.price is None else f"{one.price:f}",
            safe(one.price_source),
            "" if row.spent is None else f"{row.spent:.8f}",
            "" if row.saved is None else f"{row.saved:.8f}",
            "USD",
            one.cause,
            safe(one.team),
            safe(one.person),
        )
        yield writer.writerow(told)


def safe(text: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would run."""
    return f"'{text}" if text.startswith(_FORMULA) else text
