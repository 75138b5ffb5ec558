"""Disruption budgets of nodes: counted as Karpenter counts them, read in the organization's zone, closed when unreadable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.engine.budgets import NodeBudget, allowance
from policies.enums import Reason

pytestmark = pytest.mark.unit
NEW_YORK = "America/New_York"
NIGHT = NodeBudget("0", "0 9 * * mon-fri", timedelta(hours=8))  # nothing during working hours


def at(*when: int, zone: str = NEW_YORK) -> datetime:
    return datetime(*when, tzinfo=ZoneInfo(zone)).astimezone(UTC)


@pytest.mark.parametrize(("nodes", "total", "allowed"), [("10%", 100, 10), ("10%", 11, 2), ("3", 100, 3), ("0", 9, 0)])
def test_percentages_are_rounded_up(nodes, total, allowed):
    assert allowance([NodeBudget(nodes)], at(2026, 11, 28, 12), NEW_YORK, total=total).nodes == allowed


def test_nodes_that_leave_or_are_not_ready_use_it_up_and_the_strictest_counts():
    budgets = [NodeBudget("50%"), NodeBudget("5")]
    assert allowance(budgets, at(2026, 11, 28), NEW_YORK, total=100, leaving=2, not_ready=1).nodes == 2
    assert allowance(budgets, at(2026, 11, 28), NEW_YORK, total=100, leaving=9).nodes == 0


@pytest.mark.parametrize(
    ("when", "allowed"),
    [
        (at(2026, 11, 27, 8, 59), 100),
        (at(2026, 11, 27, 9, 0), 0),
        (at(2026, 11, 27, 16, 59), 0),
        (at(2026, 11, 27, 17, 0), 100),
        (at(2026, 11, 28, 12, 0), 100),  # a Saturday
        (at(2026, 7, 3, 9, 0), 0),  # summer time: still nine on the wall
    ],
)
def test_a_schedule_is_read_on_the_wall_clock_of_the_zone(when, allowed):
    assert allowance([NIGHT], when, NEW_YORK, total=100).nodes == allowed


def test_a_window_over_a_change_of_the_clock_has_its_whole_length():
    window = NodeBudget("0", "30 0 * * *", timedelta(hours=3))
    assert allowance([window], at(2026, 3, 8, 4, 29), NEW_YORK, total=9).nodes == 0  # 2:00 became 3:00
    assert allowance([window], at(2026, 3, 8, 4, 31), NEW_YORK, total=9).nodes == 9


@pytest.mark.parametrize(
    "budget",
    [
        NodeBudget("10%", "61 * * * *", timedelta(hours=1)),
        NodeBudget("10%", "0 0 31 2 *", timedelta(hours=1)),
        NodeBudget("10%", "0 9 * * *"),
        NodeBudget("10%", "0 9 * * *", timedelta(0)),
        NodeBudget("10%", "", timedelta(hours=1)),
        NodeBudget("101%"),
        NodeBudget("-1"),
        NodeBudget("ten"),
        NodeBudget("٣"),
        NodeBudget(""),
    ],
)
def test_what_cannot_be_read_allows_nothing_and_says_so(budget):
    found = allowance([NodeBudget("100%"), budget], at(2026, 11, 28), NEW_YORK, total=100, reason=Reason.DRIFTED)
    assert found.nodes == 0
    assert found.unreadable


def test_an_unknown_zone_allows_nothing():
    assert allowance([NIGHT], at(2026, 11, 28, 12), "Mars/Olympus", total=100).unreadable


def test_a_budget_binds_only_the_reasons_that_it_names():
    budget = NodeBudget("0", reasons=frozenset({Reason.UNDERUTILIZED}))
    when = at(2026, 11, 28)
    assert allowance([budget], when, NEW_YORK, total=10, reason=Reason.EMPTY).nodes == 10
    assert allowance([budget], when, NEW_YORK, total=10, reason=Reason.UNDERUTILIZED).nodes == 0
    assert allowance([budget], when, NEW_YORK, total=10).nodes == 0


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=8), st.text(max_size=12), st.integers(-5, 10**9), st.text(max_size=6), st.integers(0, 2000))
def test_whatever_is_written_there_is_an_answer_within_bounds(nodes, schedule, minutes, zone, total):
    budget = NodeBudget(nodes, schedule, timedelta(minutes=minutes) if minutes else None)
    assert 0 <= allowance([budget], datetime(2026, 11, 28, tzinfo=UTC), zone, total=total).nodes <= total
