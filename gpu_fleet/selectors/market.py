"""The market as it was seen: every figure comes from samples that were taken; without them the answer is "no data"."""

from __future__ import annotations

import calendar
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Q

from accounts.models import CloudAccount
from core import clock
from core.actor import Actor
from gpu_fleet.enums import VIEW
from gpu_fleet.models import MarketHost, OfferSample, Rental

FRESH = timedelta(hours=2)
TREND = timedelta(hours=24)
HISTORY = timedelta(days=14)
# A price that moved by less than this share is stable.
STABLE = Decimal("0.03")
# An hour of the week is judged from so many looks at least.
FEWEST_LOOKS = 2
MARKETS = ("vast",)


@dataclass(frozen=True, slots=True)
class Quote:
    """A GPU type on the market now: prices are USD per GPU and hour, None where nothing was seen."""

    gpu_name: str
    spot_price: Decimal | None
    ondemand_price: Decimal | None
    min_price: Decimal | None
    available_gpus: int
    total_offers: int
    vram_gb: float | None
    price_trend: str
    last_update: datetime

    @property
    def savings_percent(self) -> float | None:
        """How much cheaper interruptible is, when both were seen."""
        if self.spot_price is None or not self.ondemand_price:
            return None
        return round(float((1 - self.spot_price / self.ondemand_price) * 100), 1)


def has_market(*, actor: Actor) -> bool:
    """Whether an account is connected from whose market samples are taken."""
    told = Q(provider__in=MARKETS) | Q(is_sandbox=True, provider="aws")
    return bool(CloudAccount.objects.visible_to(actor).filter(told).exclude(method="").exists())


def _samples(actor: Actor, since: timedelta, gpu_name: str = "") -> list[OfferSample]:
    rows = OfferSample.objects.visible_to(actor).filter(at__gt=clock.now() - since)
    return list((rows.filter(gpu_name__iexact=gpu_name) if gpu_name else rows).order_by("at"))


def monitor(*, actor: Actor) -> list[Quote]:
    """Every GPU type that was seen within two hours, most offers first."""
    actor.require(VIEW, "see the market")
    by_gpu: dict[str, list[OfferSample]] = defaultdict(list)
    for sample in _samples(actor, TREND):
        by_gpu[sample.gpu_name].append(sample)
    now = clock.now()
    quotes = [_quote(name, rows) for name, rows in by_gpu.items() if now - rows[-1].at <= FRESH]
    return sorted(quotes, key=lambda q: (-q.total_offers, q.gpu_name))


def _quote(name: str, rows: Sequence[OfferSample]) -> Quote:
    spot = [row for row in rows if row.interruptible]
    demand = [row for row in rows if not row.interruptible]
    newest = demand[-1] if demand else spot[-1]
    return Quote(
        gpu_name=name,
        spot_price=spot[-1].median if spot else None,
        ondemand_price=demand[-1].median if demand else None,
        min_price=min(row.low for row in (spot[-1:] + demand[-1:])),
        available_gpus=newest.gpus,
        total_offers=newest.offers,
        vram_gb=round(newest.vram_mb / 1000, 1) if newest.vram_mb else None,
        price_trend=trend(demand or spot),
        last_update=newest.at,
    )


def trend(rows: Sequence[OfferSample]) -> str:
    """up, down or stable over the samples; "no data" with fewer than two."""
    if len(rows) < 2:
        return "no data"
    first, last = rows[0].median, rows[-1].median
    if not first or abs(last - first) / first < STABLE:
        return "stable"
    return "up" if last > first else "down"


def price_history(*, actor: Actor, gpu_name: str) -> list[OfferSample]:
    """On-demand samples of a GPU type of the last fortnight, oldest first, thinned to a few hundred."""
    actor.require(VIEW, "see the market")
    rows = [row for row in _samples(actor, HISTORY, gpu_name) if not row.interruptible]
    return rows[:: max(1, len(rows) // 300)]


@dataclass(frozen=True, slots=True)
class Window:
    """An hour of the week (UTC, Monday is 0) as it was seen."""

    hour_utc: int
    day_of_week: int
    avg_spot_price: float
    availability_score: float
    looks: int

    @property
    def day(self) -> str:
        """Its name."""
        return calendar.day_name[self.day_of_week]


def safe_windows(*, actor: Actor, gpu_name: str) -> list[Window]:
    """Hours of the week with what was paid and offered in them, cheapest first; only hours that were looked at."""
    actor.require(VIEW, "see the market")
    hours: dict[tuple[int, int], list[OfferSample]] = defaultdict(list)
    rows = _samples(actor, timedelta(days=60), gpu_name)
    spot = [row for row in rows if row.interruptible]
    for row in spot:
        hours[(row.at.weekday(), row.at.hour)].append(row)
    most = max((row.gpus for row in spot), default=0)
    found = [
        Window(
            hour,
            day,
            round(statistics.mean(float(s.median) for s in seen), 4),
            round(statistics.mean(s.gpus for s in seen) / most, 3) if most else 0.0,
            len(seen),
        )
        for (day, hour), seen in hours.items()
        if len(seen) >= FEWEST_LOOKS
    ]
    return sorted(found, key=lambda w: (w.avg_spot_price, w.day_of_week, w.hour_utc))


def hosts(*, actor: Actor) -> list[MarketHost]:
    """Hosts that were seen, most reliable first."""
    actor.require(VIEW, "see the market")
    return list(MarketHost.objects.visible_to(actor).order_by("-reliability", "host_id")[:500])


def our_rentals(*, actor: Actor) -> dict[str, tuple[int, int]]:
    """For each host: how often we rented there, and how often that failed. Our own experience, not the market's claim."""
    found: dict[str, tuple[int, int]] = {}
    for host, failed in Rental.objects.visible_to(actor).exclude(created_at=None).values_list("host_id", "failed"):
        total, bad = found.get(host, (0, 0))
        found[host] = (total + 1, bad + int(failed))
    return found


def no_data(why: str) -> dict[str, Any]:
    """The honest empty answer."""
    return {"data": "no_data", "reason": why, "items": []}
