"""What placement registers when the app is ready."""

from __future__ import annotations

from core import periodic
from operations import registry
from policies.placement import executor, tasks  # noqa: F401  Celery finds its task by the import


def register() -> None:
    """The operation, and the minute's sweep."""
    registry.register(executor.PlacementSync())
    periodic.register("policies.keep_placement", 60)
