"""The fuzz campaign in short: one or two cases of each operation in each mode; no server error, no leak."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from tests import stack
from tests.access import matrix
from tests.access.matrix import World
from tests.campaigns import api_fuzz
from tests.personas import Persona


@pytest.mark.django_db
def test_no_operation_breaks_or_tells(
    alice: Persona, bob: Persona, olga: Persona, mallory: Persona, settings: Any
) -> None:
    if connection.vendor == "sqlite" and not stack.missing():
        pytest.skip("PostgreSQL refuses more, so it is asked instead")
    settings.CURFEW_PLATFORM_AWS_ACCOUNT = "999988887777"
    world = World(alice, bob, olga, mallory)
    for build in matrix.builders():
        build(world)
    fuzz = api_fuzz.campaign(world, examples=2, seed=11)
    assert fuzz.statuses.total() > 300
    assert fuzz.findings == {}
