"""The rules of the engine, each by an example written by hand."""

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
    CauseKind,
    DayKind,
    DayRule,
    InvalidSchedule,
    Override,
    Power,
    Prewarm,
    Schedule,
    Snooze,
)

pytestmark = pytest.mark.unit
COLD = Prewarm(enabled=False)
BERLIN = ZoneInfo("Europe/Berlin")
WEEKDAYS = PRESETS["nights_and_weekends"].grid
# Awake Thu 20:00 to Fri 02:00 and Fri 20:00 to Sat 02:00. 13 November 2025 is a Thursday.
NIGHTS = ALWAYS_ASLEEP.paint([3, 4], 20 * 60, 26 * 60, awake=True)
FRIDAY = date(2025, 11, 14)


def berlin(day: int, hour: int = 0, minute: int = 0, month: int = 11, year: int = 2025) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=BERLIN)


def awake_runs(schedule: Schedule, a: datetime, b: datetime) -> list[str]:
    """Awake stretches on the schedule's clock: "Thu 20:00 - Fri 02:00"."""
    zone = ZoneInfo(schedule.zone)
    return [
        f"{segment.start.astimezone(zone):%a %H:%M} - {segment.end.astimezone(zone):%a %H:%M}"
        for segment in schedule.segments_between(a, b)
        if segment.power is Power.AWAKE
    ]


def nights(rule: DayRule | None, *, belongs: bool) -> list[str]:
    calendar = Calendar.of({FRIDAY: rule}) if rule else Calendar()
    schedule = Schedule(NIGHTS, "Europe/Berlin", calendar, prewarm=COLD, night_belongs_to_start_day=belongs)
    return awake_runs(schedule, berlin(13), berlin(16))


# --- Whose night ------------------------------------------------------------------------------------------------------

THURSDAY_NIGHT, FRIDAY_NIGHT = "Thu 20:00 - Fri 02:00", "Fri 20:00 - Sat 02:00"


@pytest.mark.parametrize(
    ("rule", "belongs", "without"),
    [
        (None, [THURSDAY_NIGHT, FRIDAY_NIGHT], [THURSDAY_NIGHT, FRIDAY_NIGHT]),
        (DayRule(DayKind.NORMAL), [THURSDAY_NIGHT, FRIDAY_NIGHT], [THURSDAY_NIGHT, FRIDAY_NIGHT]),
        (DayRule(DayKind.HOLIDAY), [THURSDAY_NIGHT], ["Thu 20:00 - Fri 00:00", "Sat 00:00 - Sat 02:00"]),
        (DayRule(DayKind.SPRINT), ["Thu 20:00 - Sat 02:00"], ["Thu 20:00 - Sat 02:00"]),
        (
            DayRule(DayKind.CUSTOM, hours=((600, 840),)),
            [THURSDAY_NIGHT, "Fri 10:00 - Fri 14:00"],
            ["Thu 20:00 - Fri 00:00", "Fri 10:00 - Fri 14:00", "Sat 00:00 - Sat 02:00"],
        ),
        (
            DayRule(DayKind.CUSTOM, hours=((22 * 60, 30 * 60),)),
            [THURSDAY_NIGHT, "Fri 22:00 - Sat 06:00"],
            ["Thu 20:00 - Fri 00:00", "Fri 22:00 - Sat 06:00"],
        ),
    ],
    ids=["none", "normal", "holiday", "sprint", "custom", "custom overnight"],
)
def test_whose_night_it_is(rule, belongs, without):
    assert nights(rule, belongs=True) == belongs
    assert nights(rule, belongs=False) == without


def test_a_tail_of_own_hours_meets_the_next_dates_rule():
    calendar = Calendar.of(
        {FRIDAY: DayRule(DayKind.CUSTOM, hours=((1200, 1560),)), date(2025, 11, 15): DayRule(DayKind.HOLIDAY)}
    )
    schedule = Schedule(ALWAYS_ASLEEP, "Europe/Berlin", calendar, prewarm=COLD)
    assert awake_runs(schedule, berlin(13), berlin(17)) == [FRIDAY_NIGHT]
    assert awake_runs(replace(schedule, night_belongs_to_start_day=False), berlin(13), berlin(17)) == [
        "Fri 20:00 - Sat 00:00"
    ]


def test_a_holiday_in_a_week_that_never_sleeps_is_its_24_hours():
    schedule = Schedule(ALWAYS_AWAKE, "Europe/Berlin", Calendar.of({FRIDAY: DayRule(DayKind.HOLIDAY)}), prewarm=COLD)
    assert awake_runs(schedule, berlin(13), berlin(16)) == ["Thu 00:00 - Fri 00:00", "Sat 00:00 - Sun 00:00"]


# --- Wall clocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 30, 23), (10, 26, 25), (6, 1, 24)])
def test_days_of_23_and_25_hours(month, day, hours):
    start, end = berlin(day, month=month), berlin(day + 1, month=month)
    awake = Schedule(ALWAYS_AWAKE, "Europe/Berlin")
    assert awake.awake_seconds_between(start, end) == hours * 3600
    asleep = Schedule(ALWAYS_ASLEEP, "Europe/Berlin")
    assert [segment.seconds for segment in asleep.segments_between(start, end)] == [hours * 3600]


def test_a_cell_that_the_clock_skips_does_not_happen():
    schedule = Schedule(
        ALWAYS_ASLEEP.paint([6], 120, 180, awake=True), "Europe/Berlin", prewarm=COLD
    )  # Sun 02:00-03:00
    assert schedule.awake_seconds_between(berlin(23, month=3), berlin(24, month=3)) == 3600
    assert schedule.awake_seconds_between(berlin(30, month=3), berlin(31, month=3)) == 0
    assert schedule.transitions_between(berlin(30, month=3), berlin(31, month=3)) == []


def test_a_cell_that_the_clock_repeats_happens_twice_in_one_stretch():
    schedule = Schedule(ALWAYS_ASLEEP.paint([6], 120, 180, awake=True), "Europe/Berlin", prewarm=COLD)
    assert schedule.awake_seconds_between(berlin(26, month=10), berlin(27, month=10)) == 7200
    edges = [change.at for change in schedule.transitions_between(berlin(26, month=10), berlin(27, month=10))]
    assert edges == [datetime(2025, 10, 26, 0, tzinfo=UTC), datetime(2025, 10, 26, 2, tzinfo=UTC)]


def test_half_an_hour_of_summer_time():
    lord_howe = Schedule(ALWAYS_AWAKE, "Australia/Lord_Howe")
    zone = ZoneInfo("Australia/Lord_Howe")
    autumn = (datetime(2025, 4, 6, tzinfo=zone), datetime(2025, 4, 7, tzinfo=zone))
    spring = (datetime(2025, 10, 5, tzinfo=zone), datetime(2025, 10, 6, tzinfo=zone))
    assert lord_howe.awake_seconds_between(*autumn) == 24.5 * 3600
    assert lord_howe.awake_seconds_between(*spring) == 23.5 * 3600


def test_zones_of_quarter_hours():
    schedule = Schedule(WEEKDAYS, "Asia/Kathmandu", prewarm=COLD)
    change = schedule.next_transitions(datetime(2025, 11, 3, 0, 0, tzinfo=UTC))[0]
    assert (change.at, change.power) == (datetime(2025, 11, 3, 2, 15, tzinfo=UTC), Power.AWAKE)


def test_a_date_that_a_zone_skipped_has_no_hours():
    schedule = Schedule(ALWAYS_ASLEEP.paint([4], 0, 1440, awake=True), "Pacific/Apia", prewarm=COLD)  # Fridays
    zone = ZoneInfo("Pacific/Apia")
    assert schedule.awake_seconds_between(datetime(2011, 12, 27, tzinfo=zone), datetime(2012, 1, 3, tzinfo=zone)) == 0
    assert (
        schedule.awake_seconds_between(datetime(2011, 12, 20, tzinfo=zone), datetime(2011, 12, 27, tzinfo=zone))
        == 86_400
    )


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("America/Sao_Paulo", date(2018, 11, 4)),
        ("Asia/Beirut", date(2022, 3, 27)),
        ("America/Havana", date(2025, 3, 9)),
    ],
)
def test_a_day_that_begins_after_a_gap_at_midnight(zone, day):
    info = ZoneInfo(zone)
    start = datetime(day.year, day.month, day.day, tzinfo=info)
    sprint = Schedule(ALWAYS_ASLEEP, zone, Calendar.of({day: DayRule(DayKind.SPRINT)}), prewarm=COLD)
    changes = sprint.transitions_between(start - timedelta(days=1), start + timedelta(days=2))
    assert [f"{change.at.astimezone(info):%d %H:%M} {change.power}" for change in changes] == [
        f"{day.day:02d} 01:00 awake",
        f"{day.day + 1:02d} 00:00 asleep",
    ]
    assert (changes[1].at - changes[0].at) == timedelta(hours=23)


# --- Orders -----------------------------------------------------------------------------------------------------------


def order(action: str, start: datetime, hours: float, actor: str = "Ann", **more: object) -> Override:
    return Override(Action(action), start, start + timedelta(hours=hours), actor, **more)


SATURDAY = berlin(15, 2)  # asleep in WEEKDAYS


def state_with(*overrides: Override, at: datetime, snoozes: tuple[Snooze, ...] = ()) -> Power:
    return Schedule(WEEKDAYS, "Europe/Berlin", overrides=overrides, snoozes=snoozes, prewarm=COLD).desired_at(at).power


def test_a_manual_wake_holds_to_its_expiry_and_not_longer():
    wake = order("wake", SATURDAY, 4)
    assert state_with(wake, at=SATURDAY - timedelta(seconds=1)) is Power.ASLEEP
    assert state_with(wake, at=SATURDAY) is Power.AWAKE
    assert state_with(wake, at=SATURDAY + timedelta(hours=4, seconds=-1)) is Power.AWAKE
    assert state_with(wake, at=SATURDAY + timedelta(hours=4)) is Power.ASLEEP


def test_a_persons_wake_gives_way_to_no_rule_but_to_a_newer_person():
    wake = order("wake", SATURDAY, 4)
    rule = order("sleep", SATURDAY + timedelta(hours=1), 2, "Budget guard", by_person=False)
    person = order("sleep", SATURDAY + timedelta(hours=1), 2, "Bob")
    between = SATURDAY + timedelta(hours=2)
    assert state_with(wake, rule, at=between) is Power.AWAKE
    assert state_with(rule, wake, at=between) is Power.AWAKE
    assert state_with(wake, person, at=between) is Power.ASLEEP
    assert state_with(wake, person, at=SATURDAY + timedelta(hours=3.5)) is Power.AWAKE


def test_newest_is_by_when_it_was_made_then_by_place():
    planned = order("sleep", SATURDAY + timedelta(hours=1), 4, made_at=SATURDAY - timedelta(days=2))
    wake = order("wake", SATURDAY, 4)
    assert state_with(planned, wake, at=SATURDAY + timedelta(hours=2)) is Power.AWAKE
    assert state_with(order("wake", SATURDAY, 4), order("sleep", SATURDAY, 4), at=SATURDAY) is Power.ASLEEP


def test_a_sleep_beats_a_sprint_day_and_a_wake_a_holiday():
    calendar = Calendar.of({date(2025, 11, 15): DayRule(DayKind.SPRINT), FRIDAY: DayRule(DayKind.HOLIDAY)})
    schedule = Schedule(
        WEEKDAYS,
        "Europe/Berlin",
        calendar,
        (order("sleep", SATURDAY, 1), order("wake", berlin(14, 9), 1)),
        prewarm=COLD,
    )
    assert awake_runs(schedule, berlin(14), berlin(16)) == [
        "Fri 09:00 - Fri 10:00",
        "Sat 00:00 - Sat 02:00",
        "Sat 03:00 - Sun 00:00",
    ]


def test_a_snooze_puts_off_the_sleep():
    due = berlin(13, 20)
    snooze = Snooze(due, due + timedelta(hours=2), "Ann", made_at=due - timedelta(minutes=20))
    schedule = Schedule(WEEKDAYS, "Europe/Berlin", snoozes=(snooze,), prewarm=COLD)
    assert awake_runs(schedule, berlin(13), berlin(14)) == ["Thu 08:00 - Thu 22:00"]
    assert state_with(order("sleep", due - timedelta(minutes=5), 3, "Bob"), at=due, snoozes=(snooze,)) is Power.ASLEEP
    state = schedule.desired_at(due)
    assert (state.cause.kind, state.cause.text) == (CauseKind.SNOOZE, "Ann snoozed the sleep until 22:00")
    assert state.cause.until == due + timedelta(hours=2)


def test_fractions_of_a_second_never_cut_an_order_short():
    start = SATURDAY + timedelta(microseconds=300)
    wake = Override(Action.WAKE, start, start + timedelta(hours=1), "Ann")
    schedule = Schedule(WEEKDAYS, "Europe/Berlin", overrides=(wake,), prewarm=COLD)
    assert schedule.desired_at(start).power is Power.AWAKE
    assert schedule.desired_at(wake.expires - timedelta(microseconds=1)).power is Power.AWAKE


# --- Pre-warm ---------------------------------------------------------------------------------------------------------


def changes(schedule: Schedule, a: datetime, b: datetime) -> list[str]:
    return [
        f"{change.at.astimezone(BERLIN):%a %H:%M:%S} {change.power}" for change in schedule.transitions_between(a, b)
    ]


def test_it_warms_up_half_an_hour_before_by_default_then_as_long_as_was_learned():
    schedule = Schedule(WEEKDAYS, "Europe/Berlin")
    monday = (berlin(10), berlin(10, 12))
    assert changes(schedule, *monday) == ["Mon 07:30:00 warming", "Mon 08:00:00 awake"]
    assert changes(replace(schedule, prewarm=Prewarm(learned_seconds=247)), *monday) == [
        "Mon 07:55:53 warming",
        "Mon 08:00:00 awake",
    ]
    assert changes(replace(schedule, prewarm=COLD), *monday) == ["Mon 08:00:00 awake"]
    assert changes(replace(schedule, prewarm=Prewarm(learned_seconds=0)), *monday) == ["Mon 08:00:00 awake"]
    warming = schedule.desired_at(berlin(10, 7, 30))
    assert (warming.power, warming.on, warming.cause.kind) == (Power.WARMING, True, CauseKind.PREWARM)
    assert warming.cause.until == berlin(10, 8)


def test_it_warms_for_a_stretch_shorter_than_the_warm_up():
    grid = ALWAYS_ASLEEP.paint([0], 600, 630, awake=True)
    schedule = Schedule(grid, "Europe/Berlin", prewarm=Prewarm(learned_seconds=3600))
    assert changes(schedule, berlin(10), berlin(11)) == [
        "Mon 09:00:00 warming",
        "Mon 10:00:00 awake",
        "Mon 10:30:00 asleep",
    ]


def test_a_gap_no_longer_than_the_warm_up_is_not_slept_through():
    grid = ALWAYS_ASLEEP.paint([0], 480, 720, awake=True).paint([0], 750, 1080, awake=True)
    schedule = Schedule(grid, "Europe/Berlin")
    assert all(schedule.desired_at(berlin(10, 12, minute)).on for minute in range(60))
    assert schedule.awake_seconds_between(berlin(10), berlin(11)) == 10.5 * 3600
    assert schedule.awake_seconds_between(berlin(10), berlin(11), include_warming=False) == 9.5 * 3600


def test_it_never_warms_into_an_order_to_sleep():
    sleep = order("sleep", berlin(9, 12), 19.75)  # until Mon 07:45
    schedule = Schedule(WEEKDAYS, "Europe/Berlin", overrides=(sleep,))
    assert changes(schedule, berlin(10), berlin(10, 12)) == ["Mon 07:45:00 warming", "Mon 08:00:00 awake"]
    until_nine = Schedule(WEEKDAYS, "Europe/Berlin", overrides=(order("sleep", berlin(9, 12), 21),))
    assert changes(until_nine, berlin(10), berlin(10, 12)) == ["Mon 09:00:00 awake"]


def test_it_warms_once_after_a_sleep_order_in_the_middle_of_the_warm_up():
    sleep = order("sleep", berlin(10, 7, 35), 10 / 60)
    schedule = Schedule(WEEKDAYS, "Europe/Berlin", overrides=(sleep,))
    assert changes(schedule, berlin(10), berlin(10, 12)) == ["Mon 07:45:00 warming", "Mon 08:00:00 awake"]


def test_an_unforeseen_wake_has_no_warm_up_before_it_was_ordered():
    now = order("wake", SATURDAY, 1)
    planned = order("wake", SATURDAY, 1, made_at=SATURDAY - timedelta(days=1))
    late = order("wake", SATURDAY, 1, made_at=SATURDAY - timedelta(minutes=10))
    window = (SATURDAY - timedelta(hours=1), SATURDAY + timedelta(minutes=1))
    ahead = [changes(Schedule(WEEKDAYS, "Europe/Berlin", overrides=(wake,)), *window) for wake in (now, planned, late)]
    assert ahead == [
        ["Sat 02:00:00 awake"],
        ["Sat 01:30:00 warming", "Sat 02:00:00 awake"],
        ["Sat 01:50:00 warming", "Sat 02:00:00 awake"],
    ]


# --- Off, errors, ends ------------------------------------------------------------------------------------------------


def test_a_schedule_that_is_off_holds_no_opinion_but_orders_hold():
    off = Schedule(ALWAYS_ASLEEP, "Europe/Berlin", enabled=False, overrides=(order("sleep", SATURDAY, 1),))
    assert off.desired_at(SATURDAY - timedelta(hours=1)).cause.kind is CauseKind.OFF
    assert off.desired_at(SATURDAY).power is Power.ASLEEP
    assert changes(off, berlin(14), berlin(17)) == ["Sat 02:00:00 asleep", "Sat 03:00:00 awake"]


def test_changes_end_when_nothing_changes_any_more():
    assert Schedule(ALWAYS_AWAKE).next_transitions(SATURDAY, 5) == []
    far = Schedule(ALWAYS_AWAKE, calendar=Calendar.of({date(2031, 3, 4): DayRule(DayKind.HOLIDAY)}), prewarm=COLD)
    assert [change.at.isoformat() for change in far.next_transitions(SATURDAY, 5)] == [
        "2031-03-04T00:00:00+00:00",
        "2031-03-05T00:00:00+00:00",
    ]


@pytest.mark.parametrize("days", [1, 31, 32, 33, 40, 64, 70, 100])
def test_changes_are_found_behind_a_long_holiday(days):
    rules = {date(2025, 11, 10) + timedelta(n): DayRule(DayKind.HOLIDAY) for n in range(days)}
    schedule = Schedule(PRESETS["nights"].grid, "Europe/Berlin", Calendar.of(rules), prewarm=COLD)
    first = schedule.next_transitions(berlin(10, 12))[0]
    assert first.at == berlin(10, 8) + timedelta(days=days)  # days on the wall clock


def test_next_transitions_are_strictly_ahead_and_between_is_half_open():
    schedule = Schedule(WEEKDAYS, "Europe/Berlin", prewarm=COLD)
    eight = berlin(10, 8)
    assert schedule.next_transitions(eight)[0].at == berlin(10, 20)
    assert schedule.next_transitions(eight - timedelta(microseconds=1))[0].at == eight
    assert [change.at for change in schedule.transitions_between(eight, berlin(10, 20))] == [eight]
    assert schedule.transitions_between(eight + timedelta(microseconds=1), berlin(10, 20)) == []
    assert [
        change.at for change in schedule.transitions_between(eight, berlin(10, 20) + timedelta(microseconds=1))
    ] == [eight, berlin(10, 20)]
    assert schedule.transitions_between(berlin(11), berlin(10)) == []
    assert schedule.segments_between(berlin(11), berlin(11)) == []


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="needs a time zone"):
        Schedule(WEEKDAYS).desired_at(datetime(2025, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidSchedule, match="need a time zone"):
        Override(Action.WAKE, datetime(2025, 1, 1), SATURDAY)  # noqa: DTZ001


def test_an_order_must_end_after_it_starts():
    with pytest.raises(InvalidSchedule, match="end after"):
        Override(Action.WAKE, SATURDAY, SATURDAY)
    with pytest.raises(InvalidSchedule, match="end after"):
        Snooze(SATURDAY, SATURDAY - timedelta(1))


def test_an_unknown_zone_names_its_neighbours():
    with pytest.raises(InvalidSchedule, match="Did you mean Europe/Berlin"):
        Schedule(WEEKDAYS, "europe/berln")
    for name in ("", "../etc/passwd", "Europe", "CEST"):
        with pytest.raises(InvalidSchedule, match="not an IANA time zone"):
            Schedule(WEEKDAYS, name)


FULL = Schedule(
    NIGHTS,
    "Asia/Kolkata",
    Calendar.of(
        {
            FRIDAY: DayRule(DayKind.CUSTOM, "Release", ((600, 1500),)),
            date(2025, 12, 25): DayRule(DayKind.HOLIDAY, "Christmas", imported=True),
        }
    ),
    (
        order("wake", SATURDAY, 1, reason="hotfix", id="o1", made_at=SATURDAY - timedelta(1)),
        order("sleep", SATURDAY, 3, by_person=False),
    ),
    (Snooze(SATURDAY, SATURDAY + timedelta(hours=1), "Bob", SATURDAY - timedelta(minutes=3), "s1"),),
    Prewarm(learned_seconds=300),
    night_belongs_to_start_day=False,
    enabled=False,
)


def test_json_round_trip_of_everything():
    import json

    assert Schedule.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL
    assert Schedule.from_json({"grid": WEEKDAYS.to_json(), "zone": "UTC"}) == Schedule(WEEKDAYS)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("zone", None, "a grid and a zone"),
        ("zone", "Mars/Olympus", "Mars/Olympus"),
        ("overrides", {"a": 1}, "overrides is a list"),
        ("overrides", "x", "overrides is a list"),
        ("overrides", [3], "named fields"),
        ("overrides", [{"action": "nap"}], "wake or sleep"),
        ("overrides", [{"action": "wake", "start": "soon"}], "'soon' is not a time"),
        ("overrides", [{"action": "wake", "start": "2025-01-01T00:00"}], "needs an offset"),
        ("overrides", [{"action": "wake", "start": "0001-01-01T00:00+09:00"}], "out of range"),
        ("snoozes", [{"sleep_at": None}], "'None' is not a time|None is not a time"),
        ("prewarm", {"learned_seconds": -1}, "0 seconds to 4 hours"),
        ("prewarm", {"learned_seconds": "300"}, "whole number"),
        ("prewarm", {"learned_seconds": True}, "whole number"),
        ("prewarm", 7, "named fields"),
    ],
)
def test_json_that_means_nothing_says_what_is_wrong(part, value, words):
    with pytest.raises(InvalidSchedule, match=words):
        Schedule.from_json({**FULL.to_json(), part: value})


def test_outages_leave_no_stale_action():
    """The state after an outage is the state without it: nothing depends on what was seen before."""
    schedule = Schedule(WEEKDAYS, "Europe/Berlin")
    whole = [schedule.desired_at(berlin(10) + timedelta(minutes=n)).power for n in range(0, 7 * 1440, 10)]
    later = [schedule.desired_at(berlin(10) + timedelta(minutes=n)).power for n in reversed(range(0, 7 * 1440, 10))]
    assert whole == later[::-1]
    assert {Power.AWAKE, Power.ASLEEP, Power.WARMING} == set(whole)
