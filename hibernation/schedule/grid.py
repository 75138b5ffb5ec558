"""The weekly grid: seven rows of 24 hours or 48 half hours, Monday first, `1` awake and `0` asleep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hibernation.schedule.errors import InvalidSchedule
from hibernation.schedule.spans import Span
from hibernation.schedule.zones import DAY, WEEKDAYS, clock

AWAKE, ASLEEP = "1", "0"
NOON = DAY // 2
_RUN = re.compile("1+")


@dataclass(frozen=True, slots=True)
class Grid:
    """What a person painted. Rows are wall-clock time of the schedule's zone and all have the same length."""

    rows: tuple[str, ...]

    def __post_init__(self) -> None:
        rows = self.rows
        if len(rows) != 7:
            raise InvalidSchedule(f"The grid needs 7 rows, Monday to Sunday; it has {len(rows)}.", field="grid")
        for name, row in zip(WEEKDAYS, rows, strict=True):
            if len(row) not in (24, 48):
                raise InvalidSchedule(f"{name} needs 24 cells (hours) or 48 (half hours).", field="grid")
            if len(row) != len(rows[0]):
                raise InvalidSchedule(f"{name} has {len(row)} cells but Mon has {len(rows[0])}.", field="grid")
            if wrong := row.strip("01") and sorted(set(row) - {AWAKE, ASLEEP}):
                raise InvalidSchedule(f"{name} contains {wrong[0]!r}; a cell is 1 (awake) or 0 (asleep).", field="grid")

    @classmethod
    def from_json(cls, value: object) -> Grid:
        """From a list of seven strings. Raises InvalidSchedule."""
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(row, str) for row in value):
            raise InvalidSchedule("The grid is a list of 7 strings.", field="grid")
        return cls(tuple(value))

    def to_json(self) -> list[str]:
        return list(self.rows)

    @property
    def cell_minutes(self) -> int:
        """60 or 30."""
        return 1440 // len(self.rows[0])

    def awake_at(self, weekday: int, minute: int) -> bool:
        """The paint at a minute of a weekday (Monday is 0)."""
        return self.rows[weekday][minute // self.cell_minutes] == AWAKE

    def awake_hours(self) -> float:
        """Painted awake hours of one ordinary week."""
        return sum(row.count(AWAKE) for row in self.rows) * self.cell_minutes / 60

    def with_half_hours(self) -> Grid:
        """The same paint in 48 cells a day."""
        if self.cell_minutes == 30:
            return self
        return Grid(tuple("".join(cell * 2 for cell in row) for row in self.rows))

    def with_hours(self) -> Grid:
        """The same paint in 24 cells a day where that loses nothing, else the grid itself."""
        if self.cell_minutes == 60 or any(row[0::2] != row[1::2] for row in self.rows):
            return self
        return Grid(tuple(row[::2] for row in self.rows))

    def paint(self, weekdays: Iterable[int], start: int, end: int, *, awake: bool) -> Grid:
        """Paint minutes `[start, end)` of each weekday; past 1440 it goes on into the next day (Sunday into Monday).

        Minutes are multiples of 30; a half hour turns an hourly grid into one of half hours.
        """
        if not 0 <= start < 1440 or not start < end <= start + 7 * 1440 or start % 30 or end % 30:
            raise InvalidSchedule("Paint from 00:00 on, in steps of 30 minutes, for at most a week.", field="grid")
        grid = self if start % 60 == 0 and end % 60 == 0 else self.with_half_hours()
        size, step = 1440 // grid.cell_minutes, grid.cell_minutes
        week = list("".join(grid.rows))
        for weekday in weekdays:
            for cell in range(weekday * size + start // step, weekday * size + end // step):
                week[cell % len(week)] = AWAKE if awake else ASLEEP
        painted = "".join(week)
        return Grid(tuple(painted[n * size : (n + 1) * size] for n in range(7)))

    def copy_day(self, source: int, targets: Iterable[int]) -> Grid:
        """Give the targets the source weekday's row."""
        rows = list(self.rows)
        for target in targets:
            rows[target] = rows[source]
        return Grid(tuple(rows))

    def describe(self) -> list[tuple[str, str]]:
        """Weekday and its painted hours in words, such as ("Sat", "asleep")."""
        lines = []
        for name, row in zip(WEEKDAYS, self.rows, strict=True):
            runs = [f"{clock(s // 60)}–{clock(e // 60)}" for s, e in row_spans(row)]
            lines.append((name, ", ".join(runs) or "asleep"))
        return lines


def row_spans(row: str) -> tuple[Span, ...]:
    """The awake spans of one row, in seconds of the day."""
    cell = DAY // len(row)
    return tuple((run.start() * cell, run.end() * cell) for run in _RUN.finditer(row))


@dataclass(frozen=True, slots=True)
class Week:
    """A grid compiled to seconds: per weekday what is painted, and how much of its start is the night before."""

    painted: tuple[tuple[Span, ...], ...]
    own: tuple[tuple[Span, ...], ...]
    tail: tuple[tuple[Span, ...], ...]


def compile_week(grid: Grid, *, night_belongs_to_start_day: bool) -> Week:
    """Split each row into the tail of the evening before and the day's own hours.

    The tail of a weekday is its awake run from 00:00 on, when the evening before is awake until 24:00 and the run
    ends by 12:00. A run that reaches further is not a night: then midnight is the border (a week painted awake
    around the clock has no tails). Without the option there are no tails.
    """
    painted = tuple(row_spans(row) for row in grid.rows)
    if not night_belongs_to_start_day:
        return Week(painted, painted, ((),) * 7)
    own, tail = [], []
    for weekday, runs in enumerate(painted):
        evening = painted[weekday - 1]
        if runs and runs[0][0] == 0 and runs[0][1] <= NOON and evening and evening[-1][1] == DAY:
            own.append(runs[1:])
            tail.append(runs[:1])
        else:
            own.append(runs)
            tail.append(())
    return Week(painted, tuple(own), tuple(tail))


def _hours(weekdays: Iterable[int], start: int, end: int) -> Grid:
    return ALWAYS_ASLEEP.paint(weekdays, start * 60, end * 60, awake=True)


ALWAYS_AWAKE = Grid((AWAKE * 24,) * 7)
ALWAYS_ASLEEP = Grid((ASLEEP * 24,) * 7)


@dataclass(frozen=True, slots=True)
class Preset:
    """A grid that one click paints."""

    key: str
    label: str
    grid: Grid


PRESETS: Mapping[str, Preset] = {
    preset.key: preset
    for preset in (
        Preset("office_hours", "Office hours: Mon–Fri 09:00–18:00", _hours(range(5), 9, 18)),
        Preset(
            "nights_and_weekends", "Sleep at night and at weekends: awake Mon–Fri 08:00–20:00", _hours(range(5), 8, 20)
        ),
        Preset("nights", "Sleep at night: awake daily 08:00–20:00", _hours(range(7), 8, 20)),
        Preset("weekends", "Sleep at weekends: awake Mon 00:00 – Fri 24:00", _hours(range(5), 0, 24)),
        Preset("always_awake", "Always awake", ALWAYS_AWAKE),
        Preset("always_asleep", "Always asleep", ALWAYS_ASLEEP),
    )
}
