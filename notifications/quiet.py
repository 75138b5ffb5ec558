"""Quiet hours and digests on the clock of a place or a person: pure, exact across changes of the clocks."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

DAILY = 1440
MORNING = time(8)
_MINUTE = timedelta(minutes=1)


def is_quiet(moment: datetime, start: time | None, end: time | None, timezone: str) -> bool:
    """Whether the local time of `moment` lies in the hours, which may span midnight. `start` belongs to them, `end` does not."""
    if start is None or end is None or start == end:
        return False
    local = moment.astimezone(ZoneInfo(timezone)).time()
    return start <= local < end if start < end else local >= start or local < end


def end_of_quiet(now: datetime, start: time | None, end: time | None, timezone: str) -> datetime:
    """`now`, or the first moment after it that is not quiet any more, to the minute.

    Where the clocks skip the end, that is the moment of the skip; where they repeat it, the hours count both times.
    """
    if start is None or end is None or not is_quiet(now, start, end, timezone):
        return now
    zone = ZoneInfo(timezone)
    today = now.astimezone(zone).date()
    ends = sorted(
        datetime.combine(today + timedelta(days=days), end, zone).replace(fold=fold).astimezone(now.tzinfo)
        for days in (0, 1, 2)
        for fold in (0, 1)
    )
    found = next(e for e in ends if e > now and not is_quiet(e, start, end, timezone))
    while found - _MINUTE > now and not is_quiet(found - _MINUTE, start, end, timezone):
        found -= _MINUTE
    return found


def next_digest(now: datetime, minutes: int, timezone: str) -> datetime:
    """When what is collected now goes out: at the next full step of the day, or for a daily one at eight in the morning."""
    if minutes >= DAILY:
        local = now.astimezone(ZoneInfo(timezone))
        day = local.date() + timedelta(days=local.time() >= MORNING)
        return datetime.combine(day, MORNING, ZoneInfo(timezone)).astimezone(now.tzinfo)
    step = timedelta(minutes=minutes)
    midnight = datetime.combine(now.date(), time(), now.tzinfo)
    return midnight + (int((now - midnight) / step) + 1) * step
