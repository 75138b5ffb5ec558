"""The short form of the campaign: three kills in each way of running. The long form is `python -m tests.campaigns.kill9`."""

from __future__ import annotations

import pytest

from tests import stack
from tests.campaigns import kill9

pytestmark = [pytest.mark.slow, pytest.mark.integration]


@pytest.mark.parametrize("mode", ["embedded", "scaled"])
def test_three_kills_at_random_moments_lose_and_repeat_nothing(mode: str) -> None:
    if mode == "scaled" and stack.missing():
        pytest.skip(f"not installed: {', '.join(stack.missing())}")
    summary = kill9.run(mode, kills=3, seed=20, lease=4 if mode == "scaled" else None, answer_seconds=0.7)
    assert summary["findings"] == []
    assert sum(summary["killed"].values()) == 3
    assert summary["operations"], "nothing was ordered, so nothing was tried"
    assert summary["audit_entries"] > 3
