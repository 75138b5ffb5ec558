"""The hours of a day against the one arithmetic, `sum_intervals`, hour by hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs import ledger, reporting, selectors

pytestmark = pytest.mark.unit
DAYS = [
    ("Europe/Berlin", 2031, 3, 30, 23),
    ("Europe/Berlin", 2031, 6, 12, 24),
    ("Europe/Berlin", 2031, 10, 26, 25),
    ("Australia/Lord_Howe", 2031, 10, 5, 24),  # 23.5 hours
]
prices = st.none() | st.decimals(0, 40, places=4)
minutes = st.integers(-2000, 2000)


@st.composite
def intervals(draw: st.DrawFn) -> SimpleNamespace:
    begin, lasts = draw(minutes), draw(st.none() | st.integers(0, 3000))
    return SimpleNamespace(
        begin=begin, lasts=lasts, phase=draw(st.sampled_from(["awake", "asleep"])), price=draw(prices),
        awake_price=draw(prices), cause="", resource_id=draw(st.integers(1, 3)),
    )  # fmt: skip


@given(st.sampled_from(DAYS), st.lists(intervals(), max_size=8), minutes)
def test_each_hour_is_the_sum_of_its_intervals(
    day: tuple[str, int, int, int, int], drawn: list[SimpleNamespace], minute: int
) -> None:
    name, year, month, number, count = day
    start, end = selectors.day_bounds(name, datetime(year, month, number, 12, tzinfo=ZoneInfo(name)))
    now = start + timedelta(minutes=minute + 700, seconds=7)
    for row in drawn:
        row.started_at = min(start + timedelta(minutes=row.begin), now)
        row.ended_at = None if row.lasts is None else min(row.started_at + timedelta(minutes=row.lasts), now)
    hours = reporting.hours_of_day(drawn, start, end, now)
    assert len(hours) == count
    assert (hours[0].start, sum((h.spent for h in hours), Decimal(0)).quantize(Decimal("1e-12"))) == (
        start,
        selectors.sum_intervals(drawn, start, min(end, max(start, now))).spent.quantize(Decimal("1e-12")),
    )
    for hour in hours:
        right = min(hour.start + timedelta(hours=1), end)
        past = selectors.sum_intervals(drawn, hour.start, min(right, max(hour.start, now)))
        open_now = [row for row in drawn if row.ended_at is None]
        planned = sum((ledger.amount(row.price, max(hour.start, now), right) for row in open_now), Decimal(0))
        assert abs(hour.spent - past.spent) < Decimal("1e-15")
        assert abs(hour.kept - past.saved) < Decimal("1e-15")
        assert abs(hour.planned - planned) < Decimal("1e-15")
