"""A schedule held against what really ran: what it would have saved. Potential money, from real intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from core import clock
from core.actor import Actor
from core.sleepable import SleepableView
from costs import selectors as costs
from costs.enums import Phase
from hibernation import schedule as engine

BACK = timedelta(days=30)
SECONDS = Decimal(3600)
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class WouldHave:
    """What a schedule would have saved since `since`, the later of 30 days ago and the oldest interval. `saved` is None
    without a price or without history; hours are those that were awake, and those of them that it would have slept."""

    since: datetime
    days: int
    saved: Decimal | None
    awake_hours: float
    asleep_hours: float
    resources: int
    unpriced: int


def would_have_saved(*, actor: Actor, plan: engine.Schedule, views: Collection[SleepableView]) -> WouldHave | None:
    """The last 30 days of these resources under `plan`. One question. None without the right to see costs, or when the
    ledger holds nothing of them."""
    if not views or not actor.can("costs.view"):
        return None
    now = clock.now()
    kept = {(v.kind, v.id): v.asleep_hourly_cost for v in views}
    rows = list(costs.intervals_between(actor, now - BACK, now).filter(resource_id__in=[v.id for v in views]))
    if not rows:
        return None
    since = max(now - BACK, min(row.started_at for row in rows))
    asleep = [(s.start, s.end) for s in engine_asleep(plan, since, now)]
    saved, awake, slept, priced, unpriced = ZERO, 0.0, 0.0, 0, 0
    seen: dict[tuple[str, UUID], bool] = defaultdict(bool)
    for row in rows:
        key = (row.resource_kind, row.resource_id)
        if row.phase != Phase.AWAKE or key not in kept:
            continue
        seen[key] = True
        start, end = max(row.started_at, since), min(row.ended_at or now, now)
        awake += max(0.0, (end - start).total_seconds()) / 3600
        seconds = sum(
            max(0.0, (min(end, b) - max(start, a)).total_seconds()) for a, b in asleep if a < end and b > start
        )
        slept += seconds / 3600
        if row.price is None:
            unpriced += 1
            continue
        priced += 1
        saved += (row.price - kept[key]) * Decimal(round(seconds)) / SECONDS
    days = max(1, round((now - since) / timedelta(days=1)))
    money = saved.quantize(Decimal("0.01")) if priced or not unpriced else None
    return WouldHave(since, days, money, awake, slept, len(seen), unpriced)


def engine_asleep(plan: engine.Schedule, start: datetime, end: datetime) -> list[engine.Segment]:
    """When it would have been switched off."""
    return [s for s in plan.segments_between(start, end) if s.power is engine.Power.ASLEEP]
