"""Import of the strings that Kubernetes downscalers keep in annotations: `Mon-Fri 08:00-20:00 Europe/Berlin`.

A list of spans joined by commas, each weekday range, time range and zone. As `uptime` the spans are awake and the
rest sleeps; as `downtime` the reverse. `always` and `never` are whole weeks.

Read as people mean it, not as every matcher does: a span whose end is not after its start crosses midnight and belongs
to the weekday it starts on (`Mon-Fri 19:00-08:00` downtime sleeps from Friday 19:00 to Saturday 08:00), and weekday
ranges may wrap (`Sat-Sun`, `Sun-Thu`). Minutes that fall inside a half-hour cell are rounded so that nothing sleeps
longer than the string says, and `notes` tell of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from hibernation.schedule.errors import InvalidSchedule
from hibernation.schedule.grid import ALWAYS_ASLEEP, ALWAYS_AWAKE, Grid
from hibernation.schedule.zones import WEEKDAYS, clock, load_zone

_SPAN = re.compile(
    r"([A-Za-z]{3,9})(?:\s*-\s*([A-Za-z]{3,9}))?\s+(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})(?:\s+(\S+))?"
)
_ABSOLUTE = re.compile(r"\d{4}-\d{2}-\d{2}T")
_FULL_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class StringKind(StrEnum):
    UPTIME = "uptime"
    DOWNTIME = "downtime"


@dataclass(frozen=True, slots=True)
class ImportedGrid:
    """The grid and zone of a string; `notes` say, in words for a person, what was rounded or read anew."""

    grid: Grid
    zone: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    days: tuple[int, ...]
    start: int
    end: int
    zone: str


def from_uptime_string(text: str, *, kind: str = "uptime", default_zone: str | None = None) -> ImportedGrid:
    """The grid that an `uptime` or `downtime` string means.

    `default_zone` is for strings without a zone. Raises InvalidSchedule, naming the part, for what it cannot read:
    dates, two zones in one string, an unknown zone or weekday, an impossible time.
    """
    uptime = StringKind(kind) is StringKind.UPTIME
    word = text.strip().lower()
    if word in ("always", "never"):
        return ImportedGrid(
            ALWAYS_AWAKE if uptime is (word == "always") else ALWAYS_ASLEEP, _zone(default_zone or "UTC")
        )
    parts = [_part(piece.strip(), default_zone) for piece in text.split(",") if piece.strip()]
    if not parts:
        raise InvalidSchedule("The string is empty; expected such as Mon-Fri 08:00-20:00 Europe/Berlin.", field="text")
    zones = sorted({part.zone for part in parts})
    if len(zones) > 1:
        raise InvalidSchedule(
            f"One grid has one zone, but the string names {' and '.join(zones)}; make two schedules.", field="text"
        )
    grid = (ALWAYS_ASLEEP if uptime else ALWAYS_AWAKE).with_half_hours()
    notes: list[str] = []
    for part in parts:
        grid = _apply(grid, part, uptime, notes)
    return ImportedGrid(grid.with_hours(), zones[0], tuple(dict.fromkeys(notes)))


def _part(piece: str, default_zone: str | None) -> _Part:
    if _ABSOLUTE.match(piece):
        raise InvalidSchedule(f"{piece!r} is a range of dates; put those days into the calendar instead.", field="text")
    match = _SPAN.fullmatch(piece)
    if not match:
        raise InvalidSchedule(
            f"Cannot read {piece!r}; expected such as Mon-Fri 08:00-20:00 Europe/Berlin.", field="text"
        )
    first, last, from_hour, from_minute, to_hour, to_minute, zone = match.groups()
    if zone is None and default_zone is None:
        raise InvalidSchedule(f"{piece!r} names no time zone.", field="text")
    start, end = _minute(from_hour, from_minute, piece), _minute(to_hour, to_minute, piece)
    if start == 1440:
        raise InvalidSchedule(f"{piece!r} starts at 24:00; write 00:00 of the next day.", field="text")
    if start == end:
        raise InvalidSchedule(f"{piece!r} starts and ends at the same time; a whole day is 00:00-24:00.", field="text")
    begin, stop = _weekday(first, piece), _weekday(last or first, piece)
    days = tuple((begin + n) % 7 for n in range((stop - begin) % 7 + 1))
    return _Part(days, start, end if end > start else end + 1440, _zone(zone or default_zone or ""))


def _apply(grid: Grid, part: _Part, uptime: bool, notes: list[str]) -> Grid:
    if part.end > 1440:
        notes.append(
            f"{clock(part.start)}-{clock(part.end)} crosses midnight: each night belongs to the day on which it starts."
        )
    start = part.start // 30 * 30 if uptime else -(-part.start // 30) * 30
    end = -(-part.end // 30) * 30 if uptime else part.end // 30 * 30
    for exact, rounded in ((part.start, start), (part.end, end)):
        if exact != rounded:
            notes.append(f"{clock(exact)} was rounded to {clock(rounded)}: cells are half hours.")
    if start >= end:
        notes.append(f"{clock(part.start)}-{clock(part.end)} is shorter than a cell and was left out.")
        return grid
    days = part.days if start < 1440 else tuple((day + 1) % 7 for day in part.days)
    shift = 0 if start < 1440 else 1440
    return grid.paint(days, start - shift, end - shift, awake=uptime)


def _minute(hour: str, minute: str, piece: str) -> int:
    total = int(hour) * 60 + int(minute)
    if int(minute) > 59 or total > 1440:
        raise InvalidSchedule(f"{hour}:{minute} in {piece!r} is not a time of day.", field="text")
    return total


def _weekday(name: str, piece: str) -> int:
    lower = name.lower()
    for number, (short, full) in enumerate(zip(WEEKDAYS, _FULL_NAMES, strict=True)):
        if lower in (short.lower(), full):
            return number
    raise InvalidSchedule(
        f"{name!r} in {piece!r} is not a weekday; use Mon, Tue, Wed, Thu, Fri, Sat, Sun.", field="text"
    )


def _zone(name: str) -> str:
    load_zone(name)
    return name
