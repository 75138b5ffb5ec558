"""An organization with one of everything."""

from __future__ import annotations

from typing import Any

import pytest

from tests.access import matrix
from tests.access.matrix import World
from tests.personas import Persona


@pytest.fixture
def world(alice: Persona, bob: Persona, olga: Persona, mallory: Persona, settings: Any) -> World:
    settings.CURFEW_PLATFORM_AWS_ACCOUNT = "999988887777"
    made = World(alice, bob, olga, mallory)
    for build in matrix.builders():
        build(made)
    return made
