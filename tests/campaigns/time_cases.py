"""Random schedules and the historical oddities that the time oracle tries."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from hibernation.schedule import Action, Calendar, DayKind, DayRule, Grid, Override, Prewarm, Schedule, Snooze

LANDMARKS: tuple[tuple[str, int], ...] = (
    ("Pacific/Apia", 2011),
    ("Pacific/Fakaofo", 2011),
    ("Pacific/Kiritimati", 1994),
    ("Pacific/Enderbury", 1994),
    ("Pacific/Kwajalein", 1993),
    ("Asia/Kathmandu", 1986),
    ("America/Sao_Paulo", 2018),
    ("America/Sao_Paulo", 2012),
    ("America/Asuncion", 2024),
    ("America/Havana", 2013),
    ("America/St_Johns", 2007),
    ("America/St_Johns", 1988),
    ("America/Goose_Bay", 2010),
    ("America/Caracas", 2007),
    ("America/Caracas", 2016),
    ("America/Nuuk", 2023),
    ("America/Mexico_City", 2022),
    ("Asia/Beirut", 2023),
    ("Asia/Gaza", 2011),
    ("Asia/Amman", 2022),
    ("Asia/Tehran", 2022),
    ("Asia/Pyongyang", 2015),
    ("Asia/Pyongyang", 2018),
    ("Asia/Almaty", 2024),
    ("Asia/Dhaka", 2009),
    ("Africa/Cairo", 2014),
    ("Africa/Casablanca", 2018),
    ("Africa/Casablanca", 2025),
    ("Africa/Juba", 2021),
    ("Antarctica/Troll", 2016),
    ("Antarctica/Casey", 2020),
    ("Australia/Lord_Howe", 2019),
    ("Australia/Eucla", 2008),
    ("Pacific/Chatham", 2020),
    ("Pacific/Norfolk", 2019),
    ("Europe/Dublin", 2019),
    ("Europe/Volgograd", 2020),
    ("Europe/Istanbul", 2016),
    ("Europe/London", 2030),
    ("America/New_York", 2045),
    ("Europe/Berlin", 2099),
)


@dataclass(frozen=True)
class Case:
    """One random schedule for one year, without a zone: grid and dates are wall clock, orders are instants."""

    year: int
    number: int
    rows: tuple[str, ...]
    rules: dict[date, DayRule]
    overrides: tuple[Override, ...]
    snoozes: tuple[Snooze, ...]
    lead_minutes: int
    nights: bool

    def schedule(self, zone: str) -> Schedule:
        prewarm = Prewarm(learned_seconds=self.lead_minutes * 60)
        return Schedule(
            Grid(self.rows), zone, Calendar.of(self.rules), self.overrides, self.snoozes, prewarm, self.nights
        )


def random_case(year: int, number: int, step_minutes: int = 15) -> Case:
    """The case is a function of its arguments alone, so every process and every resumed run makes the same."""
    dice = random.Random(f"curfew-{year}-{number}-{step_minutes}")
    days = [date(year, 1, 1) + timedelta(n) for n in range(-1, 367)]
    rules = {day: _random_rule(dice, step_minutes) for day in dice.sample(days, dice.choice((0, 6, 14, 30, 60)))}
    if dice.random() < 0.3:  # a run of holidays
        first = dice.randrange(len(days) - 12)
        rules.update({day: DayRule(DayKind.HOLIDAY, "Shutdown") for day in days[first : first + 10]})
    overrides = tuple(_random_override(dice, year, step_minutes) for _ in range(dice.choice((0, 4, 10, 25))))
    snoozes = tuple(_random_snooze(dice, year, step_minutes) for _ in range(dice.choice((0, 3))))
    return Case(
        year,
        number,
        _random_rows(dice),
        rules,
        overrides,
        snoozes,
        dice.choice((0, 15, 30, 30, 45, 90)),
        nights=dice.random() < 0.7,
    )


def _random_rows(dice: random.Random) -> tuple[str, ...]:
    """Office weeks, overnight weeks, weeks of random blocks, and noise."""
    size = dice.choice((24, 48))
    style = dice.choice(("office", "overnight", "overnight", "blocks", "noise", "full"))
    week = [["0"] * size for _ in range(7)]
    flat = [(day, cell) for day in range(7) for cell in range(size)]

    def fill(day: int, start: int, length: int) -> None:
        for position in range(start, start + length):
            where, cell = flat[(day * size + position) % len(flat)]
            week[where][cell] = "1"

    for day in range(7):
        if style == "office" and day < 5:
            fill(day, size // 3, size // 3 + dice.randrange(3))
        elif style == "overnight" and dice.random() < 0.7:
            fill(day, size * 3 // 4 + dice.randrange(4), size // 3 + dice.randrange(size // 3))
        elif style == "blocks":
            fill(day, dice.randrange(size), dice.randrange(1, size * 2))
        elif style == "noise":
            week[day] = [dice.choice("01") for _ in range(size)]
        elif style == "full":
            week[day] = ["1"] * size
    return tuple("".join(row) for row in week)


def _random_rule(dice: random.Random, step: int) -> DayRule:
    kind = dice.choice((DayKind.HOLIDAY, DayKind.HOLIDAY, DayKind.SPRINT, DayKind.CUSTOM, DayKind.NORMAL))
    if kind is not DayKind.CUSTOM:
        return DayRule(kind, "day")
    spans = []
    for _ in range(dice.randrange(1, 4)):
        start = dice.randrange(0, 1440, step)
        spans.append((start, dice.randrange(start + step, 2160 + step, step)))
    return DayRule(kind, "own hours", tuple(spans))


def _random_instant(dice: random.Random, year: int, step: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC) + timedelta(minutes=dice.randrange(-2 * 1440, 366 * 1440, step))


def _random_override(dice: random.Random, year: int, step: int) -> Override:
    start = _random_instant(dice, year, step)
    length = dice.choice((60, 240, 3 * 1440, dice.randrange(step, 5 * 1440, step)))
    made = start - timedelta(minutes=dice.choice((0, 0, 15, 30, 600)))
    action = dice.choice((Action.WAKE, Action.WAKE, Action.SLEEP))
    return Override(action, start, start + timedelta(minutes=length), "Ann", "", dice.random() < 0.8, made)


def _random_snooze(dice: random.Random, year: int, step: int) -> Snooze:
    due = _random_instant(dice, year, step)
    return Snooze(
        due,
        due + timedelta(minutes=dice.choice((60, 120, 240))),
        "Bob",
        due - timedelta(minutes=dice.choice((0, 15, 30))),
    )
