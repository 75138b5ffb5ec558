"""The short form of the ledger's campaign."""

from __future__ import annotations

from tests.campaigns import ledger_histories


def test_four_hundred_lives_cost_what_the_judge_says() -> None:
    found = ledger_histories.run(400, seed=20260318)
    assert found["first_wrong"] == []
    assert found["dollars"] > 1000
