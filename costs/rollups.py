"""Building roll-ups: the sums of one organization's intervals in one stretch of time (a local day, today so far, or the
days of a month so far, which are summed from the sums of the days).

A roll-up may never be wrong, only missing. Whoever changes intervals raises the version of every slot that they touch, in
the same transaction; a slot is read only while the version that it was built at is still its version. Slots are made an
hour after they end, and built a minute after they were made: the usual event is newer than every slot and raises nothing,
and every transaction that could have missed a fresh slot has ended before it is summed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core.cache import cache
from django.db import transaction
from django.db.models import F, Q

from accounts.models import Organization
from core import clock
from costs import totals
from costs.budget_rules import window
from costs.models import Interval, LedgerSlot, ResourceTotal, ShareTotal
from costs.totals import NANO, Line, Totals

LATE = timedelta(hours=1)
SETTLE = timedelta(seconds=60)
MOST_NEW = 800
HINT_SECONDS = 3600
DAY, PART, SPAN = "day", "part", "span"


def outdate(organization_id: UUID, since: datetime) -> None:
    """Intervals changed from `since` on: roll-ups that reach further are not read until they are built anew. To be called
    in the transaction that changes them; costs nothing for what happened within the last hour.
    """
    if since > clock.now() - LATE:
        return
    LedgerSlot.objects.for_org(organization_id).filter(end__gt=since).update(version=F("version") + 1)


def build_due(*, seconds: float = 60.0) -> int:
    """Make the slots that are missing and build what is due, for at most so many seconds; how many were built."""
    until = time.monotonic() + seconds
    built = 0
    for organization in Organization.objects.all():
        make_slots(organization)
        for slot_id in _due(organization.id):
            if time.monotonic() > until:
                return built
            built += build(slot_id)
        parts = LedgerSlot.objects.for_org(organization.id).filter(grain=PART, built_version=F("version"))
        if parts.exists():
            cache.set(totals.today_key(organization.id), 1, HINT_SECONDS)
    return built


def make_slots(organization: Organization) -> int:
    """Add the days that have ended since the last slot (or since the ledger began), their months up to them, and today
    so far."""
    now = clock.now()
    horizon = now - LATE
    days = LedgerSlot.objects.for_org(organization.id).filter(grain=DAY)
    last = days.order_by("-end").values_list("end", flat=True).first()
    rows = Interval.objects.for_org(organization.id).order_by("started_at")
    begin = last or rows.values_list("started_at", flat=True).first()
    if begin is None:
        return 0
    made: list[tuple[str, datetime, datetime]] = []
    zone = ZoneInfo(organization.timezone)
    left, right = window("day", organization.timezone, begin)
    while right <= horizon and len(made) < MOST_NEW:
        made.append((DAY, max(left, last) if last else left, right))
        left, right = right, (right.astimezone(zone) + timedelta(days=1)).astimezone(ZoneInfo("UTC"))
    made += _spans(organization, [(a, b) for _, a, b in made])
    today = window("day", organization.timezone, now)[0]
    so_far = horizon.replace(minute=0, second=0, microsecond=0)
    if so_far > today:
        made.append((PART, today, so_far))
    slots = [
        LedgerSlot(organization_id=organization.id, grain=grain, start=a, end=b, created_at=now)
        for grain, a, b in made
        if a < b
    ]
    LedgerSlot.objects.for_org(organization.id).bulk_create(slots, ignore_conflicts=True)
    return len(slots)


def _spans(organization: Organization, new: list[tuple[datetime, datetime]]) -> list[tuple[str, datetime, datetime]]:
    """For each month that has new days: all of its days up to the last of them, if they are more than one."""
    if not new:
        return []
    since = window("month", organization.timezone, new[0][0])[0]
    known = LedgerSlot.objects.for_org(organization.id).filter(grain=DAY, start__gte=since)
    months: dict[datetime, list[tuple[datetime, datetime]]] = {}
    for left, right in sorted({*known.values_list("start", "end"), *new}):
        months.setdefault(window("month", organization.timezone, left)[0], []).append((left, right))
    return [(SPAN, days[0][0], days[-1][1]) for days in months.values() if len(days) > 1]


def _due(organization_id: UUID) -> list[int]:
    """Slots to build, the newest first, but those that are summed from others after these."""
    rows = LedgerSlot.objects.for_org(organization_id).filter(created_at__lte=clock.now() - SETTLE)
    stale = rows.filter(Q(built_version=None) | ~Q(built_version=F("version")))
    found = stale.order_by("-start").values_list("id", "grain")
    return [slot_id for slot_id, _ in sorted(found, key=lambda one: one[1] == SPAN)]


def build(slot_id: int) -> bool:
    """Sum one slot and put the sums in its place; False when its intervals changed meanwhile, or a day of it has no sum.

    Repeating it, or dying anywhere in it, changes nothing: sums and version are written together.
    """
    slot = LedgerSlot.objects.all_orgs().filter(id=slot_id).first()
    if slot is None:
        return False
    found = _summed(slot)
    if found is None:
        return False
    with transaction.atomic():
        same = LedgerSlot.objects.for_org(slot.organization_id).filter(id=slot.id, version=slot.version)
        if not same.update(built_version=slot.version):
            return False
        _replace(slot, found)
        if slot.grain != DAY:
            _drop_older(slot)
    return True


def _summed(slot: LedgerSlot) -> Totals | None:
    """From the intervals; several days from their own sums, None while one of these may not be read.

    A day that changes while it is read raises the version of this slot too, and `build` notices.
    """
    if slot.grain != SPAN:
        rows = Interval.objects.for_org(slot.organization_id)
        return totals.add_up(totals.facts_of(rows, slot.start, slot.end), slot.start, slot.end)
    days = LedgerSlot.objects.for_org(slot.organization_id).filter(grain=DAY, built_version=F("version"))
    inside = days.filter(start__gte=slot.start, end__lte=slot.end).values_list("id", "start", "end")
    stretches = totals.cover(slot.start, slot.end, list(inside))
    return totals.rolled(stretches[0][2]) if len(stretches) == 1 and stretches[0][2] else None


def _drop_older(slot: LedgerSlot) -> None:
    """Shorter slots that this one replaces, but for the last of them, which somebody may be reading."""
    older = LedgerSlot.objects.for_org(slot.organization_id).filter(grain=slot.grain, end__lt=slot.end)
    if slot.grain == SPAN:
        older = older.filter(start=slot.start)
    last = older.order_by("-end").first()
    if last is not None:
        older.exclude(id=last.id).delete()


def _replace(slot: LedgerSlot, found: Totals) -> None:
    ShareTotal.objects.filter(slot=slot).delete()
    ResourceTotal.objects.filter(slot=slot).delete()
    shares = [ShareTotal(slot=slot, **share._asdict(), **_columns(line)) for share, line in found.shares.items()]
    things = [
        ResourceTotal(slot=slot, kind=thing.kind, resource_id=thing.id, label=thing.label, **_columns(line))
        for thing, line in found.things.items()
    ]
    ShareTotal.objects.bulk_create(shares, batch_size=500)
    ResourceTotal.objects.bulk_create(things, batch_size=500)


def _columns(line: Line) -> dict[str, int]:
    whole = {n: getattr(line, n) for n in Line.__slots__ if n not in ("spent", "saved")}
    return {**whole, "spent": nano(line.spent), "saved": nano(line.saved)}


def nano(amount: Decimal) -> int:
    """Billionths of a dollar, rounded to the nearest: a sum of a million of them is exact to a tenth of a cent."""
    return int((amount * NANO).to_integral_value(ROUND_HALF_EVEN))


def forget(organization_id: UUID) -> int:
    """Drop every roll-up of an organization; they are built again. The ledger is read from its intervals meanwhile."""
    deleted, _ = LedgerSlot.objects.for_org(organization_id).delete()
    return int(deleted)


def stale(organization_id: UUID) -> Iterable[tuple[datetime, datetime]]:
    """Stretches that have a slot which may not be read now."""
    rows = LedgerSlot.objects.for_org(organization_id).filter(Q(built_version=None) | ~Q(built_version=F("version")))
    return list(rows.order_by("start").values_list("start", "end"))
