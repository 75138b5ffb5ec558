"""Properties that must hold for any schedule, zone and instant."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hibernation.schedule import (
    Action,
    Calendar,
    DayKind,
    DayRule,
    Grid,
    Override,
    Power,
    Prewarm,
    Schedule,
    Snooze,
    backtest,
    explain,
    preview,
    until_clock,
    until_monday,
    zone_names,
)
from hibernation.schedule.zones import load_zone

pytestmark = pytest.mark.unit
FIRST, LAST = datetime(1990, 1, 1), datetime(2100, 12, 31)  # noqa: DTZ001  hypothesis wants naive limits
CASES = settings(deadline=None, max_examples=200)

ZONES = st.sampled_from(sorted(zone_names()))
INSTANTS = st.datetimes(FIRST, LAST, timezones=st.just(UTC))


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    size = draw(st.sampled_from((24, 48)))
    row = st.one_of(
        st.text("01", min_size=size, max_size=size),
        st.sampled_from(("0" * size, "1" * size, "0" * (size - 6) + "1" * 6)),
    )
    return Grid(tuple(draw(st.lists(row, min_size=7, max_size=7))))


@st.composite
def day_rules(draw: st.DrawFn) -> DayRule:
    kind = draw(st.sampled_from(DayKind))
    if kind is not DayKind.CUSTOM:
        return DayRule(kind, draw(st.sampled_from(("", "Name"))), imported=draw(st.booleans()))
    spans = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, 1439))
        spans.append((start, draw(st.integers(start + 1, 2160))))
    return DayRule(kind, "", tuple(spans))


@st.composite
def schedules_at(draw: st.DrawFn) -> tuple[Schedule, datetime]:
    """A schedule whose dates and orders lie around the instant."""
    t = draw(INSTANTS)
    near = st.integers(-14 * 24 * 60, 21 * 24 * 60).map(
        lambda minutes: t + timedelta(minutes=minutes, seconds=minutes % 60)
    )
    days = st.integers(-10, 20).map(lambda n: date.fromordinal(t.toordinal() + n))
    rules = draw(st.dictionaries(days, day_rules(), max_size=6))
    overrides = []
    for _ in range(draw(st.integers(0, 4))):
        start = draw(near)
        end = start + timedelta(minutes=draw(st.integers(1, 6000)))
        made = draw(
            st.none() | st.integers(0, 3000).map(lambda minutes, start=start: start - timedelta(minutes=minutes))
        )
        overrides.append(
            Override(draw(st.sampled_from(Action)), start, end, "Ann", "why", draw(st.booleans()), made, "id")
        )
    snoozes = []
    for _ in range(draw(st.integers(0, 2))):
        due = draw(near)
        snoozes.append(Snooze(due, due + timedelta(minutes=draw(st.integers(1, 300))), "Bob"))
    learned = draw(st.none() | st.integers(0, 4 * 3600))
    prewarm = Prewarm(draw(st.booleans()), learned)
    flags = draw(st.booleans()), draw(st.sampled_from((True, True, True, False)))
    return Schedule(
        draw(grids()), draw(ZONES), Calendar.of(rules), tuple(overrides), tuple(snoozes), prewarm, *flags
    ), t


@CASES
@given(schedules_at())
def test_desired_at_agrees_with_the_line_at_every_edge_and_between(case):
    schedule, t = case
    for segment in schedule.segments_between(t, t + timedelta(days=9)):
        middle = segment.start + (segment.end - segment.start) / 2
        for instant in (segment.start, middle, segment.end - timedelta(microseconds=1)):
            assert schedule.desired_at(max(instant, t)).power is segment.power


@CASES
@given(schedules_at(), st.integers(1, 12))
def test_next_transitions_are_all_changes_and_only_changes(case, n):
    schedule, t = case
    ahead = schedule.next_transitions(t, n)
    moments = [t, *(change.at for change in ahead)]
    assert moments == sorted(set(moments))
    power = schedule.desired_at(t).power
    for change in ahead:
        assert change.before is power
        power = change.power
        assert change.before is not power
        assert schedule.desired_at(change.at) == change.state
        assert schedule.desired_at(change.at - timedelta(microseconds=1)).power is change.before
    if ahead:
        between = schedule.transitions_between(t + timedelta(seconds=1), ahead[-1].at + timedelta(seconds=1))
        assert between == [change for change in ahead if change.at >= t + timedelta(seconds=1)]
    if len(ahead) == n:
        assert schedule.next_transitions(t, n + 3)[:n] == ahead
    else:
        last = ahead[-1].at if ahead else t
        assert [segment.power for segment in schedule.segments_between(last, last + timedelta(days=60))] == [power]


@CASES
@given(schedules_at(), st.lists(st.integers(0, 40 * 86_400), min_size=3, max_size=3))
def test_awake_seconds_add_up(case, offsets):
    schedule, t = case
    a, b, c = (t + timedelta(seconds=offset) for offset in sorted(offsets))
    for warm in (True, False):
        parts = [schedule.awake_seconds_between(x, y, include_warming=warm) for x, y in ((a, b), (b, c), (a, c))]
        assert parts[0] + parts[1] == parts[2]
        assert 0 <= parts[2] <= (c - a).total_seconds()
    asleep = sum(segment.seconds for segment in schedule.segments_between(a, c) if segment.power is Power.ASLEEP)
    assert asleep + schedule.awake_seconds_between(a, c) == round((c - a).total_seconds())
    assert backtest(schedule, a, c).would_sleep_seconds == asleep


@CASES
@given(schedules_at())
def test_json_round_trip(case):
    schedule, t = case
    again = Schedule.from_json(json.loads(json.dumps(schedule.to_json())))
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert again.desired_at(t) == schedule.desired_at(t)


@CASES
@given(schedules_at(), ZONES)
def test_nothing_ever_raises_and_every_sentence_ends(case, viewer):
    schedule, t = case
    sentence = explain(schedule, t)
    assert sentence.endswith(".")
    assert ";" in sentence or sentence.startswith(("Warming up for", "Not managed"))
    rows = preview(schedule, t, 14, viewer)
    assert rows[0].start == t.replace(microsecond=0)
    assert all(before.end == after.start for before, after in pairwise(rows))
    assert (
        sum(row.day_seconds for row in rows)
        == (rows[-1].end.astimezone(UTC) - t.replace(microsecond=0)).total_seconds()
    )


@CASES
@given(schedules_at())
def test_a_persons_wake_is_never_cut_by_a_rule(case):
    schedule, t = case
    rules = tuple(override for override in schedule.overrides if not override.by_person)
    person = Override(Action.WAKE, t, t + timedelta(hours=4), "Ann")
    held = Schedule(
        schedule.grid,
        schedule.zone,
        schedule.calendar,
        (*rules, person),
        (),
        schedule.prewarm,
        enabled=schedule.enabled,
    )
    assert held.awake_seconds_between(t, t + timedelta(hours=4), include_warming=False) == 4 * 3600


@CASES
@given(ZONES, INSTANTS, st.integers(0, 1440))
def test_expiries_lie_ahead_and_show_the_wall_time_asked_for(zone, t, minute):
    monday = until_monday(zone, t)
    assert timedelta(0) < monday - t <= timedelta(days=8, hours=25)
    assert monday.astimezone(load_zone(zone)).weekday() == 0 or zone in {"Pacific/Kwajalein", "Kwajalein"}
    at = until_clock(zone, t, minute)
    assert timedelta(0) < at - t <= timedelta(days=2, hours=3)
    shown = at.astimezone(load_zone(zone))
    just_before = (at - timedelta(minutes=1)).astimezone(load_zone(zone))
    jumped = shown.utcoffset() != just_before.utcoffset()
    assert shown.hour * 60 + shown.minute == minute % 1440 or jumped
