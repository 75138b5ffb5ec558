"""Every read of schedules and of what they did: scoped, evaluated, in a number of questions that does not grow."""

from hibernation.selectors.bulk import Bulk, BulkFilters, bulk
from hibernation.selectors.history import HistoryFilters, history
from hibernation.selectors.learned import Learned, learned_week, teachers
from hibernation.selectors.past import WouldHave, would_have_saved
from hibernation.selectors.savings import Savings, savings
from hibernation.selectors.schedules import (
    Day,
    Detail,
    DryRun,
    ScheduleRow,
    days_ahead,
    dry_run,
    get_detail,
    get_schedule,
    list_schedules,
    next_curfew,
    preview_of,
    restore_file,
    still_on,
)
from hibernation.selectors.why import Why, why
from hibernation.selectors.year import Year, year_of

__all__ = [
    "Bulk",
    "BulkFilters",
    "Day",
    "Detail",
    "DryRun",
    "HistoryFilters",
    "Learned",
    "Savings",
    "ScheduleRow",
    "Why",
    "WouldHave",
    "Year",
    "bulk",
    "days_ahead",
    "dry_run",
    "get_detail",
    "get_schedule",
    "history",
    "learned_week",
    "list_schedules",
    "next_curfew",
    "preview_of",
    "restore_file",
    "savings",
    "still_on",
    "teachers",
    "why",
    "would_have_saved",
    "year_of",
]
