"""The weekly grid: validation, painting, presets, JSON."""

from __future__ import annotations

import pytest

from hibernation.schedule import ALWAYS_ASLEEP, ALWAYS_AWAKE, PRESETS, Grid, InvalidSchedule
from hibernation.schedule.grid import compile_week

pytestmark = pytest.mark.unit
H = 3600


def test_paint_goes_over_midnight_and_from_sunday_into_monday():
    grid = ALWAYS_ASLEEP.paint([3, 6], 20 * 60, 26 * 60, awake=True)
    assert grid.rows == (
        "11" + "0" * 22,
        "0" * 24,
        "0" * 24,
        "0" * 20 + "1111",
        "11" + "0" * 22,
        "0" * 24,
        "0" * 20 + "1111",
    )
    assert grid.paint(range(7), 0, 1440, awake=False) == ALWAYS_ASLEEP


def test_a_half_hour_turns_the_grid_into_half_hours_and_back():
    grid = ALWAYS_ASLEEP.paint([0], 8 * 60 + 30, 9 * 60, awake=True)
    assert grid.cell_minutes == 30
    assert grid.rows[0] == "0" * 17 + "1" + "0" * 30
    assert grid.with_hours() is grid
    assert grid.paint([0], 8 * 60, 9 * 60, awake=True).with_hours() == ALWAYS_ASLEEP.paint([0], 480, 540, awake=True)
    assert (grid.awake_at(0, 509), grid.awake_at(0, 510), grid.awake_at(0, 540)) == (False, True, False)


def test_copy_day_and_hours():
    grid = ALWAYS_ASLEEP.paint([0], 9 * 60, 17 * 60, awake=True).copy_day(0, [2, 4])
    assert grid.awake_hours() == 24
    assert [row.count("1") for row in grid.rows] == [8, 0, 8, 0, 8, 0, 0]
    assert grid.describe()[:2] == [("Mon", "09:00–17:00"), ("Tue", "asleep")]
    assert ALWAYS_AWAKE.describe()[6] == ("Sun", "00:00–24:00")


def test_presets_hold_what_their_labels_say():
    assert {key: preset.grid.awake_hours() for key, preset in PRESETS.items()} == {
        "office_hours": 45,
        "nights_and_weekends": 60,
        "nights": 84,
        "weekends": 120,
        "always_awake": 168,
        "always_asleep": 0,
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["0" * 24] * 6, "needs 7 rows, Monday to Sunday; it has 6"),
        (["0" * 24] * 6 + ["0" * 23], "Sun needs 24 cells"),
        (["0" * 24] * 6 + ["0" * 48], "Sun has 48 cells but Mon has 24"),
        (["0" * 24] * 2 + ["0" * 23 + "x"] + ["0" * 24] * 4, "Wed contains 'x'"),
        (["0" * 24] * 2 + ["0" * 12 + "2" + "0" * 11] + ["0" * 24] * 4, "Wed contains '2'"),
        ("0" * 168, "a list of 7 strings"),
        ([[0] * 24] * 7, "a list of 7 strings"),
        (None, "a list of 7 strings"),
    ],
)
def test_a_grid_that_means_nothing_says_what_is_wrong(value, message):
    with pytest.raises(InvalidSchedule, match=message) as raised:
        Grid.from_json(value)
    assert list(raised.value.errors) == ["grid"]


@pytest.mark.parametrize(("start", "end"), [(-60, 60), (0, 0), (15, 60), (60, 100), (1440, 1500), (0, 8 * 1440)])
def test_paint_refuses_what_is_no_cell(start, end):
    with pytest.raises(InvalidSchedule):
        ALWAYS_ASLEEP.paint([0], start, end, awake=True)


def test_json_round_trip():
    for preset in PRESETS.values():
        assert Grid.from_json(preset.grid.to_json()) == preset.grid


def test_a_tail_is_a_morning_after_an_awake_evening_that_ends_by_noon():
    late = ALWAYS_ASLEEP.paint([3], 20 * 60, 26 * 60, awake=True)
    week = compile_week(late, night_belongs_to_start_day=True)
    assert (week.own[3], week.tail[4], week.own[4]) == (((20 * H, 24 * H),), ((0, 2 * H),), ())
    until_noon = compile_week(ALWAYS_ASLEEP.paint([3], 20 * 60, 36 * 60, awake=True), night_belongs_to_start_day=True)
    assert until_noon.tail[4] == ((0, 12 * H),)
    beyond = compile_week(ALWAYS_ASLEEP.paint([3], 20 * 60, 36 * 60 + 30, awake=True), night_belongs_to_start_day=True)
    assert (beyond.tail[4], beyond.own[4]) == ((), ((0, 12 * H + 1800),))
    morning_only = compile_week(ALWAYS_ASLEEP.paint([4], 0, 120, awake=True), night_belongs_to_start_day=True)
    assert morning_only.tail[4] == ()
    assert compile_week(late, night_belongs_to_start_day=False).tail == ((),) * 7
    assert compile_week(ALWAYS_AWAKE, night_belongs_to_start_day=True).tail == ((),) * 7
