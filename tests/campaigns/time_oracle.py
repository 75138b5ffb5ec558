"""Time oracle: the schedule engine against a brute-force judge that shares none of its method.

    python -m tests.campaigns.time_oracle --zones all --years 10 --grids 20
    python -m tests.campaigns.time_oracle --landmarks --grids 10
    python -m tests.campaigns.time_oracle --zones Europe/Berlin,Asia/Gaza --years 2 --grids 5

The judge walks UTC in steps of 15 minutes (1 minute for years in which a zone changed its clocks between quarter
hours, and for `--landmarks`, historical years in which zones did strange things), asks `zoneinfo` what the wall clock shows, and evaluates the painted cell, date rules, orders and pre-warm of
that step naively. The engine must give the same state in every step, and have its edges on steps. Besides, at random
instants `desired_at` must agree with the judge, `next_transitions` with its edges and `awake_seconds_between` with
its count.

Finished zones are kept in `--state` (JSON lines), so an interrupted campaign goes on where it stopped. The last line
printed is a JSON summary; the exit code is 1 when anything differs. The same cases also go through the matcher rules
of a Kubernetes downscaler (`tests.campaigns.downscaler_rules`), whose differences are counted by class.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import available_timezones

from hibernation.schedule import Power, Schedule
from tests.campaigns.downscaler_rules import rejects_zone
from tests.campaigns.time_cases import LANDMARKS, Case, random_case
from tests.campaigns.time_judge import (
    ASLEEP,
    AWAKE,
    MATCHER_BIT,
    RULE_BIT,
    WARMING,
    Orders,
    WallTable,
    changes_on_steps,
    judge,
    wall_index,
)

NUMBER = {Power.ASLEEP: ASLEEP, Power.AWAKE: AWAKE, Power.WARMING: WARMING}


@dataclass
class Tally:
    """What one zone's run found."""

    cases: int = 0
    steps: int = 0
    probes: int = 0
    edges: int = 0
    mismatches: list[str] = field(default_factory=list)
    downscaler: Counter[str] = field(default_factory=Counter)


# --- The comparison ---------------------------------------------------------------------------------------------------


class Campaign:
    """Compares zones over some years; wall tables are made once per year and case."""

    def __init__(self, grids: int, step: int = 15, probes: int = 3, case_step: int | None = None) -> None:
        self.grids, self.step, self.probes, self.case_step = grids, step, probes, case_step or step
        self._years: dict[int, list[tuple[Case, WallTable, Orders]]] = {}

    def window(self, year: int) -> tuple[datetime, int]:
        start = datetime(year, 1, 1, tzinfo=UTC)
        return start, int((datetime(year + 1, 1, 1, tzinfo=UTC) - start).total_seconds()) // (60 * self.step)

    def year(self, year: int) -> list[tuple[Case, WallTable, Orders]]:
        if year not in self._years:
            start, steps = self.window(year)
            ahead = steps + 1440 // self.step
            made = [random_case(year, number, self.case_step) for number in range(self.grids)]
            self._years[year] = [
                (case, WallTable(case, self.step), Orders(case, start, ahead, self.step)) for case in made
            ]
        return self._years[year]

    def run(self, zone: str, years: list[int], tally: Tally | None = None) -> Tally:
        """Every case of every year in one zone."""
        tally = tally or Tally()
        for year in years:
            start, steps = self.window(year)
            if not changes_on_steps(zone, int(start.timestamp()), steps, self.step):
                # Clocks changed at such as 00:01: the same cases, judged minute by minute.
                Campaign(self.grids, 1, self.probes, self.case_step).run(zone, [year], tally)
                continue
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
        position = second // size + 1
        ahead: list[tuple[int, int]] = []
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
        asleep = expected.count(ASLEEP, second // size, until)
        on = (until - second // size - asleep) * size
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
    # One byte a step: bits 0-1 what is wanted, bit 2 what the matcher has, bit 3 a date's rule, bit 4 an order.
    ordered = bytearray(steps)
    for position, _, _ in orders.forced:
        if position < steps:
            ordered[position] = 1
    layers = (expected, codes[:steps].translate(MATCHER_BIT), codes[:steps].translate(RULE_BIT), bytes(ordered))
    packed = sum(int.from_bytes(layer, "big") << shift for layer, shift in zip(layers, (0, 2, 3, 4), strict=True))
    everything = packed.to_bytes(steps, "big")
    found: Counter[str] = Counter()
    for want, has, ruled, forced in itertools.product((ASLEEP, AWAKE, WARMING), (0, 1), (0, 1), (0, 1)):
        if want != has:
            found[_reason(want, ruled, forced)] += everything.count(want | has << 2 | ruled << 3 | forced << 4)
    for name, number in found.items():
        if number:
            counter[f"{name}: steps"] += number
            counter[f"{name}: cases"] += 1
    if not found.total():
        counter["right throughout: cases"] += 1


def _reason(want: int, ruled: int, forced: int) -> str:
    if forced:
        return "manual wake, sleep or snooze"
    if want == WARMING:
        return "pre-warm"
    return "holiday, sprint day or own hours" if ruled else "overnight span"


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
