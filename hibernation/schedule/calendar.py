"""The year calendar: rules for single dates that leave the weekly grid as it is.

A date means 00:00 to 24:00 of the schedule's wall clock. What happens to a night that crosses midnight is defined in
`hibernation.schedule.engine`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from hibernation.schedule.errors import InvalidSchedule
from hibernation.schedule.spans import Span, union
from hibernation.schedule.zones import clock

if TYPE_CHECKING:
    from hibernation.schedule.holidays import Holiday

LATEST_END = 1440 + 720


class DayKind(StrEnum):
    """What one date does."""

    HOLIDAY = "holiday"  # asleep all day
    SPRINT = "sprint"  # awake around the clock
    CUSTOM = "custom"  # awake in its own hours only
    NORMAL = "normal"  # as painted; keeps an imported holiday away from this date


@dataclass(frozen=True, slots=True)
class DayRule:
    """The rule of one date. `hours` (CUSTOM only) are minutes `(start, end)`; an end past 1440 is on the next day,
    up to its noon. `imported` marks what a holiday import wrote and may replace."""

    kind: DayKind
    name: str = ""
    hours: tuple[tuple[int, int], ...] = ()
    imported: bool = False

    def __post_init__(self) -> None:
        if self.hours and self.kind is not DayKind.CUSTOM:
            raise InvalidSchedule("Only custom hours have hours of their own.", field="calendar")
        if self.kind is DayKind.CUSTOM and not self.hours:
            raise InvalidSchedule("Custom hours need at least one span; a day asleep is a holiday.", field="calendar")
        for start, end in self.hours:
            if not 0 <= start < 1440 or not start < end <= LATEST_END:
                raise InvalidSchedule(
                    f"{clock(start)}–{clock(end)} does not fit: a span starts on its date and ends by noon of the next.",
                    field="calendar",
                )
        if self.hours:
            object.__setattr__(self, "hours", tuple(union(self.hours)))

    @classmethod
    def from_json(cls, value: Any) -> DayRule:
        """From `{"kind", "name", "hours", "imported"}`. Raises InvalidSchedule."""
        kind = _KINDS.get(str(value.get("kind"))) if isinstance(value, Mapping) else None
        if kind is None:
            raise InvalidSchedule(f"A date's rule has a kind: {', '.join(DayKind)}.", field="calendar")
        hours = _hours(value["hours"]) if value.get("hours") else ()
        return cls(kind, str(value.get("name", "")), hours, bool(value.get("imported", False)))

    def to_json(self) -> dict[str, object]:
        words: dict[str, object] = {"kind": str(self.kind)}
        if self.name:
            words["name"] = self.name
        if self.hours:
            words["hours"] = [list(span) for span in self.hours]
        if self.imported:
            words["imported"] = True
        return words

    def spans(self) -> list[Span]:
        """Custom hours as seconds counted from the date's midnight."""
        return [(start * 60, end * 60) for start, end in self.hours]

    def hours_words(self) -> str:
        return ", ".join(f"{clock(start)}–{clock(end)}" for start, end in self.hours)


_KINDS: Mapping[str, DayKind] = {str(kind): kind for kind in DayKind}


def _hours(value: Any) -> tuple[tuple[int, int], ...]:
    try:
        return tuple((int(start), int(end)) for start, end in value)
    except (TypeError, ValueError):
        raise InvalidSchedule("Custom hours are pairs of minutes: [[540, 1080]].", field="calendar") from None


@dataclass(frozen=True, slots=True)
class Calendar:
    """Dates with a rule, sorted; a date without one follows the grid."""

    days: tuple[tuple[date, DayRule], ...] = ()
    by_ordinal: dict[int, DayRule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_day = dict(self.days)
        if len(by_day) != len(self.days):
            raise InvalidSchedule("A date can have only one rule.", field="calendar")
        object.__setattr__(self, "days", tuple(sorted(self.days, key=lambda pair: pair[0])))
        object.__setattr__(
            self, "by_ordinal", {day.toordinal(): rule for day, rule in self.days if rule.kind is not DayKind.NORMAL}
        )

    @classmethod
    def of(cls, days: Mapping[date, DayRule]) -> Calendar:
        return cls(tuple(days.items()))

    @classmethod
    def from_json(cls, value: object) -> Calendar:
        """From `{"2025-12-25": {"kind": "holiday", ...}}`. Raises InvalidSchedule."""
        if not isinstance(value, Mapping):
            raise InvalidSchedule("The calendar maps dates to rules.", field="calendar")
        days: dict[date, DayRule] = {}
        for key, rule in value.items():
            try:
                day = date.fromisoformat(key)
            except (TypeError, ValueError):
                raise InvalidSchedule(f"{key!r} is not a date such as 2025-12-25.", field="calendar") from None
            days[day] = DayRule.from_json(rule)
        return cls.of(days)

    def to_json(self) -> dict[str, dict[str, object]]:
        return {day.isoformat(): rule.to_json() for day, rule in self.days}

    def rule_for(self, day: date) -> DayRule | None:
        return dict(self.days).get(day)

    def with_day(self, day: date, rule: DayRule) -> Calendar:
        """This calendar with the date's rule set or replaced."""
        return Calendar.of({**dict(self.days), day: rule})

    def without_day(self, day: date) -> Calendar:
        """This calendar with the date back on the grid. To keep a later holiday import away as well, set NORMAL."""
        return Calendar(tuple(pair for pair in self.days if pair[0] != day))

    def with_holidays(self, holidays: Iterable[Holiday]) -> Calendar:
        """Import: each holiday's date sleeps all day. Rules that a person set stay, whatever they say."""
        days = dict(self.days)
        for holiday in holidays:
            present = days.get(holiday.date)
            if present is None or present.imported:
                days[holiday.date] = DayRule(DayKind.HOLIDAY, holiday.name, imported=True)
        return Calendar.of(days)

    def without_imports(self) -> Calendar:
        """Only what people set."""
        return Calendar(tuple(pair for pair in self.days if not pair[1].imported))
