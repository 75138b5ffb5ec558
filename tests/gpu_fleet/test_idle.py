"""Idle only when every signal says so for long enough; unknown is busy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.machine import signals
from agent.machine.guard import Guard
from bench.gpu_idle import run
from gpu_fleet.idle import Rule, Sample, Word, judge

START = datetime(2031, 1, 1, tzinfo=UTC)
QUIET = Sample(START, 30.0, (0.0, 1.0), 2.0, 0.0, 500.0, 0, 0, 0)


def beats(count: int, every: float = 30.0) -> list[Sample]:
    return [replace(QUIET, at=START + timedelta(seconds=every * (n + 1)), seconds=every) for n in range(count)]


def word(samples: list[Sample], **facts: object) -> Word:
    return judge(samples, samples[-1].at, Rule(), **facts).word  # type: ignore[arg-type]


def test_three_quiet_minutes_are_idle_and_less_is_not() -> None:
    assert word(beats(5)) is Word.COUNTING
    assert word(beats(6)) is Word.IDLE
    found = judge(beats(3), START + timedelta(seconds=90), Rule())
    assert (found.idle_since, found.sleep_at) == (START, START + timedelta(minutes=3))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"gpus": None}, Word.UNKNOWN),
        ({"gpus": (0.0, None)}, Word.UNKNOWN),
        ({"gpus": (0.0, 80.0)}, Word.BUSY),
        ({"cpu": None}, Word.UNKNOWN),
        ({"cpu": 90.0}, Word.BUSY),
        ({"disk": 5e6}, Word.BUSY),
        ({"net": 5e6}, Word.BUSY),
        ({"net": 5e6, "absent": frozenset({"net"})}, Word.IDLE),
        ({"ssh": 1}, Word.BUSY),
        ({"ssh": None}, Word.UNKNOWN),
        ({"kernels": 2}, Word.BUSY),
        ({"kernels": None}, Word.UNKNOWN),
        ({"jobs": 1}, Word.BUSY),
        ({"gpus": None, "absent": frozenset({"gpus"})}, Word.IDLE),
    ],
)
def test_one_signal_is_enough_to_stay_awake(change: dict, expected: Word) -> None:
    rows = beats(10)
    assert word([*rows[:-1], replace(rows[-1], **change)]) is expected
    if expected is not Word.IDLE:  # also in the middle of the stretch
        assert word([*rows[:6], replace(rows[6], **change), *rows[7:]]) is Word.COUNTING


def test_gaps_silence_waking_and_a_person_keep_it_awake() -> None:
    rows = beats(20)
    assert word([*rows[:10], *rows[16:]]) is Word.COUNTING
    assert judge(rows, rows[-1].at + timedelta(seconds=80), Rule()).word is Word.UNKNOWN
    assert word(rows, since=rows[-1].at - timedelta(seconds=30)) is Word.COUNTING
    assert word(rows, kept_until=rows[-1].at + timedelta(minutes=5)) is Word.KEPT
    assert judge([], START, Rule()).word is Word.UNKNOWN


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(st.sampled_from(["quiet", "busy", "unknown", "lost"]), st.floats(5, 60)), min_size=1, max_size=40
    )
)
def test_idle_is_never_said_over_anything_but_quiet(story: list[tuple[str, float]]) -> None:
    now, rows, history = START, [], []
    for kind, seconds in story:
        now += timedelta(seconds=seconds)
        history.append((now, seconds, kind))
        if kind != "lost":
            change = {"quiet": {}, "busy": {"gpus": (0.0, 99.0)}, "unknown": {"cpu": None}}[kind]
            rows.append(replace(QUIET, at=now, seconds=seconds, **change))
    if rows and judge(rows, now, Rule()).word is Word.IDLE:
        window = [kind for at, _, kind in history if at > now - timedelta(minutes=3)]
        assert set(window) <= {"quiet", "lost"}


def test_labelled_traces_short_form() -> None:
    found = run(48, 7)
    assert found["curfew"]["busy_stopped"] == 0
    assert found["curfew"]["idle_share"] >= 0.99
    assert all(told["busy_stopped"] > 0 for name, told in found.items() if name != "curfew")


def test_the_highest_load_is_kept_and_unknown_wins() -> None:
    assert signals.highest([1.0, 50.0], [30.0, 2.0]) == [30.0, 50.0]
    assert signals.highest([1.0, None], [30.0, 2.0]) == [30.0, None]
    assert signals.highest([1.0], None) is None
    assert signals.highest([1.0], [1.0, 2.0]) is None


def test_the_dead_man_switch_needs_silence_a_safe_copy_and_an_idle_machine() -> None:
    quiet = {"gpus": [0.0], "cpu": 1.0, "ssh": 0, "kernels": 0, "absent": []}
    guard = Guard(heard_at=0.0, busy_at=0.0)
    guard.heard({"dead_man": {"silent_seconds": 100, "verified_seconds_ago": 0}}, 10.0)
    guard.saw(quiet, 50.0)
    assert [guard.must_stop(t) for t in (60.0, 111.0)] == [False, True]
    guard.saw({**quiet, "gpus": [90.0]}, 112.0)
    assert not guard.must_stop(300.0)  # work since the copy
    off = Guard(0.0, 0.0)
    off.heard({"dead_man": {"silent_seconds": 0, "verified_seconds_ago": 5}}, 1.0)
    assert not off.must_stop(1e6)
    never = Guard(0.0, 0.0)
    never.heard({"dead_man": {"silent_seconds": 10, "verified_seconds_ago": None}}, 1.0)
    assert not never.must_stop(1e6)
