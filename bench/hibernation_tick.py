"""How long one tick over many schedules takes, and one dry run: the pure part of hibernation.

    python -m bench.hibernation_tick --schedules 10000

Every schedule is different (grid, zone, dates, orders) and asked at another instant. Limits: `desired_at` for 10,000
schedules 1 s on one core, a 14-day preview 20 ms at the 95th percentile; the exit code is 1 beyond either.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from datetime import UTC, date, datetime, timedelta

from bench.support import percentile, report, summary
from hibernation.schedule import (
    Action,
    Calendar,
    DayKind,
    DayRule,
    Grid,
    Override,
    Prewarm,
    Schedule,
    explain,
    preview,
    zone_names,
)

TICK_LIMIT_SECONDS = 1.0
PREVIEW_LIMIT_MS = 20.0
NOW = datetime(2025, 10, 25, 21, 7, tzinfo=UTC)


def random_schedule(dice: random.Random, zones: list[str]) -> Schedule:
    """Painted in blocks with overnight runs, 12 holidays, sometimes orders and a learned pre-warm."""
    size = dice.choice((24, 48))
    week = [["0"] * size for _ in range(7)]
    for day in range(7):
        start = dice.randrange(size)
        for cell in range(start, start + dice.randrange(size)):
            week[(day + cell // size) % 7][cell % size] = "1"
    rules = {
        date(2025, 1, 1) + timedelta(dice.randrange(500)): DayRule(DayKind.HOLIDAY, "Holiday", imported=True)
        for _ in range(12)
    }
    overrides = []
    for _ in range(dice.choice((0, 0, 0, 1, 3))):
        start_at = NOW + timedelta(minutes=dice.randrange(-3000, 3000))
        overrides.append(
            Override(dice.choice(tuple(Action)), start_at, start_at + timedelta(hours=dice.choice((1, 4, 60))), "Ann")
        )
    learned = dice.choice((None, None, dice.randrange(60, 900)))
    grid = Grid(tuple("".join(row) for row in week))
    return Schedule(
        grid, dice.choice(zones), Calendar.of(rules), tuple(overrides), (), Prewarm(learned_seconds=learned)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--previews", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    zones = sorted(zone_names())
    stored = [random_schedule(dice, zones).to_json() for _ in range(options.schedules)]

    started = time.perf_counter()
    schedules = [Schedule.from_json(row) for row in stored]
    built = time.perf_counter() - started

    started = time.perf_counter()
    on = sum(schedule.desired_at(NOW + timedelta(seconds=n % 86_400)).on for n, schedule in enumerate(schedules))
    tick = time.perf_counter() - started

    started = time.perf_counter()
    changes = sum(len(schedule.next_transitions(NOW, 1)) for schedule in schedules)
    ahead = time.perf_counter() - started

    previews, sentences = [], []
    for n, schedule in enumerate(schedules[: options.previews]):
        t = NOW + timedelta(hours=n * 7)
        started = time.perf_counter()
        preview(schedule, t, 14, "America/New_York")
        previews.append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
        explain(schedule, t)
        sentences.append((time.perf_counter() - started) * 1000)
    report(
        "hibernation_tick",
        schedules=options.schedules,
        switched_on=on,
        from_json_seconds=round(built, 3),
        desired_at_seconds=round(tick, 3),
        next_transition_seconds=round(ahead, 3),
        schedules_with_a_change_ahead=changes,
        preview_14_days_ms=summary(previews),
        explain_ms=summary(sentences),
    )
    enough = tick * 10_000 / options.schedules <= TICK_LIMIT_SECONDS and percentile(previews, 95) < PREVIEW_LIMIT_MS
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
