"""When should it be awake? A pure engine: weekly grid, year calendar, orders of people, pre-warm, wall clocks.

Knows neither Django nor a cloud. `engine` defines the rules and is the place to read first.
"""

from __future__ import annotations

from hibernation.schedule.calendar import Calendar, DayKind, DayRule
from hibernation.schedule.engine import Schedule
from hibernation.schedule.errors import InvalidSchedule
from hibernation.schedule.expiry import (
    expiry_for,
    local_words,
    until_clock,
    until_monday,
    until_next_sleep,
    until_next_wake,
    until_tomorrow,
)
from hibernation.schedule.grid import ALWAYS_ASLEEP, ALWAYS_AWAKE, PRESETS, Grid, Preset
from hibernation.schedule.holidays import Holiday, HolidayCountry, country_of_zone, holiday_countries, holidays_for
from hibernation.schedule.orders import DEFAULT_PREWARM_SECONDS, Action, Override, Prewarm, Snooze
from hibernation.schedule.preview import Backtest, PreviewEdge, PreviewRow, backtest, preview
from hibernation.schedule.state import Cause, CauseKind, Power, Segment, State, Transition
from hibernation.schedule.uptime import ImportedGrid, from_uptime_string
from hibernation.schedule.words import explain
from hibernation.schedule.zones import load_zone, zone_names

__all__ = [
    "ALWAYS_ASLEEP",
    "ALWAYS_AWAKE",
    "DEFAULT_PREWARM_SECONDS",
    "PRESETS",
    "Action",
    "Backtest",
    "Calendar",
    "Cause",
    "CauseKind",
    "DayKind",
    "DayRule",
    "Grid",
    "Holiday",
    "HolidayCountry",
    "ImportedGrid",
    "InvalidSchedule",
    "Override",
    "Power",
    "Preset",
    "PreviewEdge",
    "PreviewRow",
    "Prewarm",
    "Schedule",
    "Segment",
    "Snooze",
    "State",
    "Transition",
    "backtest",
    "country_of_zone",
    "expiry_for",
    "explain",
    "from_uptime_string",
    "holiday_countries",
    "holidays_for",
    "load_zone",
    "local_words",
    "preview",
    "until_clock",
    "until_monday",
    "until_next_sleep",
    "until_next_wake",
    "until_tomorrow",
    "zone_names",
]
