"""Wall clocks: what an IANA zone shows at an instant, and which instants show a wall time.

Instants are whole Unix seconds. Wall time is counted in seconds as well, as if the wall clock ran in UTC, so that a
stretch of constant UTC offset maps by one addition. The IANA data has no two offset changes of a zone within
`PROBE` of each other since 1990 (a test reads the compiled zone files to prove it), so probing once a `PROBE` and
bisecting where the offset differs finds every change.
"""

from __future__ import annotations

import difflib
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from hibernation.schedule.errors import InvalidSchedule

DAY = 86_400
PROBE = DAY
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
LAST_INSTANT = int(datetime(9990, 1, 1, tzinfo=UTC).timestamp())
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BLOCK = 400 * DAY


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Every zone this machine's IANA data knows."""
    return frozenset(available_timezones())


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    """The zone of that IANA name. Raises InvalidSchedule, with the nearest names, when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    by_lower = {known.lower(): known for known in zone_names()}
    near = [by_lower[hit] for hit in difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.75)]
    hint = f" Did you mean {' or '.join(near)}?" if near else " Use a name such as Europe/Berlin or UTC."
    raise InvalidSchedule(f"{name!r} is not an IANA time zone.{hint}", field="zone")


def seconds(moment: datetime) -> int:
    """The Unix second in which a moment lies. Raises ValueError for a moment without a zone."""
    if moment.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    delta = moment - _EPOCH
    return delta.days * DAY + delta.seconds


def moment(second: int, zone: tzinfo = UTC) -> datetime:
    """The instant of a Unix second, shown in a zone."""
    if zone is UTC:
        return _EPOCH + timedelta(seconds=second)
    return datetime.fromtimestamp(second, zone)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def offset_at(zone: ZoneInfo, second: int) -> int:
    """Wall time minus UTC at an instant, in seconds."""
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    assert offset is not None
    return offset.days * DAY + offset.seconds


@lru_cache(maxsize=8192)
def _changes(name: str, block: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Starts and offsets of the stretches of constant offset within one block of time."""
    zone = load_zone(name)
    first, last = block * _BLOCK, (block + 1) * _BLOCK
    starts, offsets = [first], [offset_at(zone, first)]
    before = first
    while before < last:
        after = min(before + PROBE, last)
        offset = offset_at(zone, after)
        if offset != offsets[-1]:
            low, high = before, after
            while high - low > 1:
                middle = (low + high) // 2
                if offset_at(zone, middle) == offsets[-1]:
                    low = middle
                else:
                    high = middle
            starts.append(high)
            offsets.append(offset)
        before = after
    return tuple(starts), tuple(offsets)


def stretches(name: str, start: int, end: int) -> list[tuple[int, int, int]]:
    """`[start, end)` cut where the zone's offset changes: `(start, end, offset)`, without gaps."""
    if end - start <= PROBE:
        zone = load_zone(name)
        offset = offset_at(zone, start)
        if offset == offset_at(zone, end - 1):
            return [(start, end, offset)]
    cut: list[tuple[int, int, int]] = []
    position = start
    while position < end:
        block = position // _BLOCK
        starts, offsets = _changes(name, block)
        until = min(end, (block + 1) * _BLOCK)
        index = bisect_right(starts, position) - 1
        while position < until:
            stop = min(until, starts[index + 1]) if index + 1 < len(starts) else until
            if cut and cut[-1][2] == offsets[index]:
                cut[-1] = (cut[-1][0], stop, offsets[index])
            else:
                cut.append((position, stop, offsets[index]))
            position = stop
            index += 1
    return cut


def first_instant(name: str, wall: int) -> int:
    """The first instant at which the wall clock shows `wall` or later.

    A wall time that a gap skips becomes the end of the gap; one that a fold repeats, its first showing.
    """
    for start, end, offset in stretches(name, wall - 2 * DAY, wall + 2 * DAY):
        if wall - offset < end:
            return max(start, wall - offset)
    raise ValueError(f"no instant of {name} shows wall second {wall}")  # offsets are under a day: never


def wall_second(day: date, minute: int = 0) -> int:
    """Wall seconds of a date and a minute of it (1440 and more lie on the following days)."""
    return (day.toordinal() - EPOCH_ORDINAL) * DAY + minute * 60


def clock(minute: int) -> str:
    """`08:30`; minutes past midnight of the next day wrap around, the end of a day is 24:00."""
    if minute == 1440:
        return "24:00"
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"


def day_words(day: date) -> str:
    """`Fri 15 Nov 2024`, in English whatever the process's locale."""
    return f"{WEEKDAYS[day.weekday()]} {day.day} {_MONTHS[day.month - 1]} {day.year}"


def when_words(at: datetime, seen_from: datetime) -> str:
    """A moment as a person would say it on `seen_from`'s day: `20:00`, `Mon 08:30`, `Mon 6 Jan 2025 08:30`."""
    shown = f"{at.hour:02d}:{at.minute:02d}" + (f":{at.second:02d}" if at.second else "")
    days = (at.date() - seen_from.date()).days
    if days == 0:
        return shown
    if 0 < days < 7:
        return f"{WEEKDAYS[at.weekday()]} {shown}"
    return f"{day_words(at.date())} {shown}"
