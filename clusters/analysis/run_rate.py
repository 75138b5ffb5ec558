"""What the nodes cost by the month if nothing changes: the sum of price x 730 hours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from clusters.analysis.facts import HOURS_PER_MONTH, Node


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A node whose price nobody knows."""

    name: str
    instance_type: str


@dataclass(frozen=True, slots=True)
class RunRate:
    """`hourly` and `monthly` speak of the priced nodes only, and are None when there are nodes but no price."""

    hourly: Decimal | None
    monthly: Decimal | None
    priced: int
    unpriced: tuple[Unpriced, ...]
    oldest_price: date | None

    @property
    def complete(self) -> bool:
        return not self.unpriced


def run_rate(nodes: Iterable[Node]) -> RunRate:
    """Add up what is priced and name what is not. A cluster without nodes costs 0."""
    total, priced, unpriced, dates = Decimal(0), 0, [], []
    for node in nodes:
        if node.hourly_price is None:
            unpriced.append(Unpriced(node.name, node.instance_type))
            continue
        total += node.hourly_price
        priced += 1
        if node.price_date is not None:
            dates.append(node.price_date)
    oldest = min(dates, default=None)
    missing = tuple(sorted(unpriced, key=lambda node: node.name))
    if unpriced and not priced:
        return RunRate(None, None, 0, missing, oldest)
    return RunRate(total, total * HOURS_PER_MONTH, priced, missing, oldest)


def combine(rates: Iterable[RunRate]) -> RunRate:
    """The rate of several clusters together."""
    parts = list(rates)
    known = [rate for rate in parts if rate.hourly is not None]
    missing = tuple(node for rate in parts for node in rate.unpriced)
    oldest = min((rate.oldest_price for rate in parts if rate.oldest_price), default=None)
    if missing and not any(rate.priced for rate in parts):
        return RunRate(None, None, 0, missing, oldest)
    hourly = sum((rate.hourly for rate in known if rate.hourly is not None), Decimal(0))
    return RunRate(hourly, hourly * HOURS_PER_MONTH, sum(rate.priced for rate in parts), missing, oldest)
