"""Quiet hours against a walk through every minute, over zones whose clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from notifications.quiet import end_of_quiet, is_quiet, next_digest

ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])
# around the changes of spring and autumn 2026 on both sides of the equator
MOMENTS = st.sampled_from([(3, 8), (3, 29), (4, 5), (10, 4), (10, 25), (11, 1), (7, 14)]).flatmap(
    lambda day: st.integers(-26 * 60, 26 * 60).map(
        lambda minutes: datetime(2026, *day, tzinfo=UTC) + timedelta(minutes=minutes)
    )
)
TIMES = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))


@given(MOMENTS, TIMES, TIMES, ZONES)
@examples(max_examples=200)
def test_it_is_the_first_minute_that_is_not_quiet(now: datetime, start: time, end: time, zone: str) -> None:
    expected = now
    while is_quiet(expected, start, end, zone):
        expected += timedelta(minutes=1)
    assert end_of_quiet(now, start, end, zone) == expected


@pytest.mark.parametrize(
    ("now", "zone", "minutes", "due"),
    [
        ("2026-03-18T12:07:00", "UTC", 15, "2026-03-18T12:15:00"),
        ("2026-03-18T12:00:00", "UTC", 60, "2026-03-18T13:00:00"),
        ("2026-03-18T06:59:00", "Europe/Berlin", 1440, "2026-03-18T07:00:00"),
        ("2026-03-28T12:00:00", "Europe/Berlin", 1440, "2026-03-29T06:00:00"),  # the night that loses an hour
        ("2026-10-24T12:00:00", "America/New_York", 1440, "2026-10-25T12:00:00"),
    ],
)
def test_digests_go_out_at_full_steps_and_in_the_morning(now: str, zone: str, minutes: int, due: str) -> None:
    assert next_digest(datetime.fromisoformat(now + "+00:00"), minutes, zone) == datetime.fromisoformat(due + "+00:00")
