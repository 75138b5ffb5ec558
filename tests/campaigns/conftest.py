"""A live server and its cloud for each file of trials; no secret may be left anywhere after any of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.campaigns.trial import Trial
from tests.live.cloud import WatchedCloud
from tests.live.server import Embedded


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    with WatchedCloud(transition_seconds=0.5) as cloud, Embedded(cloud) as curfew:
        yield Trial(curfew, cloud)


@pytest.fixture
def clean(trial: Trial) -> Iterator[None]:
    """A cloud without faults before, no secret left and a living server after."""
    trial.cloud.heal()
    yield
    trial.cloud.heal()
    trial.no_secret_left()
    assert trial.curfew.answers()
