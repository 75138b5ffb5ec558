"""What people read: explanations, previews, backtests, expiries."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from hibernation.schedule import (
    ALWAYS_ASLEEP,
    ALWAYS_AWAKE,
    PRESETS,
    Action,
    Calendar,
    DayKind,
    DayRule,
    InvalidSchedule,
    Override,
    Power,
    Prewarm,
    Schedule,
    backtest,
    expiry_for,
    explain,
    local_words,
    preview,
    until_clock,
    until_monday,
    until_next_sleep,
    until_next_wake,
    until_tomorrow,
)

pytestmark = pytest.mark.unit
BERLIN = ZoneInfo("Europe/Berlin")
GRID = ALWAYS_ASLEEP.paint(range(5), 9 * 60, 20 * 60, awake=True)
SCHEDULE = Schedule(GRID, "Europe/Berlin")
COLD = Prewarm(enabled=False)
SATURDAY = datetime(2025, 11, 15, 2, tzinfo=BERLIN)


def berlin(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2025, month, day, hour, minute, tzinfo=BERLIN)


# --- Explanations -----------------------------------------------------------------------------------------------------

HOLIDAYS = Calendar.of(
    {
        date(2025, 11, 17): DayRule(DayKind.HOLIDAY, "Founders' day"),
        date(2025, 11, 18): DayRule(DayKind.SPRINT),
        date(2025, 11, 19): DayRule(DayKind.CUSTOM, "Release", ((600, 720),)),
    }
)
LATE = ALWAYS_ASLEEP.paint([3, 4], 20 * 60, 26 * 60, awake=True)
WAKE = Override(Action.WAKE, SATURDAY, SATURDAY + timedelta(hours=4), "Ann", "hotfix")
SLEEP = Override(Action.SLEEP, berlin(11, 13, 12), berlin(11, 17), "Bob")
GUARD = Override(Action.SLEEP, berlin(11, 13, 12), berlin(11, 13, 13), by_person=False)
FRIDAY_OFF = Calendar.of({date(2025, 11, 14): DayRule(DayKind.HOLIDAY)})


@pytest.mark.parametrize(
    ("schedule", "t", "words"),
    [
        (SCHEDULE, SATURDAY, "Asleep because Sat is painted grey; wakes Mon 08:30 for 09:00."),
        (replace(SCHEDULE, prewarm=COLD), SATURDAY, "Asleep because Sat is painted grey; wakes Mon 09:00."),
        (SCHEDULE, berlin(11, 13, 12), "Awake because Thu 12:00 is painted green; sleeps 20:00."),
        (SCHEDULE, berlin(11, 13, 8, 40), "Warming up for 09:00, because then Thu 09:00 is painted green."),
        (SCHEDULE, berlin(11, 13, 22), "Asleep because Thu 22:00 is painted grey; wakes Fri 08:30 for 09:00."),
        (
            replace(SCHEDULE, calendar=HOLIDAYS),
            berlin(11, 17, 12),
            "Asleep because Mon 17 Nov 2025 is a holiday (Founders' day); wakes 23:30 for Tue 00:00.",
        ),
        (
            replace(SCHEDULE, calendar=HOLIDAYS),
            berlin(11, 18, 3),
            "Awake because Tue 18 Nov 2025 is a sprint day; sleeps Wed 00:00.",
        ),
        (
            replace(SCHEDULE, calendar=HOLIDAYS),
            berlin(11, 19, 10),
            "Awake because Wed 19 Nov 2025 has its own hours 10:00–12:00 (Release); sleeps 12:00.",
        ),
        (
            replace(SCHEDULE, overrides=(WAKE,)),
            SATURDAY,
            "Awake because Ann woke it until 06:00 (hotfix); sleeps 06:00.",
        ),
        (
            replace(SCHEDULE, overrides=(SLEEP,)),
            berlin(11, 13, 12),
            "Asleep because Bob put it to sleep until Mon 00:00; wakes Mon 08:30 for 09:00.",
        ),
        (
            replace(SCHEDULE, overrides=(GUARD,)),
            berlin(11, 13, 12),
            "Asleep because a rule put it to sleep until 13:00; wakes 13:00.",
        ),
        (
            Schedule(LATE, "Europe/Berlin"),
            berlin(11, 14, 1),
            "Awake because Thu's night is painted green; sleeps 02:00.",
        ),
        (
            Schedule(LATE, "Europe/Berlin", FRIDAY_OFF),
            berlin(11, 15, 1),
            "Asleep because Fri 14 Nov 2025 is a holiday; wakes Thu 19:30 for 20:00.",
        ),
        (
            Schedule(ALWAYS_AWAKE),
            SATURDAY,
            "Awake because Sat is painted green; nothing on the schedule puts it to sleep.",
        ),
        (Schedule(ALWAYS_ASLEEP), SATURDAY, "Asleep because Sat is painted grey; nothing on the schedule wakes it."),
        (replace(SCHEDULE, enabled=False), SATURDAY, "Not managed because the schedule is off."),
        (
            Schedule(ALWAYS_ASLEEP, calendar=Calendar.of({date(2026, 1, 6): DayRule(DayKind.SPRINT)})),
            SATURDAY,
            "Asleep because Sat is painted grey; wakes Mon 5 Jan 2026 23:30 for Tue 00:00.",
        ),
    ],
)
def test_explain(schedule, t, words):
    assert explain(schedule, t) == words


def test_explain_steps_over_gaps_that_the_warm_up_fills():
    grid = ALWAYS_AWAKE.paint(range(7), 720, 750, awake=False).paint([6], 1200, 1440, awake=False)
    assert explain(Schedule(grid, "UTC"), datetime(2025, 11, 10, 1, tzinfo=UTC)).endswith("sleeps Sun 20:00.")
    never = ALWAYS_AWAKE.paint(range(7), 720, 750, awake=False)
    assert explain(Schedule(never, "UTC"), SATURDAY).endswith("nothing on the schedule puts it to sleep.")


# --- Preview ----------------------------------------------------------------------------------------------------------


def test_preview_has_both_clocks_and_the_hours_asleep():
    rows = preview(replace(SCHEDULE, calendar=HOLIDAYS), berlin(11, 14, 12), 5, "Asia/Kolkata")
    assert [(row.day.isoformat(), row.begins, row.asleep_hours, row.holiday) for row in rows] == [
        ("2025-11-14", Power.AWAKE, 4, ""),
        ("2025-11-15", Power.ASLEEP, 24, ""),
        ("2025-11-16", Power.ASLEEP, 24, ""),
        ("2025-11-17", Power.ASLEEP, 23.5, "Founders' day"),
        ("2025-11-18", Power.AWAKE, 0, ""),
    ]
    edge = rows[0].edges[0]
    assert (edge.power, edge.at.isoformat(), edge.viewer_at.isoformat()) == (
        Power.ASLEEP,
        "2025-11-14T20:00:00+01:00",
        "2025-11-15T00:30:00+05:30",
    )
    assert rows[0].start == berlin(11, 14, 12)
    assert rows[-1].end == berlin(11, 19)


def test_preview_days_are_as_long_as_they_are():
    march = preview(SCHEDULE, berlin(3, 24), 14)
    assert [row.day_seconds // 3600 for row in march] == [24] * 6 + [23] + [24] * 7
    october = preview(SCHEDULE, berlin(10, 20), 14)
    assert [row.day_seconds // 3600 for row in october] == [24] * 6 + [25] + [24] * 7
    assert october[6].asleep_hours == 25


def test_preview_leaves_out_a_date_that_never_was():
    zone = ZoneInfo("Pacific/Apia")
    rows = preview(Schedule(GRID, "Pacific/Apia"), datetime(2011, 12, 28, 6, tzinfo=zone), 5)
    assert [row.day.day for row in rows] == [28, 29, 31, 1]
    assert sum(row.day_seconds for row in rows) == (rows[-1].end.astimezone(UTC) - rows[0].start).total_seconds()


def test_preview_sums_to_what_the_engine_counts():
    rows = preview(SCHEDULE, berlin(10, 20, 13, 17), 30)
    begin, end = berlin(10, 20, 13, 17), berlin(11, 19)
    assert sum(row.awake_seconds + row.warming_seconds for row in rows) == SCHEDULE.awake_seconds_between(begin, end)


def test_preview_refuses_nonsense():
    with pytest.raises(ValueError, match="1 to 400 days"):
        preview(SCHEDULE, SATURDAY, 0)
    with pytest.raises(InvalidSchedule):
        preview(SCHEDULE, SATURDAY, 3, "Mars/Olympus")


# --- Backtest ---------------------------------------------------------------------------------------------------------


def test_backtest_of_a_machine_that_never_slept():
    cold = replace(SCHEDULE, prewarm=COLD)
    week = (berlin(11, 10), berlin(11, 17))
    result = backtest(
        cold, *week, busy=[(berlin(11, 10, 19), berlin(11, 10, 21)), (berlin(11, 15, 10), berlin(11, 15, 10, 30))]
    )
    assert result.window_seconds == result.was_awake_seconds == 7 * 86_400
    assert result.would_sleep_hours == 168 - 55
    assert (result.busy_seconds, result.busy_asleep_seconds) == (9000, 5400)
    assert result.collisions == ((berlin(11, 10, 20), berlin(11, 10, 21)), (berlin(11, 15, 10), berlin(11, 15, 10, 30)))


def test_backtest_counts_only_hours_that_really_ran():
    night = (berlin(11, 10, 18), berlin(11, 11, 10))
    result = backtest(
        replace(SCHEDULE, prewarm=COLD),
        berlin(11, 10),
        berlin(11, 17),
        awake=[night, night, (berlin(11, 1), berlin(11, 2))],
    )
    assert (result.was_awake_seconds, result.would_sleep_seconds) == (16 * 3600, 13 * 3600)
    nothing = backtest(SCHEDULE, berlin(11, 17), berlin(11, 10), awake=[night])
    assert (nothing.window_seconds, nothing.would_sleep_seconds, nothing.collisions) == (0, 0, ())


# --- Expiries ---------------------------------------------------------------------------------------------------------


def test_until_monday_is_the_next_monday_in_the_zone():
    monday = berlin(11, 17)
    assert until_monday("Europe/Berlin", SATURDAY) == monday
    assert until_monday("Europe/Berlin", monday) == berlin(11, 24)
    assert until_monday("Europe/Berlin", monday - timedelta(seconds=1)) == monday
    # Sunday evening in Berlin is Monday already in Auckland.
    assert until_monday("Pacific/Auckland", berlin(11, 16, 20)) == datetime(
        2025, 11, 24, tzinfo=ZoneInfo("Pacific/Auckland")
    )


def test_until_tomorrow_and_clock_across_gap_and_fold():
    assert until_tomorrow("Europe/Berlin", SATURDAY) == berlin(11, 16)
    assert until_clock("Europe/Berlin", SATURDAY, 18 * 60 + 30) == berlin(11, 15, 18, 30)
    assert until_clock("Europe/Berlin", berlin(11, 15, 18, 30), 18 * 60 + 30) == berlin(11, 16, 18, 30)
    assert until_clock("Europe/Berlin", berlin(3, 29, 12), 150) == datetime(
        2025, 3, 30, 1, tzinfo=UTC
    )  # 02:30 is skipped
    assert until_clock("Europe/Berlin", berlin(10, 25, 12), 150) == datetime(
        2025, 10, 26, 0, 30, tzinfo=UTC
    )  # the first 02:30
    second_round = datetime(2025, 10, 26, 1, 10, tzinfo=UTC)  # 02:10, for the second time
    assert until_clock("Europe/Berlin", second_round, 150) == berlin(10, 27, 2, 30)


def test_until_the_schedules_own_changes():
    assert until_next_wake(SCHEDULE, SATURDAY) == berlin(11, 17, 8, 30)
    assert until_next_sleep(SCHEDULE, SATURDAY) == berlin(11, 17, 20)
    assert until_next_wake(Schedule(ALWAYS_ASLEEP), SATURDAY) is None
    assert until_next_sleep(Schedule(ALWAYS_AWAKE), SATURDAY) is None


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("1h", SATURDAY + timedelta(hours=1)),
        (" 4 h ", SATURDAY + timedelta(hours=4)),
        ("90m", SATURDAY + timedelta(minutes=90)),
        ("45min", SATURDAY + timedelta(minutes=45)),
        ("until_monday", berlin(11, 17)),
        ("until_tomorrow", berlin(11, 16)),
        ("until_next_wake", berlin(11, 17, 8, 30)),
        ("until_next_sleep", berlin(11, 17, 20)),
        ("18:30", berlin(11, 15, 18, 30)),
        ("01:30", berlin(11, 16, 1, 30)),
        ("24:00", berlin(11, 16)),
        ("2025-11-16T10:00+01:00", berlin(11, 16, 10)),
        ("2025-11-16T09:00:00Z", berlin(11, 16, 10)),
    ],
)
def test_expiry_for_what_a_person_chose(text, expires):
    chosen = expiry_for(SCHEDULE, SATURDAY, text)
    assert (chosen, chosen.tzinfo) == (expires, UTC)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no duration such as 4h"),
        ("soon", "no duration such as 4h"),
        ("24:30", "no duration"),
        ("2025-11-16T10:00", "no duration"),
        ("0h", "passed already"),
        ("2025-11-14T10:00Z", "passed already"),
        ("2027-11-14T10:00Z", "at most 366 days"),
    ],
)
def test_expiry_for_nonsense_says_so(text, words):
    with pytest.raises(InvalidSchedule, match=words) as raised:
        expiry_for(SCHEDULE, SATURDAY, text)
    assert list(raised.value.errors) == ["until"]


def test_hours_are_elapsed_hours_across_a_change_of_clocks():
    evening = berlin(10, 25, 23)
    assert expiry_for(SCHEDULE, evening, "4h") == datetime(2025, 10, 26, 1, tzinfo=UTC)  # 02:00, for the second time
    first, second = datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN), datetime(2025, 10, 26, 2, 15, tzinfo=BERLIN, fold=1)
    held = Schedule(ALWAYS_ASLEEP, "Europe/Berlin", overrides=(Override(Action.WAKE, first, second),))
    assert held.awake_seconds_between(evening, berlin(10, 27)) == 45 * 60
    assert backtest(held, first, second).window_seconds == 45 * 60


def test_expiry_without_a_change_ahead_says_so():
    with pytest.raises(InvalidSchedule, match="no such change ahead"):
        expiry_for(Schedule(PRESETS["always_awake"].grid), SATURDAY, "until_next_sleep")


def test_local_words():
    assert local_words(SCHEDULE, datetime(2025, 7, 1, 16, tzinfo=UTC)) == "2025-07-01 18:00 Europe/Berlin"
