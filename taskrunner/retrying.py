"""What becomes of a task when an attempt has ended. Pure."""

from __future__ import annotations

import random
from collections.abc import Collection

FIRST_SECONDS = 10.0
MOST_SECONDS = 360.0


def tries_again(*, exit_class: str, attempt: int, retries: int, retry_on: Collection[str]) -> bool:
    """Whether another attempt follows attempt number `attempt` (from 1)."""
    return exit_class in retry_on and attempt <= retries


def pause(attempt: int, chance: random.Random | None = None) -> float:
    """Seconds before the next attempt: 10, 20, 40 … at most 360, each give or take a tenth."""
    plain = min(MOST_SECONDS, FIRST_SECONDS * 2 ** max(0, min(attempt - 1, 16)))
    return plain * (chance or random).uniform(0.9, 1.1)
