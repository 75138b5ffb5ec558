"""The time oracle in its short form: a dozen awkward zones for a year, some historical oddities minute by minute, and
proof that the judge finds an engine that is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from hibernation.schedule import Grid, Prewarm, Schedule
from tests.campaigns import time_cases, time_judge, time_oracle
from tests.campaigns.downscaler_rules import matches, rejects_zone, spans_as_written

pytestmark = pytest.mark.unit
ZONES = (
    "Europe/Berlin",
    "America/Havana",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Asia/Beirut",
    "UTC",
)


def test_engine_and_judge_agree_in_every_step():
    campaign, tally = time_oracle.Campaign(grids=3), time_oracle.Tally()
    for zone in ZONES:
        campaign.run(zone, [2023], tally)
    assert tally.mismatches == []
    assert (tally.cases, tally.steps, tally.probes) == (24, 24 * 35_040, 72)
    assert tally.edges > 24 * 300


@pytest.mark.parametrize(
    ("zone", "year"), [("Pacific/Apia", 2011), ("America/St_Johns", 2007), ("America/Sao_Paulo", 2018)]
)
def test_historical_oddities_minute_by_minute(zone, year):
    zones, tally = time_oracle.run_landmarks(1, ((zone, year),))
    assert (zones, tally.mismatches) == (1, [])
    assert tally.steps == 365 * 1440


def test_a_year_with_a_change_between_quarter_hours_is_judged_by_the_minute():
    """Casey went from 00:01 on 4 October 2020 to 03:01."""
    assert time_judge.changes_on_steps("Europe/Berlin", 1_577_836_800, 35_136, 15)
    assert not time_judge.changes_on_steps("Antarctica/Casey", 1_577_836_800, 35_136, 15)
    tally = time_oracle.Campaign(grids=1).run("Antarctica/Casey", [2020])
    assert (tally.steps, tally.mismatches) == (366 * 1440, [])


def wrong(case: time_cases.Case, how: str) -> Schedule:
    right = case.schedule("Europe/Berlin")
    row = right.grid.rows[2]
    flipped = row[:20] + ("1" if row[20] == "0" else "0") + row[21:]
    return {
        "one cell": replace(right, grid=Grid((*right.grid.rows[:2], flipped, *right.grid.rows[3:]))),
        "zone": replace(right, zone="Africa/Algiers"),  # the same, but without summer time
        "nights": replace(right, night_belongs_to_start_day=not right.night_belongs_to_start_day),
        "pre-warm": replace(right, prewarm=Prewarm(learned_seconds=right.prewarm.seconds + 900)),
        "one date": replace(right, calendar=right.calendar.without_day(right.calendar.days[20][0])),
        "orders": replace(right, overrides=right.overrides[1:]),
    }[how]


@pytest.mark.parametrize("how", ["one cell", "zone", "nights", "pre-warm", "one date", "orders"])
def test_the_judge_finds_a_wrong_engine(how):
    """Among twenty cases at least one shows each error (not each case can: some have no nights or no orders)."""
    campaign, found = time_oracle.Campaign(grids=20, probes=0), 0
    start, steps = campaign.window(2024)
    cases = [entry for entry in campaign.year(2024) if len(entry[0].rules) > 20]
    index = time_judge.wall_index("Europe/Berlin", int(start.timestamp()), steps + 96, 15, cases[0][1].first)
    for case, table, orders in cases:
        expected = time_judge.judge(case, bytes(map(table.codes.__getitem__, index)), orders, start, 15, steps)
        tally = time_oracle.Tally()
        campaign.compare(case, wrong(case, how), expected, start, tally)
        found += bool(tally.mismatches)
    assert found


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path):
    state = tmp_path / "state.jsonl"
    first = time_oracle.total(time_oracle.run_zones(["UTC"], [2023], 1, state, processes=1))
    kept = state.read_text()
    assert [json.loads(line)["zone"] for line in kept.splitlines()] == ["UTC"]
    zones, whole = time_oracle.total(time_oracle.run_zones(["UTC", "Asia/Tokyo"], [2023], 1, state, processes=1))
    assert state.read_text().startswith(kept)
    assert [json.loads(line)["zone"] for line in state.read_text().splitlines()] == ["UTC", "Asia/Tokyo"]
    assert (first[0], zones, whole.cases, whole.mismatches) == (1, 2, 2, [])


# --- The downscaler's rules -------------------------------------------------------------------------------------------


def test_a_grid_is_written_as_a_person_would():
    rows = (
        "0" * 8 + "1" * 12 + "0" * 4,
        "0" * 20 + "1" * 4,
        "11" + "0" * 22,
        "1" * 24,
        "0" * 24,
        "1" + "0" * 22 + "1",
        "1" * 6 + "0" * 18,
    )
    assert spans_as_written(rows) == [(0, 480, 1200), (1, 1200, 120), (3, 0, 1440), (5, 0, 60), (5, 1380, 360)]


def test_its_overnight_spans_match_nothing_and_odd_zones_are_rejected():
    written = [(1, 1200, 120), (0, 480, 1200)]
    assert matches(written, 0, 480)
    assert not matches(written, 0, 1200)
    assert not any(matches(written, day, minute) for day in (1, 2) for minute in range(1440))
    assert [zone for zone in ("Europe/Berlin", "Etc/GMT+1", "America/Port-au-Prince", "UTC") if rejects_zone(zone)] == [
        "Etc/GMT+1",
        "America/Port-au-Prince",
    ]


def test_its_failures_are_counted_by_reason():
    rows = tuple("0" * 20 + "1" * 4 if day == 0 else "11" + "0" * 22 if day == 1 else "0" * 24 for day in range(7))
    case = time_cases.Case(2023, 0, rows, {}, (), (), 0, nights=True)
    table = time_judge.WallTable(case, 15)
    campaign = time_oracle.Campaign(1)
    start, steps = campaign.window(2023)
    orders = time_judge.Orders(case, start, steps + 96, 15)
    index = time_judge.wall_index("UTC", int(start.timestamp()), steps + 96, 15, table.first)
    codes = bytes(map(table.codes.__getitem__, index))
    counter = time_oracle.Tally().downscaler
    time_oracle.count_downscaler("UTC", codes, orders, time_judge.judge(case, codes, orders, start, 15, steps), counter)
    mondays = sum(
        date.fromordinal(day).weekday() == 0
        for day in range(date(2023, 1, 1).toordinal(), date(2024, 1, 1).toordinal())
    )
    assert mondays == 52
    assert counter == {"steps": 35_040, "cases": 1, "overnight span: steps": 52 * 6 * 4, "overnight span: cases": 1}
