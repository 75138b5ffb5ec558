"""Time oracle: the schedule engine against a brute-force judge that shares none of its method.

    python -m tests.campaigns.time_oracle --zones all --years 10 --grids 20
    python -m tests.campaigns.time_oracle --landmarks --grids 10
    python -m tests.campaigns.time_oracle --zones Europe/Berlin,Asia/Gaza --years 2 --grids 5

The judge walks UTC in steps of 15 minutes (1 minute for `--landmarks`, historical days on which zones did strange
things), asks `zoneinfo` what the wall clock shows, and evaluates the painted cell, date rules, orders and pre-warm of
that step naively. The engine must give the same state in every step, and have its edges on steps. Besides, at random
instants `desired_at` must agree with the judge, `next_transitions` with its edges and `awake_seconds_between` with
its count.

Finished zones are kept in `--state` (JSON lines), so an interrupted campaign goes on where it stopped. The last line
printed is a JSON summary; the exit code is 1 when anything differs. The same cases also go through the matcher rules
of a Kubernetes downscaler (`tests.campaigns.downscaler_rules`), whose differences are counted by class.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from hibernation.schedule import Action, Calendar, DayKind, DayRule, Grid, Override, Power, Prewarm, Schedule, Snooze
from tests.campaigns.downscaler_rules import CLASSES, rejects_zone, wall_matches

ASLEEP, AWAKE, WARMING = 0, 1, 2
NUMBER = {Power.ASLEEP: ASLEEP, Power.AWAKE: AWAKE, Power.WARMING: WARMING}
MARGIN_DAYS = 3
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


@dataclass
class Tally:
    """What one zone's run found."""

    cases: int = 0
    steps: int = 0
    probes: int = 0
    edges: int = 0
    mismatches: list[str] = field(default_factory=list)
    downscaler: Counter[str] = field(default_factory=Counter)


# --- Random cases -----------------------------------------------------------------------------------------------------


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


# --- The judge --------------------------------------------------------------------------------------------------------


class WallTable:
    """A case's naive answer for every step of every wall-clock date around its year."""

    def __init__(self, case: Case, step: int) -> None:
        self.step, self.per_day = step, 1440 // step
        self.first = date(case.year, 1, 1) - timedelta(MARGIN_DAYS)
        self.dates = [self.first + timedelta(n) for n in range(366 + 2 * MARGIN_DAYS)]
        self.case = case
        self.minutes = range(0, 1440, step)
        self.tails = [self._tail_of(weekday) for weekday in range(7)]
        awake = bytes(self._awake(day, minute) for day in self.dates for minute in self.minutes)
        matches = wall_matches(case.rows, self.dates, self.minutes)
        ruled = bytes(self._ruled(day) for day in self.dates for _ in self.minutes)
        # One byte a step: bit 0 the judge, bit 1 the downscaler, bit 2 whether a date's rule plays a part.
        self.codes = bytes(a | m << 1 | r << 2 for a, m, r in zip(awake, matches, ruled, strict=True))

    def _cell(self, weekday: int, minute: int) -> bool:
        row = self.case.rows[weekday % 7]
        return row[minute * len(row) // 1440] == "1"

    def _tail_of(self, weekday: int) -> set[int]:
        """Minutes of a weekday that belong to the evening before."""
        if not self.case.nights or not self._cell(weekday - 1, 1439):
            return set()
        tail = set()
        for minute in range(1440):
            if not self._cell(weekday, minute):
                return tail
            tail.add(minute)
            if minute >= 720:
                return set()  # reaches beyond noon: not a night
        return set()

    def _awake(self, day: date, minute: int) -> bool:
        """Ask whose minute this is, then what that date says of it."""
        rule, before = self._rule(day), self._rule(day - timedelta(1))
        weekday, nights = day.weekday(), self.case.nights
        spill = before is not None and before.kind is DayKind.CUSTOM and _within(before, minute + 1440)
        if not nights:
            return self._said(rule, weekday, minute) if rule else self._cell(weekday, minute) or spill
        own = (
            self._said(rule, weekday, minute)
            if rule
            else self._cell(weekday, minute) and minute not in self.tails[weekday]
        )
        if own or spill:
            return True
        evening_stays = before is None or before.kind is DayKind.SPRINT
        return evening_stays and minute in self.tails[weekday]

    def _said(self, rule: DayRule, weekday: int, minute: int) -> bool:
        if rule.kind is DayKind.CUSTOM:
            return _within(rule, minute)
        return rule.kind is DayKind.SPRINT

    def _rule(self, day: date) -> DayRule | None:
        rule = self.case.rules.get(day)
        return None if rule is None or rule.kind is DayKind.NORMAL else rule

    def _ruled(self, day: date) -> bool:
        return self._rule(day) is not None or self._rule(day - timedelta(1)) is not None


def _within(rule: DayRule, minute: int) -> bool:
    return any(start <= minute < end for start, end in rule.hours)


class Orders:
    """A case's orders evaluated step by step of one UTC year (with a margin ahead for the pre-warm)."""

    def __init__(self, case: Case, start: datetime, steps: int, step: int) -> None:
        self.forced: list[tuple[int, bool, datetime]] = []  # step, awake?, when it was ordered
        listed = [
            (o.by_person, o.made_at or o.start, place, o.start, o.expires, o.action is Action.WAKE)
            for place, o in enumerate(case.overrides)
        ]
        listed += [
            (True, s.made_at or s.sleep_at, place, s.sleep_at, s.until, True) for place, s in enumerate(case.snoozes)
        ]
        near: dict[int, list[tuple[bool, datetime, int, datetime, datetime, bool]]] = {}
        for order in listed:
            first = max(0, int((order[3] - start).total_seconds()) // (60 * step))
            last = min(steps, int((order[4] - start).total_seconds()) // (60 * step))
            for position in range(first, last):
                near.setdefault(position, []).append(order)
        for position in sorted(near):
            best = max(near[position], key=lambda order: order[:3])
            self.forced.append((position, best[5], best[1]))


def wall_index(zone: str, start: int, steps: int, step: int, first: date) -> list[int]:
    """For each UTC step, the position of its wall-clock date and time in a WallTable."""
    info, base, per_day = ZoneInfo(zone), first.toordinal(), 1440 // step
    index = []
    for second in range(start, start + steps * step * 60, step * 60):
        wall = datetime.fromtimestamp(second, info)
        index.append((wall.toordinal() - base) * per_day + (wall.hour * 60 + wall.minute) // step)
    return index


def judge(case: Case, codes: bytes, orders: Orders, start: datetime, step: int, steps: int) -> bytes:
    """The state of every step: painted, then ordered, then warmed."""
    painted = codes.translate(_JUDGE_BIT)
    state = bytearray(painted)
    forced_asleep = bytearray(len(codes))
    for position, awake, _ in orders.forced:
        state[position] = AWAKE if awake else ASLEEP
        forced_asleep[position] = not awake
    ordered = {position: made for position, awake, made in orders.forced if awake}
    lead = case.lead_minutes // step
    rise = bytes(state).find(b"\x00\x01")
    while rise != -1:
        wake = rise + 1
        for position in range(rise, max(rise - lead, -1), -1):
            now = start + timedelta(minutes=position * step)
            known = bool(painted[wake]) or ordered[wake] <= now
            if state[position] != ASLEEP or forced_asleep[position] or not known:
                break
            state[position] = WARMING
        rise = state.find(b"\x00\x01", wake)
    return bytes(state[:steps])


_JUDGE_BIT = bytes(code & 1 for code in range(256))
_MATCHER_BIT = bytes(code >> 1 & 1 for code in range(256))
_RULE_BIT = bytes(code >> 2 & 1 for code in range(256))


# --- The comparison ---------------------------------------------------------------------------------------------------


class Campaign:
    """Compares zones over some years; wall tables are made once per year and case."""

    def __init__(self, grids: int, step: int = 15, probes: int = 6) -> None:
        self.grids, self.step, self.probes = grids, step, probes
        self._years: dict[int, list[tuple[Case, WallTable, Orders]]] = {}

    def window(self, year: int) -> tuple[datetime, int]:
        start = datetime(year, 1, 1, tzinfo=UTC)
        return start, int((datetime(year + 1, 1, 1, tzinfo=UTC) - start).total_seconds()) // (60 * self.step)

    def year(self, year: int) -> list[tuple[Case, WallTable, Orders]]:
        if year not in self._years:
            start, steps = self.window(year)
            ahead = steps + 1440 // self.step
            made = [random_case(year, number, self.step) for number in range(self.grids)]
            self._years[year] = [
                (case, WallTable(case, self.step), Orders(case, start, ahead, self.step)) for case in made
            ]
        return self._years[year]

    def run(self, zone: str, years: list[int], tally: Tally | None = None) -> Tally:
        """Every case of every year in one zone."""
        tally = tally or Tally()
        for year in years:
            start, steps = self.window(year)
            cases = self.year(year)
            index = wall_index(zone, int(start.timestamp()), steps + 1440 // self.step, self.step, cases[0][1].first)
            for case, table, orders in cases:
                codes = bytes(map(table.codes.__getitem__, index))
                expected = judge(case, codes, orders, start, self.step, steps)
                self.compare(case, case.schedule(zone), expected, start, tally)
                count_downscaler(zone, codes, orders, expected, tally.downscaler)
        return tally

    def compare(self, case: Case, schedule: Schedule, expected: bytes, start: datetime, tally: Tally) -> None:
        """One schedule against the judge's states of one year."""
        tally.cases += 1
        tally.steps += len(expected)
        first = int(start.timestamp())
        where = f"{schedule.zone} {case.year} grid {case.number}"
        painted = self.engine_states(schedule, first, len(expected), where, tally)
        if painted != expected:
            at = next(n for n, (a, b) in enumerate(zip(painted, expected, strict=False)) if a != b)
            differ = sum(a != b for a, b in zip(painted, expected, strict=False))
            tally.mismatches.append(
                f"{where}: {differ} steps, first {start + timedelta(minutes=at * self.step)}: {painted[at]} for {expected[at]}"
            )
        dice = random.Random(f"probe-{where}")
        for _ in range(self.probes):
            self.probe(schedule, expected, first, dice, where, tally)

    def engine_states(self, schedule: Schedule, first: int, steps: int, where: str, tally: Tally) -> bytes:
        """The engine's line as one byte a step; an edge between steps is a mismatch in itself."""
        size, parts = self.step * 60, []
        for start, end, power in schedule.timeline(first, first + steps * size):
            if (start - first) % size or (end - first) % size:
                tally.mismatches.append(f"{where}: an edge at {start} or {end} lies between steps")
            parts.append(bytes((NUMBER[power],)) * ((end - first) // size - (start - first) // size))
            tally.edges += 1
        return b"".join(parts)

    def probe(
        self, schedule: Schedule, expected: bytes, first: int, dice: random.Random, where: str, tally: Tally
    ) -> None:
        """`desired_at`, `next_transitions` and `awake_seconds_between` at one random instant."""
        tally.probes += 1
        size = self.step * 60
        second = dice.randrange(len(expected) * size)
        t = datetime.fromtimestamp(first + second, UTC)
        state = NUMBER[schedule.desired_at(t).power]
        if state != expected[second // size]:
            tally.mismatches.append(f"{where}: desired_at({t}) is {state}, not {expected[second // size]}")
        position, ahead = second // size + 1, []
        while position < len(expected) and len(ahead) < 2:
            if expected[position] != expected[position - 1]:
                ahead.append((first + position * size, expected[position]))
            position += 1
        found = [(int(change.at.timestamp()), NUMBER[change.power]) for change in schedule.next_transitions(t, 2)]
        if found[: len(ahead)] != ahead:
            tally.mismatches.append(f"{where}: next_transitions({t}) are {found}, not {ahead}")
        until = min(second // size + dice.randrange(1, 3000), len(expected))
        begin = datetime.fromtimestamp(first + second // size * size, UTC)
        end = datetime.fromtimestamp(first + until * size, UTC)
        on = sum(1 for step in expected[second // size : until] if step != ASLEEP) * size
        if schedule.awake_seconds_between(begin, end) != on:
            tally.mismatches.append(f"{where}: awake_seconds_between({begin}, {end}) is not {on}")


def count_downscaler(zone: str, codes: bytes, orders: Orders, expected: bytes, counter: Counter[str]) -> None:
    """Steps at which a downscaler's matcher, given this grid as uptime strings, would have something else than
    wanted, by the first reason that applies."""
    steps = len(expected)
    counter["steps"] += steps
    counter["cases"] += 1
    if rejects_zone(zone):
        counter["zone name rejected: steps"] += steps
        counter["zone name rejected: cases"] += 1
        return
    matched, ruled = codes.translate(_MATCHER_BIT), codes.translate(_RULE_BIT)
    ordered = {position for position, _, _ in orders.forced if position < steps}
    before = sum(counter[f"{name}: steps"] for name in CLASSES)
    seen = set()
    for position, (want, has) in enumerate(zip(expected, matched[:steps], strict=True)):
        if want != has:
            name = _reason(position, want, ordered, ruled)
            counter[f"{name}: steps"] += 1
            seen.add(name)
    for name in seen:
        counter[f"{name}: cases"] += 1
    if before == sum(counter[f"{name}: steps"] for name in CLASSES):
        counter["right throughout: cases"] += 1


def _reason(position: int, want: int, ordered: set[int], ruled: bytes) -> str:
    if position in ordered:
        return "manual wake, sleep or snooze"
    if want == WARMING:
        return "pre-warm"
    return "holiday, sprint day or own hours" if ruled[position] else "overnight span"


# --- Running it -------------------------------------------------------------------------------------------------------


def zones_named(text: str) -> list[str]:
    return sorted(available_timezones()) if text == "all" else text.split(",")


_campaign: Campaign | None = None


def _start_worker(grids: int) -> None:
    global _campaign
    _campaign = Campaign(grids)


def _work(job: tuple[str, list[int]]) -> tuple[str, Tally]:
    assert _campaign is not None
    return job[0], _campaign.run(*job)


def run_zones(
    zones: list[str], years: list[int], grids: int, state: Path | None, processes: int
) -> Iterator[tuple[str, Tally]]:
    """Each zone's tally, finished ones from the state file first. The file belongs to one set of years and grids."""
    key = {"years": years, "grids": grids}
    done: set[str] = set()
    if state and state.exists():
        for line in state.read_text().splitlines():
            row = json.loads(line)
            if row["key"] == key and row["zone"] in zones and row["zone"] not in done:
                done.add(row["zone"])
                tally = row["tally"]
                yield row["zone"], Tally(**{**tally, "downscaler": Counter(tally["downscaler"])})
    jobs = [(zone, years) for zone in zones if zone not in done]
    with multiprocessing.Pool(processes, _start_worker, (grids,)) as pool:
        for zone, tally in pool.imap_unordered(_work, jobs):
            if state:
                with state.open("a") as lines:
                    lines.write(json.dumps({"key": key, "zone": zone, "tally": {**vars(tally)}}) + "\n")
            yield zone, tally


def total(tallies: Iterator[tuple[str, Tally]]) -> tuple[int, Tally]:
    """Number of zones, and all tallies added up."""
    whole, zones = Tally(), 0
    for _, tally in tallies:
        zones += 1
        whole.cases += tally.cases
        whole.steps += tally.steps
        whole.probes += tally.probes
        whole.edges += tally.edges
        whole.mismatches += tally.mismatches
        whole.downscaler.update(tally.downscaler)
    return zones, whole


def run_landmarks(grids: int, landmarks: tuple[tuple[str, int], ...] = LANDMARKS) -> tuple[int, Tally]:
    """Strange zone-years in steps of one minute."""
    campaign, tally = Campaign(grids, step=1, probes=10), Tally()
    for zone, year in sorted(landmarks, key=lambda pair: pair[1]):
        campaign.run(zone, [year], tally)
        campaign._years = {kept: cases for kept, cases in campaign._years.items() if kept == year}
    return len({zone for zone, _ in landmarks}), tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zones", default="all")
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--first-year", type=int, default=2016)
    parser.add_argument("--grids", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--state", type=Path, help="file of finished zones, for resuming")
    parser.add_argument("--landmarks", action="store_true", help="historical oddities in 1-minute steps instead")
    options = parser.parse_args()
    started = time.perf_counter()
    if options.landmarks:
        zones, tally = run_landmarks(options.grids)
        years, step = sorted({year for _, year in LANDMARKS}), 1
    else:
        years, step = list(range(options.first_year, options.first_year + options.years)), 15
        zones, tally = total(
            run_zones(zones_named(options.zones), years, options.grids, options.state, options.processes)
        )
    summary = {
        "campaign": "time_oracle",
        "zones": zones,
        "zone_years": len(LANDMARKS) if options.landmarks else zones * len(years),
        "years": years,
        "grids": options.grids,
        "step_minutes": step,
        "cases": tally.cases,
        "steps": tally.steps,
        "stretches": tally.edges,
        "probes": tally.probes,
        "mismatches": len(tally.mismatches),
        "examples": tally.mismatches[:10],
        "downscaler": dict(sorted(tally.downscaler.items())),
        "seconds": round(time.perf_counter() - started, 1),
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    return 1 if tally.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
