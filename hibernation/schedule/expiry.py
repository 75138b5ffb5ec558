"""When an override ends: the choices a person has, as instants, on the schedule's wall clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hibernation.schedule.errors import InvalidSchedule
from hibernation.schedule.orders import parse_moment
from hibernation.schedule.state import Power
from hibernation.schedule.zones import first_instant, load_zone, moment, seconds, wall_second

if TYPE_CHECKING:
    from hibernation.schedule.engine import Schedule

LONGEST_OVERRIDE = timedelta(days=366)
_HOURS = re.compile(r"(\d{1,3})\s*h")
_MINUTES = re.compile(r"(\d{1,4})\s*m(?:in)?")
_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")


def until_monday(zone: str, t: datetime) -> datetime:
    """The next Monday 00:00 strictly after `t`, or the first instant after it where midnight is skipped."""
    today = t.astimezone(load_zone(zone)).date()
    monday = today + timedelta(7 - today.weekday())
    at = _at(zone, wall_second(monday))
    return at if at > t else _at(zone, wall_second(monday + timedelta(7)))


def until_tomorrow(zone: str, t: datetime) -> datetime:
    """The next midnight strictly after `t`."""
    return until_clock(zone, t, 24 * 60)


def until_clock(zone: str, t: datetime, minute: int) -> datetime:
    """The next instant strictly after `t` at which the wall clock first shows that minute of a day (1440: midnight).

    Where the clock skips it, the end of the gap; where it shows it twice, the first showing.
    """
    today = t.astimezone(load_zone(zone)).date()
    for days in range(4):
        at = _at(zone, wall_second(today + timedelta(days), minute))
        if at > t:
            return at
    raise ValueError("no such wall time in the next days")  # a zone never skips three dates


def until_next_wake(schedule: Schedule, t: datetime) -> datetime | None:
    """When the schedule next switches it on, the pre-warm included; None when it never does."""
    return next((change.at for change in schedule.next_transitions(t, 3) if change.before is Power.ASLEEP), None)


def until_next_sleep(schedule: Schedule, t: datetime) -> datetime | None:
    """When the schedule next puts it to sleep; None when it does not in its next changes."""
    return next((change.at for change in schedule.next_transitions(t, 40) if change.power is Power.ASLEEP), None)


def expiry_for(schedule: Schedule, t: datetime, text: str) -> datetime:
    """The expiry that a person chose at `t`, in UTC: `1h`, `90m`, `until_monday`, `until_tomorrow`, `until_next_wake`,
    `until_next_sleep`, `18:30` on the schedule's clock, or an ISO 8601 time with an offset.

    Raises InvalidSchedule for anything else, for the past, and for more than 366 days.
    """
    t = t.astimezone(UTC)  # hours are added to instants, not to a wall clock
    expires = _parse(schedule, t, text.strip())
    if expires is None:
        raise InvalidSchedule("The schedule has no such change ahead; choose a time.", field="until")
    if expires <= t:
        raise InvalidSchedule("That time has passed already.", field="until")
    if expires - t > LONGEST_OVERRIDE:
        raise InvalidSchedule("An override lasts at most 366 days; edit the schedule instead.", field="until")
    return expires.astimezone(UTC)


def _parse(schedule: Schedule, t: datetime, text: str) -> datetime | None:
    if match := _HOURS.fullmatch(text):
        return t + timedelta(hours=int(match[1]))
    if match := _MINUTES.fullmatch(text):
        return t + timedelta(minutes=int(match[1]))
    if match := _CLOCK.fullmatch(text):
        minute = int(match[1]) * 60 + int(match[2])
        if minute <= 1440:
            return until_clock(schedule.zone, t, minute)
    named = {"until_monday": until_monday, "until_tomorrow": until_tomorrow}.get(text)
    if named:
        return named(schedule.zone, t)
    change = {"until_next_wake": until_next_wake, "until_next_sleep": until_next_sleep}.get(text)
    if change:
        return change(schedule, t)
    try:
        return parse_moment(text)
    except InvalidSchedule:
        message = f"{text!r} is no duration such as 4h, no time such as 18:30 or 2025-01-31T18:00+01:00, and not until_monday."
        raise InvalidSchedule(message, field="until") from None


def _at(zone: str, wall: int) -> datetime:
    return moment(first_instant(zone, wall))


def local_words(schedule: Schedule, at: datetime) -> str:
    """`2025-01-31 18:00 Europe/Berlin`: an instant on the schedule's clock, for warnings and logs."""
    return f"{moment(seconds(at), load_zone(schedule.zone)):%Y-%m-%d %H:%M} {schedule.zone}"
