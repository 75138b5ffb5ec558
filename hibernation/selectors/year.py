"""The year of a schedule, month by month: dates with a rule, and dates on which the painted week sleeps all day."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date

from hibernation import schedule as engine

FIRST_YEAR, LAST_YEAR = 2000, 2100
_WORDS = {
    engine.DayKind.HOLIDAY: "asleep all day",
    engine.DayKind.SPRINT: "awake around the clock",
    engine.DayKind.NORMAL: "as painted",
}
_CSS = {engine.DayKind.HOLIDAY: "hol", engine.DayKind.SPRINT: "up", engine.DayKind.CUSTOM: "own"}


@dataclass(frozen=True, slots=True)
class YearDay:
    """One date: `css` for its look, `words` say what it does."""

    day: date
    css: str
    words: str
    is_today: bool


@dataclass(frozen=True, slots=True)
class Month:
    """A month; `days` begin in column `first` (1 is Monday)."""

    name: str
    first: int
    days: list[YearDay]


@dataclass(frozen=True, slots=True)
class Year:
    """A year with how many of its dates have which rule."""

    number: int
    months: list[Month]
    holidays: int
    sprints: int
    custom: int


def year_of(plan: engine.Schedule, number: int, today: date) -> Year:
    """The whole year. `number` is brought between 2000 and 2100."""
    number = min(max(number, FIRST_YEAR), LAST_YEAR)
    rules = {day: rule for day, rule in plan.calendar.days if day.year == number}
    quiet = {weekday for weekday, row in enumerate(plan.grid.rows) if "1" not in row}
    kinds = [rule.kind for rule in rules.values()]
    months = []
    for month in range(1, 13):
        first, length = calendar.monthrange(number, month)
        days = [_day(date(number, month, n), rules, quiet, today) for n in range(1, length + 1)]
        months.append(Month(calendar.month_name[month], first + 1, days))
    return Year(
        number,
        months,
        kinds.count(engine.DayKind.HOLIDAY),
        kinds.count(engine.DayKind.SPRINT),
        kinds.count(engine.DayKind.CUSTOM),
    )


def _day(day: date, rules: dict[date, engine.DayRule], quiet: set[int], today: date) -> YearDay:
    rule = rules.get(day)
    css = _CSS.get(rule.kind, "") if rule else ("we" if day.weekday() in quiet else "")
    return YearDay(day, css, day_words(rule, day.weekday() in quiet), day == today)


def day_words(rule: engine.DayRule | None, sleeps: bool = False) -> str:
    """Such as "New Year's Day, asleep all day"."""
    if rule is None:
        return "asleep all day by the week" if sleeps else "by the week"
    words = _WORDS.get(rule.kind) or f"awake {rule.hours_words()}"
    return f"{rule.name}, {words}" if rule.name else words
