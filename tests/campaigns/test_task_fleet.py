"""The short form of the campaign. The long form is `python -m tests.campaigns.task_fleet` on PostgreSQL and Redis."""

from __future__ import annotations

import pytest
from django.db import connections

from taskrunner import waiting
from tests.campaigns import task_fleet


@pytest.mark.pg
@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.django_db(transaction=True)
def test_a_small_fleet_loses_and_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    summary = task_fleet.run(tasks=240, agents=10, organizations=2, seed=7, share=0.02)
    waiting._pool.submit(connections.close_all).result()
    assert summary["findings"] == []
    for what in (
        "machines_killed",
        "agents_killed",
        "partitions",
        "answers_lost",
        "leases_taken_back",
        "stale_refused",
    ):
        assert summary[what], f"{what}: never happened, so nothing was tried"
